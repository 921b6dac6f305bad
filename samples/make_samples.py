"""Cut the two sample films from Big Buck Bunny, and write down where they differ.

    python samples/make_samples.py bbb_60s_360p.mp4

Writes ``old.mp4``, ``new.mp4`` and ``truth.json`` beside this file. The two cuts are encoded with different settings,
so that no byte of the unchanged parts is the same in both. The edits do not shift time: second n of one cut belongs to
second n of the other. Each edit crosses a border of the 2 s clips, with an unedited clip between any two. The sound is
not edited.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).resolve().parent
FRAME_RATE = 24
SAMPLE_RATE = 44_100

# Frame numbers in the source. The cuts begin in the middle of a shot, so that the replaced shot lies across clips.
FIRST = 162
OLD_FRAMES = 480
NEW_FRAMES = 540
REPLACEMENT_FIRST = 1120

INK = (236, 229, 206)
PAPER = (24, 20, 34)
LETTERS = {
    "A": "01110 10001 10001 11111 10001 10001 10001",
    "E": "11111 10000 10000 11110 10000 10000 11111",
    "H": "10001 10001 10001 11111 10001 10001 10001",
    "I": "01110 00100 00100 00100 00100 00100 01110",
    "L": "10000 10000 10000 10000 10000 10000 11111",
    "M": "10001 11011 10101 10101 10001 10001 10001",
    "N": "10001 11001 10101 10011 10001 10001 10001",
    "W": "10001 10001 10001 10101 10101 11011 10001",
}

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Encoding:
    """How one of the cuts is encoded."""

    crf: int
    gop_frames: int
    preset: str
    audio_bit_rate: int


@dataclass(frozen=True)
class Edit:
    """A change of the picture in the new cut: frames ``[first, last)`` of both timelines."""

    first: int
    last: int
    what: str


SHOT = Edit(62, 130, "the shot is replaced by another from later in the film")
CARD = Edit(216, 264, "a title card covers the picture")
BLACK = Edit(366, 408, "the picture is black")
EDITS = (SHOT, CARD, BLACK)

OLD = Encoding(crf=22, gop_frames=48, preset="slow", audio_bit_rate=96_000)
NEW = Encoding(crf=27, gop_frames=120, preset="medium", audio_bit_rate=64_000)


def main() -> None:
    """Make the samples from the source that the command line names."""
    parser = argparse.ArgumentParser(description="Cut the two sample films.")
    parser.add_argument("source", type=Path, help="bbb_60s_360p.mp4")
    source = parser.parse_args().source
    pictures = read_pictures(source)
    sound = read_sound(source)
    write_film(HERE / "old.mp4", pictures[FIRST : FIRST + OLD_FRAMES], sound, encoding=OLD)
    write_film(HERE / "new.mp4", list(edited(pictures)), sound, encoding=NEW)
    (HERE / "truth.json").write_text(json.dumps(truth(), indent=2) + "\n")
    for name in ("old.mp4", "new.mp4"):
        print(f"{name}: {(HERE / name).stat().st_size / 1e6:.2f} MB")


def edited(pictures: list[Picture]) -> Iterator[Picture]:
    """Yield the pictures of the new cut."""
    height, width, _ = pictures[0].shape
    card = title_card("MEANWHILE", width=width, height=height)
    black = np.zeros_like(card)
    for frame in range(NEW_FRAMES):
        if SHOT.first <= frame < SHOT.last:
            yield pictures[REPLACEMENT_FIRST + frame - SHOT.first]
        elif CARD.first <= frame < CARD.last:
            yield card
        elif BLACK.first <= frame < BLACK.last:
            yield black
        else:
            yield pictures[FIRST + frame]


def title_card(text: str, *, width: int, height: int) -> Picture:
    """Return a card as silent films have them: a frame, and capitals five dots wide and seven high."""
    card = np.full((height, width, 3), PAPER, np.uint8)
    for inset, thickness in ((18, 3), (26, 1)):
        card[inset : height - inset, inset : width - inset] = INK
        inner = inset + thickness
        card[inner : height - inner, inner : width - inner] = PAPER
    rows = [[int(dot) for letter in text for dot in LETTERS[letter].split()[row] + "0"][:-1] for row in range(7)]
    dot_size = 8
    ink = np.kron(np.array(rows, bool), np.ones((dot_size, dot_size), bool))
    top, left = (height - ink.shape[0]) // 2, (width - ink.shape[1]) // 2
    card[top : top + ink.shape[0], left : left + ink.shape[1]][ink] = INK
    return card


def read_pictures(source: Path) -> list[Picture]:
    """Return every frame of the source as RGB, shape ``(height, width, 3)``."""
    with av.open(source) as container:
        stream = container.streams.video[0]
        if stream.average_rate != FRAME_RATE:
            raise SystemExit(f"{source} has {stream.average_rate} frames a second; these edits count in {FRAME_RATE}.")
        return [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in container.decode(stream)]


def read_sound(source: Path) -> NDArray[np.float32]:
    """Return the samples of the source's sound, shape ``(channels, samples)``."""
    with av.open(source) as container:
        return np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)


