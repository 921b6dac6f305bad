"""The child's side of a process that reads one film: its request, its limits, and its messages.

FFmpeg is a large parser of untrusted files. It runs without the worker's credentials, files and connections, and with
bounded memory and CPU time (`sage_runtime.process.confined`). The other side is
`sage_embed.engines.local.film_process`.
"""

import errno
import json
import resource
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import BinaryIO, TypeVar

import av

# PyAV would import these when it meets a subtitle track, but then no file can be opened any more.
import av.subtitles.codeccontext
import av.subtitles.stream
from sage_film.frames import UndecodableError
from sage_runtime.process.confined import LENGTH, READY, RemoteFile, confine, forbid_system_calls, read_exactly

# A message of every child: a failure, as a LENGTH and JSON.
FAILED = b"F"
MAX_FAILURE_BYTES = 64 * 1024


@dataclass(frozen=True, kw_only=True)
class FilmRequest:
    """Which film to read, and within which limits.

    Attributes:
        size_bytes: Size of the file.
        start_offset_seconds: The timestamp that is 0 on the timeline.
        duration_seconds: Length of the timeline.
        video_track: The picture track that is the film; `None`: chosen as ingest does.
        timestamps_jump: Whether the file's timestamps do not tell a frame's place on the timeline.
        threads: Threads that decode.
        memory_bytes: Address space of the process.
        cpu_s: CPU seconds for opening the film.
        cpu_s_per_second: CPU seconds for each second of the film.
        max_pixels: Pixels of a frame.
    """

    size_bytes: int
    start_offset_seconds: float
    duration_seconds: float
    video_track: int | None
    timestamps_jump: bool
    threads: int
    memory_bytes: int
    cpu_s: float
    cpu_s_per_second: float
    max_pixels: int

    def cpu_s_until(self, seconds: float) -> int:
        """Return the CPU seconds that the process may have used when it reaches a time of the film.

        If the film has no index, a resumed run decodes from the start.
        """
        return int(self.cpu_s + self.cpu_s_per_second * seconds) + 1

    def encode(self) -> bytes:
        """Return the message that starts the conversation."""
        encoded = json.dumps(asdict(self)).encode()
        return LENGTH.pack(len(encoded)) + encoded


RequestT = TypeVar("RequestT", bound=FilmRequest)


def serve(request_type: type[RequestT], messages: Callable[[RemoteFile, RequestT], Iterator[bytes]]) -> None:
    """Receive a request, confine this process, and send the messages or why the film cannot be decoded."""
    requests, responses = sys.stdout.buffer, sys.stdin.buffer
    (size,) = LENGTH.unpack(read_exactly(responses, LENGTH.size))
    request = request_type(**json.loads(read_exactly(responses, size)))
    confine(memory_bytes=request.memory_bytes, cpu_s=request.cpu_s_until(request.duration_seconds))
    forbid_system_calls()
    requests.write(READY)
    requests.flush()
    film = RemoteFile(requests, responses, size_bytes=request.size_bytes, max_bytes=sys.maxsize)
    try:
        for message in messages(film, request):
            requests.write(message)
            requests.flush()
    except UndecodableError as error:
        if _is_out_of_memory(error.__cause__):
            _send_failure(requests, "it takes too much memory to decode", detail=error.detail)
        else:
            _send_failure(requests, error.why, detail=error.detail)
    except MemoryError:
        _send_failure(requests, "it takes too much memory to decode")


def allow_cpu(request: FilmRequest, until_seconds: float) -> None:
    """Extend the soft limit of the CPU time, so that a film that is slow to decode is found early."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    allowed = request.cpu_s_until(until_seconds)
    # At the hard limit the kernel would kill it, as if memory had run out.
    resource.setrlimit(resource.RLIMIT_CPU, (min(allowed, hard - 1), hard))


def _is_out_of_memory(error: BaseException | None) -> bool:
    return isinstance(error, MemoryError) or (isinstance(error, av.error.FFmpegError) and error.errno == errno.ENOMEM)


def _send_failure(requests: BinaryIO, why: str, *, detail: str = "") -> None:
    encoded = json.dumps({"why": why[:500], "detail": detail[:5000]}).encode()
    requests.write(FAILED + LENGTH.pack(len(encoded)) + encoded)
    requests.flush()
