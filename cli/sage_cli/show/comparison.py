"""A comparison as this client shows it: the service's messages, with names for people.

The old film is `a` in the contract, the new one is `b`.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from sage.compare.v1 import compare_pb2
from sage.ingest.v1 import media_pb2

from sage_cli.show.timecode import FrameRate, TimeNames

Kind: TypeAlias = compare_pb2.DifferenceKind.ValueType

# The contract's default for a request that leaves the tracks open.
DEFAULT_TRACK = "visual"
SOUND_TRACK = "audio"
KIND_NAMES: dict[Kind, str] = {
    compare_pb2.DIFFERENCE_KIND_CHANGED: "changed",
    compare_pb2.DIFFERENCE_KIND_ONLY_IN_A: "only in old",
    compare_pb2.DIFFERENCE_KIND_ONLY_IN_B: "only in new",
    compare_pb2.DIFFERENCE_KIND_NOT_COMPARED: "not compared",
}
METRIC_NAMES = {compare_pb2.METRIC_COSINE: "cosine", compare_pb2.METRIC_EUCLIDEAN: "euclidean"}
_TRACK_NOUNS = {"visual": "picture", "audio": "sound", "transcription": "speech"}
# By the contract, times within 0.1 s of each other are equal in mode TIME; the rest is for rounding.
_SAME_MOMENT_SECONDS = 0.1 + 1e-6
# Where sound begins and ends is known less exactly than the picture.
_SOUND_EDGE_SECONDS = 0.5


@dataclass(frozen=True)
class Film:
    """One of the two films.

    Attributes:
        label: Its name: the path that was given, or the name that it was uploaded under.
        media: What its file holds.
        from_zero: Whether times are counted from 0, whatever the timecode of the file.
    """

    label: str
    media: media_pb2.Media
    from_zero: bool = False

    @property
    def frame_rate(self) -> FrameRate | None:
        """Its frame rate, or None if the file does not state one."""
        return FrameRate.read(self.media)

    @property
    def duration_seconds(self) -> float:
        """Its length."""
        return self.media.duration_seconds

    @property
    def times(self) -> TimeNames:
        """The names of its times: timecode, or clock time if its frames have none."""
        return TimeNames.read(self.media, from_zero=self.from_zero)


@dataclass(frozen=True)
class Comparison:
    """Two films and where they differ.

    Attributes:
        response: What the service found.
        old: Film a.
        new: Film b.
        clip_seconds: Length of a clip of both embeddings.
    """

    response: compare_pb2.CompareEmbeddingsResponse
    old: Film
    new: Film
    clip_seconds: float

    @property
    def films(self) -> tuple[Film, Film]:
        """Both films."""
        return self.old, self.new

    @property
    def tracks(self) -> Sequence[compare_pb2.TrackComparison]:
        """What was found in each track, in the order of the request."""
        return self.response.tracks

    @property
    def counted_media_differences(self) -> Sequence[compare_pb2.MediaDifference]:
        """The differences between the files' media that count."""
        return [one for one in self.response.media_differences if one.counts_as_difference]

    @property
    def differ(self) -> bool:
        """Whether any track has a difference or an edit, or is not compared before its tail, or the media differ."""
        return any(self.found_in(track) for track in self.tracks) or bool(self.counted_media_differences)

    @property
    def aligned(self) -> bool:
        """Whether the films were aligned, so that every track has an edit script."""
        return self.response.mode == compare_pb2.COMPARE_MODE_ALIGNED

    def found_in(
        self, track: compare_pb2.TrackComparison
    ) -> Sequence[compare_pb2.Difference] | Sequence[compare_pb2.Edit]:
        """Return the differences of a track, without the tail that no clip covers; or the edits of its script."""
        if self.aligned:
            return edits_in(track)
        tail = self.tail_of(track)
        return [difference for difference in track.time.differences if difference is not tail]

    def tail_of(self, track: compare_pb2.TrackComparison) -> compare_pb2.Difference | None:
        """Return the end of both films that a track's clips leave out, if nothing else was left out there.

        Some models drop a short last clip. Nearly every film has such an end, so counting it would report a difference
        for all of them. It is shorter than a clip, both films end with it, and everything before it was compared; any
        other part that was not compared counts as a difference.
        """
        last = track.time.differences[-1] if track.time.differences and track.time.compared_count else None
        if last is None or last.kind != compare_pb2.DIFFERENCE_KIND_NOT_COMPARED:
            return None
        if not (last.HasField("a") and last.HasField("b")):
            return None
        ends = ((last.a, self.old), (last.b, self.new))
        at_end = all(abs(where.end_seconds - film.duration_seconds) <= _SAME_MOMENT_SECONDS for where, film in ends)
        return last if at_end and last.a.end_seconds - last.a.start_seconds < self.clip_seconds else None


def edits_in(
    track: compare_pb2.TrackComparison, *, beside: compare_pb2.TrackComparison | None = None
) -> Sequence[compare_pb2.Edit]:
    """Return the edits of a track's script that differ.

    Args:
        track: The track.
        beside: Another track whose edits are left out: the sound is cut like the picture, and replaced with it.
    """
    found = [edit for edit in track.script.edits if edit.kind != compare_pb2.EDIT_KIND_MATCHED]
    if beside is None:
        return found
    others = edits_in(beside)
    known = {_cut(edit) for edit in others}
    return [
        edit
        for edit in found
        if (edit.kind == compare_pb2.EDIT_KIND_CHANGED or edit.changes or _cut(edit) not in known)
        and not any(replaced_together(other, edit) for other in others)
    ]


def replaced_together(picture: compare_pb2.Edit, sound: compare_pb2.Edit) -> bool:
    """Return whether the sound is another because the picture is."""
    kinds = [{change.kind for change in edit.changes} for edit in (picture, sound)]
    return (
        picture.kind == sound.kind == compare_pb2.EDIT_KIND_CHANGED
        and compare_pb2.CHANGE_KIND_REPLACED in kinds[0]
        and kinds[1] == {compare_pb2.CHANGE_KIND_SOUND_REPLACED}
        and sound.b.start_seconds >= picture.b.start_seconds - _SOUND_EDGE_SECONDS
        and sound.b.end_seconds <= picture.b.end_seconds + _SOUND_EDGE_SECONDS
    )


def _cut(edit: compare_pb2.Edit) -> tuple[int, float, float, float, float]:
    return edit.kind, edit.a.start_seconds, edit.a.end_seconds, edit.b.start_seconds, edit.b.end_seconds


def noun_of(track: compare_pb2.TrackComparison) -> str:
    """Return the display name of a track: `picture` for `visual`."""
    return noun_of_track(track.name)


def noun_of_track(name: str) -> str:
    """Return the display name of the track with a name."""
    return _TRACK_NOUNS.get(name, name)


def kind_of(difference: compare_pb2.Difference) -> Kind:
    """Return the kind of a difference. An unknown kind, from a newer server, counts as a change."""
    return difference.kind if difference.kind in KIND_NAMES else compare_pb2.DIFFERENCE_KIND_CHANGED


def over_threshold(distance: float, threshold: float) -> bool:
    """Return whether an interval differs: by the contract both numbers are compared as float32."""
    return _float32(distance) > _float32(threshold)


def _float32(value: float) -> float:
    rounded: float = struct.unpack("f", struct.pack("f", value))[0]
    return rounded
