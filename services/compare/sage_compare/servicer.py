"""The RPCs of `sage.compare.v1.CompareService`."""

import asyncio

import grpc
from sage.compare.v1 import compare_pb2, compare_pb2_grpc

from sage_compare import convert
from sage_compare.comparer import Comparer

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
        # Building the message for a long film with differences throughout would block the event loop for too long.
        return await asyncio.to_thread(convert.to_response, comparison)
