"""Compares what the prober measures of every film of the table with what `ffprobe` counts after decoding.

Run it with `PYTHONPATH=tests python -m corpus.compare_with_ffprobe`. It needs `ffprobe` (Debian's package ffmpeg) and
prints the films on which the two do not agree; `README.md` says why for each kind.
"""

import io
import json
import subprocess
import tempfile
from fractions import Fraction
from typing import Any

from corpus.films import PLAYABLE
from sage_ingest.probing.measure import measure
from sage_ingest.videos.model import Media

# ffprobe prints times in microseconds; Matroska and FLV have ticks of a millisecond.
_SAME_SECONDS = 0.0012


def _ffprobe(content: bytes, track: int) -> dict[str, Any]:
    command = [
        "ffprobe",
        "-v",
        "quiet",
        "-select_streams",
        f"v:{track}",
        "-show_frames",
        "-show_streams",
        "-show_format",
    ]
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        return json.loads(subprocess.check_output([*command, "-of", "json", file.name]))


def _seconds(frames: list[dict[str, str]]) -> float:
    stated = [frame.get("best_effort_timestamp_time") or frame.get("pkt_dts_time") for frame in frames]
    times = [float(time) for time in stated if time]
    last = frames[-1].get("duration_time") or frames[-1].get("pkt_duration_time") or 0
    return max(times) - min(times) + float(last)


def _timecode(media: Media) -> str | None:
    code = media.start_timecode
    if code is None:
        return None
    return f"{code.hours:02}:{code.minutes:02}:{code.seconds:02}{';' if code.drop_frame else ':'}{code.frames:02}"


def _differences(content: bytes) -> list[str]:
    media = measure(io.BytesIO(content), size_bytes=len(content))
    found = _ffprobe(content, media.video_track)
    (stream,) = found["streams"]
    rates = [Fraction(stream[name]) for name in ("r_frame_rate", "avg_frame_rate") if stream[name] != "0/0"]
    codes = [tags["timecode"] for part in (stream, found["format"]) if "timecode" in (tags := part.get("tags", {}))]
    seconds = _seconds(found["frames"])
    compared = [
        ("frames", media.frame_count, len(found["frames"]), media.frame_count == len(found["frames"])),
        ("seconds", media.duration_seconds, seconds, abs(media.duration_seconds - seconds) < _SAME_SECONDS),
        ("rate", media.frame_rate, rates, media.frame_rate in rates),
        ("timecode", _timecode(media), codes, _timecode(media) == (codes or [None])[0]),
    ]
    return [f"{name} {ours}, ffprobe {theirs}" for name, ours, theirs, same in compared if not same]


def main() -> None:
    """Print the differences."""
    for film in PLAYABLE:
        if differences := _differences(film.content):
            print(f"{film.name}: {'; '.join(differences)}")


if __name__ == "__main__":
    main()
