"""An object in the store as bytes that can be read anywhere."""

from sage_ingest.ports import VideoObjects


class StoredObject:
    """A `ByteSource` over an object.

    Args:
        objects: The store.
        key: The object.
        size_bytes: Its size.
    """

    def __init__(self, objects: VideoObjects, *, key: str, size_bytes: int) -> None:
        self._objects = objects
        self._key = key
        self._size_bytes = size_bytes

    @property
    def size_bytes(self) -> int:
        """How many bytes it has."""
        return self._size_bytes

    async def read(self, *, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from `offset`; fewer at the end."""
        length = min(length, self._size_bytes - offset)
        if length <= 0:
            return b""
        return await self._objects.read(self._key, offset=offset, length=length)
