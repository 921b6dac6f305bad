"""What a comparison says beyond its tracks, in words: differences between the files, and what was not compared."""

from collections.abc import Iterator

from sage.compare.v1 import compare_pb2
from sage.ingest.v1 import media_pb2

from sage_cli.show.comparison import Comparison, noun_of_track

_HDR_NAMES = {"PQ": "HDR (PQ)", "HLG": "HDR (HLG)"}
# What differs, and what follows from it.
_PRESENTATION: dict[compare_pb2.MediaDifferenceKind.ValueType, tuple[str, str]] = {
    compare_pb2.MEDIA_DIFFERENCE_KIND_DYNAMIC_RANGE: ("Dynamic range", ", so colours differ everywhere"),
    compare_pb2.MEDIA_DIFFERENCE_KIND_ASPECT_RATIO: ("Aspect ratio", "; one may be cropped or letterboxed"),
    compare_pb2.MEDIA_DIFFERENCE_KIND_SCAN: ("Scan", ""),
    compare_pb2.MEDIA_DIFFERENCE_KIND_MIRRORING: ("Mirroring", ""),
    compare_pb2.MEDIA_DIFFERENCE_KIND_BLACK_BARS: ("Black bars", ", so pictures differ everywhere"),
}


def describe_media_difference(difference: compare_pb2.MediaDifference, *, explains: bool = True) -> str:
    """Return a sentence about a difference between the media of the two files.

    Args:
        difference: What differs.
        explains: Whether to say what follows from it for pictures that are compared at equal times.
    """
    kind, a, b = difference.kind, difference.a, difference.b
    track = f"Audio track {difference.audio_track + 1}"
    if kind == compare_pb2.MEDIA_DIFFERENCE_KIND_AUDIO_TRACK_COUNT:
        return f"Audio tracks: {_count(a)} in old, {_count(b)} in new."
    if kind == compare_pb2.MEDIA_DIFFERENCE_KIND_AUDIO_LAYOUT:
        return f"{track}: {a} in old, {b} in new."
    if kind == compare_pb2.MEDIA_DIFFERENCE_KIND_AUDIO_LANGUAGE:
        return f"{track}: language {a} in old, {b} in new."
    # A kind of a newer server has no words here.
    what, consequence = _PRESENTATION.get(kind, ("The files", ""))
    return f"{what}: {_HDR_NAMES.get(a, a)} in old, {_HDR_NAMES.get(b, b)} in new{consequence if explains else ''}."


def describe_not_compared(comparison: Comparison) -> Iterator[str]:
    """Yield a sentence about each part of both films that was not compared."""
    response = comparison.response
    compared = [track.name for track in comparison.tracks]
    if response.a.video_id == response.b.video_id:
        yield "Old and new are the same file."
    elif "audio" not in compared and not any(film.media.audio_tracks for film in comparison.films):
        yield "Neither film has sound."
    for part in response.not_compared:
        noun = noun_of_track(part.track)
        if part.reason == compare_pb2.NOT_COMPARED_REASON_OTHER_TRACKS:
            yield f"One track of {noun} per file was compared; the others were not."
            continue
        why = "."
        if part.reason == compare_pb2.NOT_COMPARED_REASON_MODEL_LACKS_TRACK:
            why = f": model {response.model} has no {part.track} track."
        elif part.reason == compare_pb2.NOT_COMPARED_REASON_NOT_REQUESTED:
            options = " ".join(f"--track {name}" for name in (*compared, part.track))
            why = f": it was not requested. Use {options}."
        yield f"{noun.capitalize()} was not compared{why}"


def describe_picture_tracks(comparison: Comparison) -> Iterator[str]:
    """Yield which picture track was taken from each file that has several."""
    for name, film in zip(("old", "new"), comparison.films, strict=True):
        if words := picture_track(film.media):
            yield f"Picture of {name}: {words}; --video-track chooses another."


def picture_track(media: media_pb2.Media) -> str:
    """Return which picture track of a file is the film, such as `track 1 of 0 to 2`.

    Empty if there was no choice: the file has only one, apart from pictures that it marks as covers.
    """
    tracks = media.video_tracks
    if sum(not track.is_cover or index == media.video_track for index, track in enumerate(tracks)) < 2:
        return ""
    return f"track {media.video_track} of 0 to {len(tracks) - 1} ({media.video_codec} {media.width}×{media.height})"


def _count(number: str) -> str:
    return "none" if number == "0" else number
