"""The process that decodes one film: `python -m sage_embed.engines.local.decoder_process`.

FFmpeg is a large parser of untrusted files. It runs here, without the worker's credentials, files and connections, and
with bounded memory and CPU time (`sage_runtime.process.confined`). The process receives a `DecodeRequest`, requests
the bytes of the film, and sends the pictures that the network receives; `sage_embed.engines.local.decoder` is the other
side.
"""

import errno
import json
import resource
import struct
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import BinaryIO

import av

# PyAV would import these when it meets a subtitle track, but then no file can be opened any more.
import av.subtitles.codeccontext
import av.subtitles.stream
from sage_runtime.errors import Reason, SageError
from sage_runtime.process.confined import LENGTH, READY, RemoteFile, confine, forbid_system_calls, read_exactly

from sage_embed.engines.local.frames import ClipGrid, End, FrameReader, check_size
from sage_embed.engines.local.pictures import PictureConverter

# The messages besides requests for bytes: a picture follows its clip's index; the end of the frames; and a failure, as
# a LENGTH and JSON.
PICTURE = b"P"
CLIP = struct.Struct("!Q")
END = b"E"
END_SECONDS = struct.Struct("!d")
FAILED = b"F"
MAX_FAILURE_BYTES = 64 * 1024


@dataclass(frozen=True)
class DecodeRequest:
    """What to decode, and within which limits.

    Attributes:
        size_bytes: Size of the file.
        start_offset_seconds: The timestamp that is 0 on the timeline.
        duration_seconds: Length of the timeline.
        clip_seconds: Length of a clip.
        first_clip: The clip to start with.
        video_track: The picture track that is the film; `None`: chosen as ingest does.
        timestamps_jump: Whether the file's timestamps do not tell a frame's place on the timeline.
        threads: Threads that decode.
        memory_bytes: Address space of the process.
        cpu_s: CPU seconds for opening the film.
        cpu_s_per_second: CPU seconds for each second of the film.
        max_pixels: Pixels of a frame.
        max_still_seconds: Longest time without a new frame.
    """

    size_bytes: int
    start_offset_seconds: float
    duration_seconds: float
    clip_seconds: float
    first_clip: int
    video_track: int | None
    timestamps_jump: bool
    threads: int
    memory_bytes: int
    cpu_s: float
    cpu_s_per_second: float
    max_pixels: int
    max_still_seconds: float

    @property
    def grid(self) -> ClipGrid:
        """The clips."""
        return ClipGrid(self.duration_seconds, self.clip_seconds)

    def cpu_s_until(self, seconds: float) -> int:
        """Return the CPU seconds that the process may have used when it reaches a time of the film.

        If the film has no index, a resumed run decodes from the start.
        """
        return int(self.cpu_s + self.cpu_s_per_second * seconds) + 1

    def encode(self) -> bytes:
        """Return the message that starts the conversation."""
        encoded = json.dumps(asdict(self)).encode()
        return LENGTH.pack(len(encoded)) + encoded


def main() -> None:
    """Decode one film and end."""
    requests, responses = sys.stdout.buffer, sys.stdin.buffer
    (size,) = LENGTH.unpack(read_exactly(responses, LENGTH.size))
    request = DecodeRequest(**json.loads(read_exactly(responses, size)))
    confine(memory_bytes=request.memory_bytes, cpu_s=request.cpu_s_until(request.duration_seconds))
    forbid_system_calls()
    requests.write(READY)
    requests.flush()
    film = RemoteFile(requests, responses, size_bytes=request.size_bytes, max_bytes=sys.maxsize)
    try:
        for message in _messages(film, request):
            requests.write(message)
            requests.flush()
    except SageError as error:
        if _is_out_of_memory(error.__cause__):
            _send_failure(requests, "it takes too much memory to decode", detail=error.detail)
        else:
            _send_failure(requests, str(error.facts["why"]), detail=error.detail)
    except MemoryError:
        _send_failure(requests, "it takes too much memory to decode")


def _messages(film: RemoteFile, request: DecodeRequest) -> Iterator[bytes]:
    grid = request.grid
    reader = FrameReader(
        film,
        start_offset_seconds=request.start_offset_seconds,
        threads=request.threads,
        video_track=request.video_track,
        timestamps_jump=request.timestamps_jump,
        max_pixels=request.max_pixels,
    )
    converter = PictureConverter()
    shown_since, picture = 0.0, b""
    shown = None
    _allow_cpu(request, grid.start(request.first_clip))
    for sample in reader.samples(grid, first_clip=request.first_clip):
        if isinstance(sample, End):
            yield END + END_SECONDS.pack(sample.at_seconds)
            return
        now = grid.start(sample.clip)
        if sample.frame is not shown:
            shown, shown_since = sample.frame, now
            check_size(shown.width, shown.height, request.max_pixels)
            picture = converter.convert(shown).tobytes()
        elif now - shown_since > request.max_still_seconds:
            raise _failed(f"it shows one frame for more than {request.max_still_seconds:g} s")
        _allow_cpu(request, grid.end(sample.clip))
        yield PICTURE + CLIP.pack(sample.clip) + picture


def _allow_cpu(request: DecodeRequest, until_seconds: float) -> None:
    """Extend the soft limit of the CPU time, so that a film that is slow to decode is found early."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    allowed = request.cpu_s_until(until_seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (min(allowed, hard), hard))


def _is_out_of_memory(error: BaseException | None) -> bool:
    return isinstance(error, MemoryError) or (isinstance(error, av.error.FFmpegError) and error.errno == errno.ENOMEM)


def _failed(why: str) -> SageError:
    return SageError(Reason.PROVIDER_FAILED, why=why)


def _send_failure(requests: BinaryIO, why: str, *, detail: str = "") -> None:
    encoded = json.dumps({"why": why[:500], "detail": detail[:5000]}).encode()
    requests.write(FAILED + LENGTH.pack(len(encoded)) + encoded)
    requests.flush()


if __name__ == "__main__":
    main()
