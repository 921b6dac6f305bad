"""The process that probes one file: `python -m sage_ingest.probing.worker`.

FFmpeg is a large parser of untrusted files. It runs here, in a process that has no credentials, opens no user files,
has bounded memory and can be killed. The process requests bytes from its parent over standard output, reads
them from standard input, and finally sends a result; `sage_ingest.probing.prober` is the other side.
"""

import io
import resource
import sys
from collections import OrderedDict
from typing import BinaryIO

from sage_ingest.probing.measure import measure
from sage_ingest.probing.ports import (
    LENGTH,
    READ,
    READ_ARGUMENTS,
    READY,
    BudgetExceededError,
    UnreadableError,
    decode_request,
    encode_result,
)

_BLOCK_BYTES = 16 * 1024
_CACHED_BLOCKS = 1024
# Blocks that are read at once if the file is read from front to back.
_MAX_RUN = 64
_MAX_MEMORY_BYTES = 4 * 1024**3
_MAX_CPU_S = 120


class RemoteFile:
    """A file whose bytes the parent reads, in blocks; the most recently used ones are cached.

    Args:
        requests: Requests to the parent.
        responses: The parent's responses.
        size_bytes: Size of the file.
        max_bytes: Total number of bytes that may be read.
    """

    def __init__(self, requests: BinaryIO, responses: BinaryIO, *, size_bytes: int, max_bytes: int) -> None:
        self._requests = requests
        self._responses = responses
        self._size_bytes = size_bytes
        self._left_bytes = max_bytes
        self._position = 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        # Where the last request ended, and how many blocks it had.
        self._run_end, self._run = 0, 1

    def read(self, size: int = -1, /) -> bytes:
        """Return up to `size` bytes: fewer at the end of a block, none at the end of the file."""
        index, start = divmod(self._position, _BLOCK_BYTES)
        if size == 0 or self._position >= self._size_bytes:
            return b""
        block = self._block(index)
        data = block[start:] if size < 0 else block[start : start + size]
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move to an offset."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size_bytes}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        """Return the offset."""
        return self._position

    def _block(self, index: int) -> bytes:
        if index not in self._blocks:
            self._request(index)
        self._blocks.move_to_end(index)
        return self._blocks[index]

    def _request(self, first: int) -> None:
        self._run = min(2 * self._run, _MAX_RUN) if first == self._run_end else 1
        # Not too much of what may be read is spent on bytes that may not be needed.
        while self._run > 1 and self._run * _BLOCK_BYTES > self._left_bytes // 8:
            self._run //= 2
        self._run_end = first + self._run
        start = first * _BLOCK_BYTES
        length = min(self._run * _BLOCK_BYTES, self._size_bytes - start)
        self._left_bytes -= length
        if self._left_bytes < 0:
            raise BudgetExceededError
        self._requests.write(READ + READ_ARGUMENTS.pack(start, length))
        self._requests.flush()
        data = _read_exactly(self._responses, LENGTH.unpack(_read_exactly(self._responses, LENGTH.size))[0])
        for offset in range(0, max(1, len(data)), _BLOCK_BYTES):
            self._blocks[first + offset // _BLOCK_BYTES] = data[offset : offset + _BLOCK_BYTES]
        while len(self._blocks) > _CACHED_BLOCKS:
            self._blocks.popitem(last=False)


def main() -> None:
    """Probe one file and end."""
    requests, responses = sys.stdout.buffer, sys.stdin.buffer
    _confine()
    requests.write(READY)
    requests.flush()
    request = decode_request(_read_exactly(responses, LENGTH.unpack(_read_exactly(responses, LENGTH.size))[0]))
    file = RemoteFile(requests, responses, size_bytes=request.size_bytes, max_bytes=request.max_bytes)
    try:
        result = encode_result(
            measure(file, size_bytes=request.size_bytes, video_track=request.video_track, limits=request.limits)
        )
    except UnreadableError as error:
        result = encode_result(error)
    except MemoryError:
        result = encode_result(UnreadableError("it takes too much memory to decode"))
    requests.write(result)
    requests.flush()


def _confine() -> None:
    for limit, value in (
        (resource.RLIMIT_AS, _MAX_MEMORY_BYTES),
        (resource.RLIMIT_CPU, _MAX_CPU_S),
        # It writes no files. It opens a few: Python modules that PyAV imports on first use.
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 32),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))


def _read_exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        # The parent is gone.
        raise SystemExit(1)
    return data


if __name__ == "__main__":
    main()
