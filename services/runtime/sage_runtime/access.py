"""Which scope a method needs, as the contracts say it."""

from collections.abc import Iterable

from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import MethodOptions

_HEALTH = "/grpc.health.v1.Health/"
_REFLECTION = "/grpc.reflection."


def is_open(method: str) -> bool:
    """Say whether a method needs no token: probes have none, and health tells nothing worth one."""
    return method.startswith(_HEALTH)


class ReadMethods:
    """The methods of some services that change nothing: those with `idempotency_level = NO_SIDE_EFFECTS`.

    Args:
        service_names: Full names of the services; one whose contract is not known here has none.
    """

    def __init__(self, service_names: Iterable[str]) -> None:
        self._methods = frozenset(method for name in service_names for method in _reads_of(name))

    def __contains__(self, method: str) -> bool:
        """Say whether `/package.Service/Method` is one. What is not known is not."""
        return method in self._methods or method.startswith(_REFLECTION)


def _reads_of(service_name: str) -> Iterable[str]:
    try:
        service = descriptor_pool.Default().FindServiceByName(service_name)
    except KeyError:
        return
    for method in service.methods:
        if method.GetOptions().idempotency_level == MethodOptions.NO_SIDE_EFFECTS:
            yield f"/{service.full_name}/{method.name}"
