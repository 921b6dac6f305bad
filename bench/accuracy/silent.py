"""Recipes: nothing was edited. The two files are encoded, converted or presented differently."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from sage_compare.aligned.script import ChangeKind, Edit, EditKind, Frames

from accuracy.cutting import Cut, Edited
from accuracy.encoding import Encoding
from accuracy.recipe import Bench, PairClass, Recipe

NTSC = Fraction(24_000, 1_001)


def _x264(crf: int, *, preset: str = "veryfast", gop: int = 96, more: tuple[str, ...] = ()) -> tuple[str, ...]:
    return ("-c:v", "libx264", "-preset", preset, "-crf", str(crf), "-g", str(gop), *more)


def _silent(
    make: Callable[[Bench, Encoding], Encoding], *, frames: int = 480, tolerated: frozenset[ChangeKind] = frozenset()
) -> Callable[[Bench], Recipe]:
    """Return a recipe whose new cut is encoded as stated."""

    def recipe(bench: Bench) -> Recipe:
        cutting = bench.cutting(frames)
        cutting.keep_rest()
        made = bench.recipe(cutting.finish(), tolerated=tolerated)
        plain = replace(made.old, codec=_x264(bench.count(18, 22)), width=480)
        return replace(made, old=plain, new=make(bench, replace(plain, codec=_x264(bench.count(20, 26), gop=48))))

    return recipe


def codec(bench: Bench, plain: Encoding) -> Encoding:
    """Another codec: MPEG-4, HEVC, VP9 or MPEG-2."""
    codecs = [
        ("-c:v", "mpeg4", "-q:v", "5"),
        ("-c:v", "libx265", "-preset", "ultrafast", "-crf", "26", "-x265-params", "log-level=none"),
        ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-crf", "36", "-b:v", "0"),
        ("-c:v", "mpeg2video", "-q:v", "5"),
    ]
    return replace(plain, codec=codecs[bench.number % 4], width=bench.count(160, 320) * 2)


def reencode(bench: Bench, plain: Encoding) -> Encoding:
    """A crf from 20 to 28, any keyframes."""
    return replace(
        plain,
        codec=_x264((20, 24, 28)[bench.number % 3], gop=bench.count(12, 250)),
        width=(480, 640, 400)[bench.number % 3],
    )


def heavy(bench: Bench, plain: Encoding) -> Encoding:
    """A crf of 31 to 34."""
    return replace(plain, codec=_x264(31 + bench.number % 2 * 3), width=480)


def small(_bench: Bench, plain: Encoding) -> Encoding:
    """240 lines."""
    return replace(plain, width=426, codec=_x264(26))


def large(_bench: Bench, plain: Encoding) -> Encoding:
    """1080 lines."""
    return replace(plain, width=1920, codec=_x264(24, preset="ultrafast"))


def grain(bench: Bench, plain: Encoding) -> Encoding:
    """Film grain on one side."""
    return replace(plain, filters=(f"noise=alls={bench.count(8, 14)}:allf=t",), codec=_x264(20))


def ten_bits(_bench: Bench, plain: Encoding) -> Encoding:
    """10 bits a sample."""
    return replace(plain, codec=_x264(22, more=("-pix_fmt", "yuv420p10le")))


def conformed(bench: Bench, plain: Encoding) -> Encoding:
    """The same frames, played at another rate."""
    return replace(plain, rate=(Fraction(25), NTSC)[bench.number % 2])


def _repeated(count: int, source: Fraction, target: Fraction) -> NDArray[np.int64]:
    """Return which frame is shown when frames are repeated or dropped."""
    frames = int(count * target / source)
    return np.minimum((np.arange(frames) * float(source / target) + 1e-6).astype(np.int64), count - 1)


def converted(bench: Bench, plain: Encoding) -> Encoding:
    """The same speed at another rate: frames are repeated, or dropped."""
    target = (Fraction(30), Fraction(25), Fraction(20))[bench.number % 3]
    return replace(plain, rate=target, shown=_repeated(480, plain.rate, target))


def blended(_bench: Bench, plain: Encoding) -> Encoding:
    """The same speed at another rate: neighbouring frames are mixed."""

    def shown(frames: int, count: int) -> NDArray[np.int64]:
        return _repeated(frames, Fraction(24), Fraction(30))[:count]

    return replace(plain, filters=("framerate=fps=30",), file_rate=Fraction(30), file_shown=shown)


def pulldown(_bench: Bench, plain: Encoding) -> Encoding:
    """3:2 pulldown: 24 frames become 60 interlaced fields."""

    def shown(_frames: int, count: int) -> NDArray[np.int64]:
        return np.array([4 * (i // 5) + (0, 1, 1, 2, 3)[i % 5] for i in range(count)])

    return replace(
        plain,
        filters=("telecine=first_field=top:pattern=23", "setfield=tff"),
        file_rate=Fraction(30),
        file_shown=shown,
        codec=_x264(22, more=("-flags", "+ilme+ildct")),
    )


def pulled_back(_bench: Bench, plain: Encoding) -> Encoding:
    """3:2 pulldown, and back to 24 frames."""
    return replace(
        plain,
        filters=("telecine=first_field=top:pattern=23", "fieldmatch", "decimate"),
        file_rate=Fraction(24),
        file_shown=lambda _frames, count: np.arange(count),
    )


def interlaced(bench: Bench, plain: Encoding) -> Encoding:
    """Interlaced, or interlaced and deinterlaced."""
    filters = ("setfield=tff",) if bench.number % 2 == 0 else ("setfield=tff", "bwdif=mode=send_frame:deint=all")
    flags = ("-flags", "+ilme+ildct") if bench.number % 2 == 0 else ()
    return replace(plain, filters=filters, codec=_x264(22, more=flags))


def letterbox(bench: Bench, plain: Encoding) -> Encoding:
    """Black bars above and below, or left and right."""
    return replace(plain, filters=(("pad=iw:ih*5/4:0:(oh-ih)/2", "pad=iw*4/3:ih:(ow-iw)/2:0")[bench.number % 2],))


def anamorphic(bench: Bench, plain: Encoding) -> Encoding:
    """Pixels that are not square."""
    height = round(480 * bench.shape[0] / bench.shape[1] / 2) * 2
    return replace(plain, filters=(f"scale=360:{height}", "setsar=4/3"))


def hdr(bench: Bench, plain: Encoding) -> Encoding:
    """HDR, as PQ or HLG."""
    transfer = ("smpte2084", "arib-std-b67")[bench.number % 2]
    stated = "setparams=color_primaries=bt709:color_trc=bt709:colorspace=bt709:range=tv"
    wide = f"zscale=p=bt2020:t={transfer}:m=bt2020nc:npl=203,format=yuv420p10le"
    tags = ("-color_primaries", "bt2020", "-color_trc", transfer, "-colorspace", "bt2020nc")
    options = ("-c:v", "libx265", "-preset", "ultrafast", "-crf", "20", "-x265-params", "log-level=none")
    return replace(plain, filters=(stated, wide), codec=(*options, *tags))


def loudness(bench: Bench, plain: Encoding) -> Encoding:
    """Softer or louder."""
    return replace(plain, sound_gain=(0.35, 1.8)[bench.number % 2])


def variable_rate(bench: Bench) -> Recipe:
    """A variable frame rate: frames that hardly differ are left out, and the others keep their times."""
    made = _silent(lambda _bench, plain: plain)(bench)
    count = len(made.edited.new.frames)
    kept = np.flatnonzero((bench.random.random(count) > 0.3) | (np.arange(count) // 100 % 2 == 0))
    if kept[0] != 0:
        kept = np.concatenate([[0], kept])
    new = replace(made.new, shown=kept, times=kept, sound_gain=None, codec=_x264(22, more=("-bf", "0")))
    return replace(made, old=replace(made.old, sound_gain=None), new=new)


def one_frame(bench: Bench) -> Recipe:
    """One frame more or less at an end."""
    made = _silent(lambda _bench, plain: plain)(bench)
    frames = made.edited.old.frames
    count = len(frames)
    at_start, fewer = bench.number % 2 == 0, bench.number < 2
    new = Cut(frames[1:] if at_start else frames[:-1])
    positions = np.arange(count - 1, dtype=np.float64) + (1.0 if at_start else 0.0)
    edited = Edited(made.edited.old, new, (Edit(EditKind.MATCHED, Frames(0, count), Frames(0, count - 1)),), positions)
    made = replace(made, edited=edited)
    return made if fewer else replace(made.swapped(), old=made.old, new=made.new)


HDR_KINDS = frozenset({ChangeKind.GRADE})

CLASSES = (
    PairClass("codec", "silent", _silent(codec), 4, swap=False),
    PairClass("reencode", "silent", _silent(reencode), 3, swap=False),
    PairClass("heavy", "silent", _silent(heavy), swap=False),
    PairClass("small", "silent", _silent(small), 1, swap=False),
    PairClass("large", "silent", _silent(large, frames=240), 1, swap=False),
    PairClass("grain", "silent", _silent(grain), swap=False),
    PairClass("ten-bits", "silent", _silent(ten_bits), 1, swap=False),
    PairClass("conformed", "silent", _silent(conformed), swap=False),
    PairClass("converted", "silent", _silent(converted), 3, swap=False),
    PairClass("blended", "silent", _silent(blended), 1, swap=False),
    PairClass("pulldown", "silent", _silent(pulldown), 1, swap=False),
    PairClass("pulled-back", "silent", _silent(pulled_back), 1, swap=False),
    PairClass("interlaced", "silent", _silent(interlaced), swap=False),
    PairClass("variable-rate", "silent", variable_rate, 1, swap=False),
    PairClass("letterbox", "silent", _silent(letterbox), swap=False),
    PairClass("anamorphic", "silent", _silent(anamorphic), 1, swap=False),
    PairClass("hdr", "silent", _silent(hdr, tolerated=HDR_KINDS), swap=False),
    PairClass("loudness", "silent", _silent(loudness), swap=False),
    PairClass("one-frame", "silent", one_frame, 4, swap=False),
)