def write_film(path: Path, pictures: list[Picture], sound: NDArray[np.float32], *, encoding: Encoding) -> None:
    """Write pictures and the sound that belongs to them as MP4 with H.264 and AAC.

    One thread and no encoder names, so that the same source makes the same bytes again.
    """
    start = FIRST * SAMPLE_RATE // FRAME_RATE
    sound = sound[:, start : start + len(pictures) * SAMPLE_RATE // FRAME_RATE]
    options = {"movflags": "+faststart", "fflags": "+bitexact"}
    with av.open(path, "w", options=options) as container:
        video = container.add_stream("libx264", rate=FRAME_RATE)
        video.height, video.width, _ = pictures[0].shape
        video.pix_fmt = "yuv420p"
        video.options = {
            "crf": str(encoding.crf),
            "g": str(encoding.gop_frames),
            "preset": encoding.preset,
            "threads": "1",
            "flags": "+bitexact",
        }
        audio = container.add_stream("aac", rate=SAMPLE_RATE, layout="stereo", options={"flags": "+bitexact"})
        audio.bit_rate = encoding.audio_bit_rate
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FRAME_RATE)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        for first in range(0, sound.shape[1], 1024):
            block = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound[:, first : first + 1024]), "fltp", "stereo")
            block.sample_rate = SAMPLE_RATE
            block.pts, block.time_base = first, Fraction(1, SAMPLE_RATE)
            container.mux(audio.encode(block))
        container.mux(audio.encode(None))


def truth() -> dict[str, object]:
    """Return what differs between the cuts: ranges ``[start, end)`` in seconds on each timeline."""
    changed = [
        {"kind": "changed", "a": seconds(edit.first, edit.last), "b": seconds(edit.first, edit.last), "what": edit.what}
        for edit in EDITS
    ]
    longer = {
        "kind": "only_in_b",
        "a": None,
        "b": seconds(OLD_FRAMES, NEW_FRAMES),
        "what": "the new cut continues",
    }
    return {
        "source": {
            "file": "bbb_60s_360p.mp4",
            "title": "Big Buck Bunny",
            "first_frame": FIRST,
            "copyright": "(c) Blender Foundation, www.bigbuckbunny.org",
            "license": "CC BY 3.0",
        },
        "frame_rate": FRAME_RATE,
        "old": {"file": "old.mp4", "frames": OLD_FRAMES, "seconds": OLD_FRAMES / FRAME_RATE, "encoding": asdict(OLD)},
        "new": {"file": "new.mp4", "frames": NEW_FRAMES, "seconds": NEW_FRAMES / FRAME_RATE, "encoding": asdict(NEW)},
        "edits": [*changed, longer],
    }


def seconds(first: int, last: int) -> list[float]:
    """Return frames as a range in seconds, to the microsecond."""
    return [round(first / FRAME_RATE, 6), round(last / FRAME_RATE, 6)]


if __name__ == "__main__":
    main()
