"""Cut the two sample films from Big Buck Bunny, and write down what was done to the old cut to make the new one.

    python samples/make_samples.py bbb_60s_360p.mp4

Writes ``old.mp4``, ``new.mp4`` and ``truth.json`` beside this file. The two cuts are encoded with different settings,
so that no byte of the unchanged parts is the same in both. The sound is cut like the picture, and nothing else is done
to it: where the picture is replaced or covered, the old sound continues.
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

# Frame numbers in the source. The cuts begin in the middle of a shot.
FIRST = 162
OLD_FRAMES = 480
REPLACEMENT_FIRST = 1120
INSERTED_FIRST = 815

INK = (236, 229, 206)
PAPER = (24, 20, 34)
# Five dots wide and seven high.
LETTERS = {
    " ": "00000 00000 00000 00000 00000 00000 00000",
    "A": "01110 10001 10001 11111 10001 10001 10001",
    "E": "11111 10000 10000 11110 10000 10000 11111",
    "G": "01110 10001 10000 10111 10001 10001 01110",
    "H": "10001 10001 10001 11111 10001 10001 10001",
    "I": "01110 00100 00100 00100 00100 00100 01110",
    "L": "10000 10000 10000 10000 10000 10000 11111",
    "M": "10001 11011 10101 10101 10001 10001 10001",
    "N": "10001 11001 10101 10011 10001 10001 10001",
    "O": "01110 10001 10001 10001 10001 10001 01110",
    "R": "11110 10001 10001 11110 10100 10010 10001",
    "S": "01111 10000 10000 01110 00001 00001 11110",
    "T": "11111 00100 00100 00100 00100 00100 00100",
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
class Piece:
    """A piece of the new cut.

    Attributes:
        kind: What was done, as the contract's EditKind calls it.
        old: Frames ``[first, end)`` of the old cut; None if only the new one has them.
        source_first: The frame of the source that the piece begins with, if it is not the one in the old cut.
        frames: Length of a piece that the old cut does not have.
        change: What changed, as the contract's ChangeKind calls it.
        region: Where in the picture, in pixels: left edge, top edge, width, height.
        what: The edit in words.
    """

    kind: str
    old: tuple[int, int] | None = None
    source_first: int | None = None
    frames: int = 0
    change: str | None = None
    region: tuple[int, int, int, int] | None = None
    what: str = ""

    @property
    def length(self) -> int:
        """Its length in frames."""
        return self.old[1] - self.old[0] if self.old else self.frames

    @property
    def first(self) -> int:
        """The frame of the source that its sound, and its picture before it is changed, begins with."""
        if self.source_first is not None and self.change is None:
            return self.source_first
        return FIRST + (self.old[0] if self.old else 0)


# The logo and the subtitle, in pixels of a picture of 640 by 360.
LOGO = (548, 300, 68, 36)
SUBTITLE = (176, 308, 288, 29)
# In the order of the new cut.
PIECES = (
    Piece("MATCHED", (0, 62)),
    Piece("CHANGED", (62, 130), REPLACEMENT_FIRST, change="REPLACED", what="a shot is replaced by a later one"),
    Piece("MATCHED", (130, 190)),
    Piece("INSERTED", None, INSERTED_FIRST, 36, what="a shot from later in the film is inserted"),
    Piece("MATCHED", (190, 216)),
    Piece("CHANGED", (216, 264), change="REPLACED", what="a title card covers the picture"),
    Piece("MATCHED", (264, 270)),
    Piece("CHANGED", (270, 306), change="OVERLAY", region=LOGO, what="a logo is added at the bottom right"),
    Piece("MATCHED", (306, 314)),
    Piece("MATCHED", (350, 366)),
    Piece("CHANGED", (366, 408), change="BLACK", what="the picture is black"),
    Piece("MATCHED", (408, 422)),
    Piece("CHANGED", (422, 452), change="TEXT", region=SUBTITLE, what="a subtitle is added"),
    Piece("MATCHED", (452, 460)),
    Piece("MOVED", (314, 350), what="a shot is moved behind the next two"),
    Piece("MATCHED", (460, 480)),
    Piece("INSERTED", None, FIRST + OLD_FRAMES, 60, what="the new cut continues"),
)
NEW_FRAMES = sum(piece.length for piece in PIECES)

OLD = Encoding(crf=22, gop_frames=48, preset="slow", audio_bit_rate=96_000)
NEW = Encoding(crf=27, gop_frames=120, preset="medium", audio_bit_rate=64_000)


def main() -> None:
    """Make the samples from the source that the command line names."""
    parser = argparse.ArgumentParser(description="Cut the two sample films.")
    parser.add_argument("source", type=Path, help="bbb_60s_360p.mp4")
    source = parser.parse_args().source
    pictures = read_pictures(source)
    sound = read_sound(source)
    old = (FIRST, OLD_FRAMES)
    write_film(HERE / "old.mp4", pictures[FIRST : FIRST + OLD_FRAMES], cut_sound(sound, [old]), encoding=OLD)
    spans = [(piece.first, piece.length) for piece in PIECES]
    write_film(HERE / "new.mp4", list(edited(pictures)), cut_sound(sound, spans), encoding=NEW)
    (HERE / "truth.json").write_text(json.dumps(truth(*pictures[0].shape[1::-1]), indent=2) + "\n")
    for name in ("old.mp4", "new.mp4"):
        print(f"{name}: {(HERE / name).stat().st_size / 1e6:.2f} MB")


def edited(pictures: list[Picture]) -> Iterator[Picture]:
    """Yield the pictures of the new cut."""
    height, width, _ = pictures[0].shape
    card = title_card("MEANWHILE", width=width, height=height)
    black = np.zeros_like(card)
    for piece in PIECES:
        for frame in range(piece.length):
            picture = pictures[piece.first + frame]
            if piece.change == "BLACK":
                yield black
            elif piece.change == "OVERLAY":
                yield with_box(picture, LOGO, "SAGE", dot_size=2, paper=PAPER)
            elif piece.change == "TEXT":
                yield with_box(picture, SUBTITLE, "WHO IS THERE", dot_size=3, paper=None)
            elif piece.change == "REPLACED":
                yield card if piece.source_first is None else pictures[piece.source_first + frame]
            else:
                yield picture


def with_box(
    picture: Picture, box: tuple[int, int, int, int], text: str, *, dot_size: int, paper: tuple[int, int, int] | None
) -> Picture:
    """Return a picture with a text in the middle of a box, on paper or with a dark rim."""
    changed = picture.copy()
    left, top, width, height = box
    if paper is not None:
        changed[top : top + height, left : left + width] = paper
    ink = dots(text, dot_size)
    y, x = top + (height - ink.shape[0]) // 2, left + (width - ink.shape[1]) // 2
    if paper is None:
        for dy, dx in ((-2, 0), (2, 0), (0, -2), (0, 2)):
            changed[y + dy : y + dy + ink.shape[0], x + dx : x + dx + ink.shape[1]][ink] = 0
    changed[y : y + ink.shape[0], x : x + ink.shape[1]][ink] = INK
    return changed


def dots(text: str, dot_size: int) -> NDArray[np.bool_]:
    """Return a text as pixels."""
    rows = [[int(dot) for letter in text for dot in LETTERS[letter].split()[row] + "0"][:-1] for row in range(7)]
    return np.kron(np.array(rows, bool), np.ones((dot_size, dot_size), bool))


def title_card(text: str, *, width: int, height: int) -> Picture:
    """Return a card as silent films have them: a frame, and capitals."""
    card = np.full((height, width, 3), PAPER, np.uint8)
    for inset, thickness in ((18, 3), (26, 1)):
        card[inset : height - inset, inset : width - inset] = INK
        inner = inset + thickness
        card[inner : height - inner, inner : width - inner] = PAPER
    ink = dots(text, 8)
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


def cut_sound(sound: NDArray[np.float32], spans: list[tuple[int, int]]) -> NDArray[np.float32]:
    """Return the sound of pieces of the source: each its first frame and its length in frames."""
    edges = [(first * SAMPLE_RATE // FRAME_RATE, frames * SAMPLE_RATE // FRAME_RATE) for first, frames in spans]
    return np.concatenate([sound[:, start : start + length] for start, length in edges], axis=1)


def write_film(path: Path, pictures: list[Picture], sound: NDArray[np.float32], *, encoding: Encoding) -> None:
    """Write pictures and the sound that belongs to them as MP4 with H.264 and AAC.

    One thread and no encoder names, so that the same source makes the same bytes again.
    """
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


def truth(width: int, height: int) -> dict[str, object]:
    """Return the edit script: ranges ``[first, end)`` in frames of both cuts, which it tiles, and regions in shares."""
    edits: list[dict[str, object]] = []
    new = 0
    for piece in PIECES:
        edit: dict[str, object] = {
            "kind": piece.kind,
            "a": list(piece.old) if piece.old else None,
            "b": [new, new + piece.length],
        }
        new += piece.length
        if piece.change:
            left, top, wide, high = piece.region or (0, 0, width, height)
            region = [round(left / width, 4), round(top / height, 4), round(wide / width, 4), round(high / height, 4)]
            edit["changes"] = [{"kind": piece.change, "region": region if piece.region else None}]
        if piece.what:
            edit["what"] = piece.what
        edits.append(edit)
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
        "edits": edits,
    }


if __name__ == "__main__":
    main()
