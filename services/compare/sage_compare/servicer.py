"""The gRPC face of the comparison."""

import asyncio

import grpc
from sage.compare.v1 import compare_pb2, compare_pb2_grpc

from sage_compare import convert
from sage_compare.compare import Comparer

SERVICE_NAME = compare_pb2.DESCRIPTOR.services_by_name["CompareService"].full_name

_Context = grpc.aio.ServicerContext[compare_pb2.CompareEmbeddingsRequest, compare_pb2.CompareEmbeddingsResponse]


class CompareServicer(compare_pb2_grpc.CompareServiceServicer):
    """Serves `sage.compare.v1.CompareService`."""

    def __init__(self, comparer: Comparer) -> None:
        self._comparer = comparer

    async def CompareEmbeddings(
        self, request: compare_pb2.CompareEmbeddingsRequest, context: _Context
    ) -> compare_pb2.CompareEmbeddingsResponse:
        """Compare two embeddings."""
        comparison = await self._comparer.compare(convert.to_request(request))
        # A message of a long film that differs everywhere takes longer to build than the event loop should wait.
        return await asyncio.to_thread(convert.to_response, comparison)
