"""What a script says beyond its edits, in words: what was taken out, and what could be ignored."""

from sage.compare.v1 import compare_pb2

from sage_cli.show.script.words import place

_HDR_NAMES = {"PQ": "HDR (PQ)", "HLG": "HDR (HLG)"}
_NONE = "none"


def describe_normalization(normalization: compare_pb2.Normalization) -> str:
    """Return a sentence about a difference between the files that was taken out."""
    kind, a, b = normalization.kind, normalization.a, normalization.b
    if kind == compare_pb2.NORMALIZATION_KIND_BLACK_BARS:
        bars = [f"{bars} in {film}" for bars, film in ((a, "old"), (b, "new")) if bars not in {"", _NONE}]
        sentence = ", ".join(bars) or "Black bars"
        return f"{sentence[0].upper()}{sentence[1:]}: ignored."
    if kind == compare_pb2.NORMALIZATION_KIND_FRAME_RATE_CONFORMED:
        return f"{a} fps in old against {b} fps in new: conformed, the frames are the same."
    if kind == compare_pb2.NORMALIZATION_KIND_FRAME_RATE_CONVERTED:
        return f"{a} fps in old against {b} fps in new: converted, repeated and dropped frames are ignored."
    if kind == compare_pb2.NORMALIZATION_KIND_TONE:
        return f"{_HDR_NAMES.get(a, a)} in old against {_HDR_NAMES.get(b, b)} in new: the tone curve is ignored."
    if kind == compare_pb2.NORMALIZATION_KIND_LOUDNESS:
        return f"{_louder(b)}: ignored."
    if kind == compare_pb2.NORMALIZATION_KIND_END_FRAMES:
        more = [
            f"{count} frame{'s' * (count != '1')} more at the ends of {film}"
            for count, film in ((a, "old"), (b, "new"))
            if count != "0"
        ]
        return f"{' and '.join(more)}: ignored."
    return f"{a} in old against {b} in new: ignored."


def _louder(decibels: str) -> str:
    try:
        amount = float(decibels.removesuffix("dB"))
    except ValueError:
        return f"Loudness {decibels} throughout"
    return f"New is {abs(amount):.2g} dB {'softer' if amount < 0 else 'louder'} throughout"


def describe_burn_in(burn_in: compare_pb2.BurnIn) -> str:
    """Return a sentence about a part of the picture that differs almost everywhere, and the option that ignores it."""
    sides = {compare_pb2.CHANGE_SIDE_A: ("old", "old:"), compare_pb2.CHANGE_SIDE_B: ("new", "new:")}
    film, prefix = sides.get(burn_in.side, ("both films", ""))
    region = burn_in.region
    # Whole percents around it, so that nothing of it remains.
    left, top = int(region.x * 100), int(region.y * 100)
    right = min(100, -int(-(region.x + region.width) * 100 // 1))
    bottom = min(100, -int(-(region.y + region.height) * 100 // 1))
    where = place(region)
    at = " " if not where else " in the centre " if where == "centre" else f" at the {where} "
    return (
        f"A burn-in{at}of {film} differs in {burn_in.frame_share:.0%} of the frames: "
        f"--ignore-region {prefix}{left}%,{top}%,{right - left}%,{bottom - top}% hides it."
    )
