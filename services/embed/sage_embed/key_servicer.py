"""The gRPC face of the provider's key."""

from typing import Any

import grpc
from sage.embed.v1 import api_key_pb2, api_key_pb2_grpc

from sage_embed import api_keys, convert
from sage_embed.current_key import CurrentKey
from sage_embed.ports import KeyChecker, KeyVault

SERVICE_NAME = api_key_pb2.DESCRIPTOR.services_by_name["ApiKeyService"].full_name

_Context = grpc.aio.ServicerContext[Any, Any]


class ApiKeyServicer(api_key_pb2_grpc.ApiKeyServiceServicer):
    """Serves `sage.embed.v1.ApiKeyService`.

    Args:
        vault: Where the key is kept.
        checker: Who says whether it is valid.
        current: Told when it changes.
    """

    def __init__(self, *, vault: KeyVault, checker: KeyChecker, current: CurrentKey) -> None:
        self._vault = vault
        self._checker = checker
        self._current = current

    async def SetApiKey(
        self, request: api_key_pb2.SetApiKeyRequest, context: _Context
    ) -> api_key_pb2.SetApiKeyResponse:
        """Check a key, and store it unless it was to be checked only."""
        act = api_keys.check_key if request.validate_only else api_keys.set_key
        key = await act(request.key, vault=self._vault, checker=self._checker, current=self._current)
        return api_key_pb2.SetApiKeyResponse(api_key=convert.from_key(key))

    async def GetApiKey(
        self, request: api_key_pb2.GetApiKeyRequest, context: _Context
    ) -> api_key_pb2.GetApiKeyResponse:
        """Answer what is known of the key."""
        key = await api_keys.describe_key(vault=self._vault, current=self._current)
        return api_key_pb2.GetApiKeyResponse(api_key=convert.from_key(key))

    async def DeleteApiKey(
        self, request: api_key_pb2.DeleteApiKeyRequest, context: _Context
    ) -> api_key_pb2.DeleteApiKeyResponse:
        """Delete the key."""
        await api_keys.delete_key(vault=self._vault, current=self._current)
        return api_key_pb2.DeleteApiKeyResponse()
