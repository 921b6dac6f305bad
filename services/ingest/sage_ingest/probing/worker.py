"""The process that probes one file: `python -m sage_ingest.probing.worker`.

FFmpeg is a large parser of untrusted files. It runs here, without the server's credentials, files and connections, and
with bounded memory and CPU time (`sage_runtime.process.confined`). The process receives a `ProbeRequest`, requests
bytes of the file, and sends a result; `sage_ingest.probing.prober` is the other side.
"""

import sys

# PyAV would import these when it meets such a track, but then no file can be opened any more.
import av.subtitles.codeccontext
import av.subtitles.stream  # noqa: F401 - imported for the reason above
from sage_runtime.process.confined import LENGTH, READY, RemoteFile, confine, forbid_system_calls, read_exactly

from sage_ingest.probing.measure import measure
from sage_ingest.probing.ports import UnreadableError, decode_request, encode_result

_MAX_MEMORY_BYTES = 4 * 1024**3
_MAX_CPU_S = 120


def main() -> None:
    """Probe one file and end."""
    requests, responses = sys.stdout.buffer, sys.stdin.buffer
    confine(memory_bytes=_MAX_MEMORY_BYTES, cpu_s=_MAX_CPU_S)
    forbid_system_calls()
    requests.write(READY)
    requests.flush()
    request = decode_request(read_exactly(responses, LENGTH.unpack(read_exactly(responses, LENGTH.size))[0]))
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


if __name__ == "__main__":
    main()
