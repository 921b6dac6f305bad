"""Gathering a stream of chunks into the parts of a multipart upload."""

from collections.abc import Iterator

from sage_ingest.errors import size_mismatch

MIB = 1024 * 1024
# Source: "Amazon S3 multipart upload limits", Amazon S3 User Guide.
MIN_PART_BYTES = 5 * MIB
MAX_PART_BYTES = 5 * 1024 * MIB
MAX_PARTS = 10_000


def part_size(total_bytes: int, *, default_bytes: int) -> int:
    """Return how large the parts of a file are: the default, or as many whole MiB as 10,000 parts need."""
    if total_bytes <= default_bytes * MAX_PARTS:
        return default_bytes
    return -(-total_bytes // (MAX_PARTS * MIB)) * MIB


class PartBuffers:
    """Buffers of the usual part size, used again and again.

    Buffers that come and go among gRPC's messages fragment the heap: with four uploads at once it grew half as large
    again.

    Args:
        part_bytes: The usual part size. Buffers of other sizes are made and dropped.
        kept: How many unused ones are kept at the most.
    """

    def __init__(self, *, part_bytes: int, kept: int) -> None:
        self._part_bytes = part_bytes
        self._kept = kept
        self._unused: list[bytearray] = []

    def take(self, size: int) -> bytearray:
        """Return a buffer of this size; what is in it is not defined."""
        if size == self._part_bytes and self._unused:
            return self._unused.pop()
        return bytearray(size)

    def give_back(self, buffer: bytearray) -> None:
        """Let others use a buffer, which the caller must not touch any more."""
        if len(buffer) == self._part_bytes and len(self._unused) < self._kept:
            self._unused.append(buffer)


class PartGatherer:
    """Copies chunks of any size into parts of one size; the last part has the rest.

    S3 refuses parts under 5 MiB but for the last, so chunks cannot be sent on as they come. At any time it holds one
    part that is being filled; a part that is full belongs to the caller.

    Args:
        total_bytes: The declared size of the file, at least 1.
        part_bytes: The size of every part but the last.
        buffers: Where parts come from; the caller gives them back.
        field: Where the client declared the size.
    """

    def __init__(
        self, *, total_bytes: int, part_bytes: int, buffers: PartBuffers, field: str = "spec.size_bytes"
    ) -> None:
        self._buffers = buffers
        self._field = field
        self._total_bytes = total_bytes
        self._part_bytes = part_bytes
        self._received_bytes = 0
        self._part: bytearray | None = None
        self._filled_bytes = 0

    def feed(self, chunk: bytes) -> Iterator[bytearray]:
        """Take the next bytes of the file and yield each part that they fill.

        Raises:
            SageError: SIZE_MISMATCH, before anything of the chunk is taken, where it goes past the declared size.
        """
        received = self._received_bytes + len(chunk)
        if received > self._total_bytes:
            raise size_mismatch(self._field, declared_bytes=self._total_bytes, received_bytes=received)
        rest = memoryview(chunk)
        while rest:
            if self._part is None:
                self._part = self._buffers.take(min(self._part_bytes, self._total_bytes - self._received_bytes))
                self._filled_bytes = 0
            size = min(len(rest), len(self._part) - self._filled_bytes)
            # Through a view: assigning to a slice of a bytearray would copy the bytes twice.
            memoryview(self._part)[self._filled_bytes : self._filled_bytes + size] = rest[:size]
            self._filled_bytes += size
            self._received_bytes += size
            rest = rest[size:]
            if self._filled_bytes == len(self._part):
                part, self._part = self._part, None
                yield part

    def finish(self) -> None:
        """Check that the whole file has come.

        Raises:
            SageError: SIZE_MISMATCH where the stream ended early.
        """
        if self._received_bytes != self._total_bytes:
            raise size_mismatch(self._field, declared_bytes=self._total_bytes, received_bytes=self._received_bytes)
