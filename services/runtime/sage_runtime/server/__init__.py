"""The gRPC server that every service runs."""

from sage_runtime.auth.sign_in import ListenError, StartError
from sage_runtime.server.server import RunningServer, ServiceRegistration, running_server, serve

__all__ = ["ListenError", "RunningServer", "ServiceRegistration", "StartError", "running_server", "serve"]
