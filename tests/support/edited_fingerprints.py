"""Fingerprints of two encodes of one film, one of them re-ordered by a random script."""

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from sage_compare.aligned.inputs import Film
from sage_compare.aligned.script import EditKind, EditScript
from sage_fingerprint.model import Fingerprint

RATE = 24
COLLAR = 6
KINDS = ("insert", "repeat", "delete", "replace", "move", "black", "blacken")
LOCAL = {"OVERLAY", "TEXT", "BLUR", "GRADE", "CROP"}


def encode(source: Path, target: Path, codec: str, options: dict[str, str], width: int, height: int) -> Path:
    """Encode a film again."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        picture = new.add_stream(codec, rate=RATE, options=options)
        picture.width, picture.height, picture.pix_fmt = width, height, "yuv420p"
        for number, frame in enumerate(old.decode(video=0)):
            resized = frame.reformat(width, height, "yuv420p")
            resized.pts, resized.time_base = number, Fraction(1, RATE)
            resized.pict_type = av.video.frame.PictureType.NONE
            new.mux(picture.encode(resized))
        new.mux(picture.encode(None))
    return target


def film(fingerprint: Fingerprint, frames: NDArray[np.int64]) -> Film:
    """Return a film of some frames of a fingerprint."""
    count = len(frames)
    return Film(
        Fingerprint(
            fingerprint.luma[frames],
            fingerprint.texture[frames],
            fingerprint.chroma[frames],
            np.arange(count) / RATE,
            count / RATE,
        ),
        Fraction(RATE),
    )


def joined(*fingerprints: Fingerprint) -> Fingerprint:
    """Return one fingerprint after the other."""
    count = sum(map(len, fingerprints))
    return Fingerprint(
        np.concatenate([one.luma for one in fingerprints]),
        np.concatenate([one.texture for one in fingerprints]),
        np.concatenate([one.chroma for one in fingerprints]),
        np.arange(count) / RATE,
        count / RATE,
    )


def black(frames: int) -> Fingerprint:
    """Return the fingerprint of a black film."""
    return Fingerprint(
        np.full((frames, 18, 32), 16, np.uint8),
        np.zeros((frames, 18, 32), np.uint8),
        np.full((frames, 2, 9, 16), 128, np.uint8),
        np.arange(frames) / RATE,
        frames / RATE,
    )


@dataclass
class Edited:
    """Film b, made from a by a script.

    Attributes:
        frames: Each frame of b as a frame of the other encode of a followed by the other film and black.
        source: The frame of a that each frame of b shows in order; -1 for edits.
        kept: Which frames of a b shows in order.
        script: What was done, for messages.
    """

    frames: NDArray[np.int64]
    source: NDArray[np.int64]
    kept: NDArray[np.bool_]
    script: list[str] = field(default_factory=list)


def edit(random: np.random.Generator, moving: NDArray[np.bool_], other: int) -> Edited:
    """Return a random script of one to eight edits from one frame to two seconds.

    Args:
        random: Source of randomness.
        moving: Frames of a that differ from their neighbours: only there is an edit's place certain.
        other: Number of frames of the other film.
    """
    length = len(moving)
    places = np.flatnonzero(moving[20:-20]) + 20
    sites: list[int] = []
    for site in sorted(random.choice(places, min(random.integers(1, 9), len(places)), replace=False).tolist()):
        if not sites or site - sites[-1] > 40:
            sites.append(site)
    parts: list[tuple[bool, int, int]] = []
    moves: list[tuple[int, int]] = []
    script = []
    at = 0
    for k, site in enumerate(sites):
        room = (sites[k + 1] if k + 1 < len(sites) else length) - site - 14
        frames = int(min(np.exp(random.uniform(0.0, np.log(48))), room))
        while frames < room and not moving[site + frames]:
            frames += 1
        kind = str(random.choice(KINDS))
        parts.append((True, at, site))
        at = site if kind in ("insert", "repeat", "black") else site + frames
        foreign = length + int(random.integers(0, other - frames))
        dark = length + other
        if kind == "insert" and random.random() < 0.5:
            own = int(random.integers(0, length - frames))
            parts.append((False, own, own + frames))
        elif kind == "insert":
            parts.append((False, foreign, foreign + frames))
        elif kind == "repeat":
            parts[-1] = (True, parts[-1][1], site + frames)
            parts.append((False, site, site + frames))
            at = site + frames
        elif kind == "replace":
            parts.append((False, foreign, foreign + frames))
        elif kind in ("black", "blacken"):
            parts.append((False, dark, dark + frames))
        elif kind == "move" and frames >= 12:
            moves.append((site, site + frames))
        script.append(f"{kind} {frames} at {site}")
    parts.append((True, at, length))
    for first, end in moves:
        # Moved at least three times its length, so that it is the part that moved.
        far = [
            (k, place)
            for k, (kept, low, high) in enumerate(parts)
            if kept
            for place in range(low + 30, high - 30)
            if moving[place] and min(abs(place - first), abs(place - end)) > 3 * (end - first)
        ]
        if far:
            k, place = far[int(random.integers(len(far)))]
            _, low, high = parts[k]
            parts[k : k + 1] = [(True, low, place), (False, first, end), (True, place, high)]
            script.append(f"moved {first} to {place}")
    kept = np.zeros(length, np.bool_)
    for own, low, high in parts:
        if own:
            kept[low:high] = True
    frames_b = np.concatenate([np.arange(low, high) for _, low, high in parts])
    source = np.concatenate([np.arange(low, high) if own else np.full(high - low, -1) for own, low, high in parts])
    return Edited(frames_b, source, kept, script)


@dataclass(frozen=True)
class Counts:
    """What a script has in common with the truth: frames of edits in both, in either, and boundary errors."""

    common: int
    either: int
    errors: list[int]


def count(script: EditScript, truth: Edited) -> Counts:
    """Compare a script with the truth."""
    predicted_a, predicted_b = np.ones(len(truth.kept), np.bool_), np.ones(len(truth.source), np.bool_)
    starts = [0]
    for one in script.edits:
        local = one.kind is EditKind.CHANGED and all(change.kind.name in LOCAL for change in one.changes)
        if one.a and one.b and (one.kind is EditKind.MATCHED or local):
            predicted_a[one.a.first : one.a.end] = False
            predicted_b[one.b.first : one.b.end] = False
        if one.b:
            starts.append(one.b.first)
    common = either = 0
    true_b = truth.source < 0
    jump = np.diff(truth.source) != 1
    ends_b = np.flatnonzero(jump & ~(true_b[1:] & true_b[:-1])) + 1
    ends_a = np.flatnonzero(np.diff(truth.kept.astype(np.int8))) + 1
    for predicted, true, ends in ((predicted_a, ~truth.kept, ends_a), (predicted_b, true_b, ends_b)):
        judged = np.ones(len(true), np.bool_)
        for end in ends:
            judged[max(end - COLLAR, 0) : end + COLLAR] = False
        common += 2 * int((predicted & true & judged).sum())
        either += int((predicted & judged).sum()) + int((true & judged).sum())
    errors = [min(abs(int(end) - start) for start in starts) for end in ends_b]
    return Counts(common, either, errors)
