"""A collector of OpenTelemetry traces."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc


class TraceCollector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps every trace that it receives.

    Attributes:
        received: What came, as it came.
        endpoint: The address on which it receives traces.
    """

    def __init__(self) -> None:
        self.received: list[trace_service_pb2.ExportTraceServiceRequest] = []
        self.endpoint = ""

    async def Export(
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: grpc.aio.ServicerContext
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        """Keep some traces."""
        self.received.append(request)
        return trace_service_pb2.ExportTraceServiceResponse()

    def span_names(self) -> set[str]:
        """Return the names of the spans that arrived."""
        return {
            span.name
            for request in self.received
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        }

    @asynccontextmanager
    async def running(self) -> AsyncIterator["TraceCollector"]:
        """Receive traces for the length of the block."""
        server = grpc.aio.server()
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, server)
        self.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        try:
            yield self
        finally:
            await server.stop(None)
