"""What a file states about itself: geometry, colour, fields, timecode, audio tracks."""

import re
from collections.abc import Iterator, Mapping
from fractions import Fraction

from av.container import InputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from sage_ingest.videos.model import AudioTrack, Color, ColorRange, FieldOrder, Timecode

# FFmpeg's names (`av_color_primaries_name` and so on) of the code points of ITU-T H.273, tables 2 to 4. 2 is unknown.
_PRIMARIES = {
    1: "bt709",
    4: "bt470m",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    8: "film",
    9: "bt2020",
    10: "smpte428",
    11: "smpte431",
    12: "smpte432",
    22: "ebu3213",
}
_TRANSFERS = {
    1: "bt709",
    4: "bt470m",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    8: "linear",
    9: "log100",
    10: "log316",
    11: "iec61966-2-4",
    12: "bt1361e",
    13: "iec61966-2-1",
    14: "bt2020-10",
    15: "bt2020-12",
    16: "smpte2084",
    17: "smpte428",
    18: "arib-std-b67",
}
_MATRICES = {
    0: "gbr",
    1: "bt709",
    4: "fcc",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    8: "ycgco",
    9: "bt2020nc",
    10: "bt2020c",
    11: "smpte2085",
    12: "chroma-derived-nc",
    13: "chroma-derived-c",
    14: "ictcp",
    15: "ipt-c2",
    16: "ycgco-re",
    17: "ycgco-ro",
}
# AVColorRange: MPEG and JPEG.
_RANGES = {1: ColorRange.LIMITED, 2: ColorRange.FULL}
# AVFieldOrder. Of TB and BT the first letter is the field that is coded first, the second the one displayed first.
_FIELD_ORDERS = {
    1: FieldOrder.PROGRESSIVE,
    2: FieldOrder.TOP_FIRST,
    3: FieldOrder.BOTTOM_FIRST,
    4: FieldOrder.BOTTOM_FIRST,
    5: FieldOrder.TOP_FIRST,
}
# Far beyond every real picture. A file may state up to 2**31, with which the displayed width fits in no 32 bits.
_MAX_PIXEL_ASPECT = Fraction(100)
# No language tag needs more (RFC 5646, section 4.4.1). Matroska has room for megabytes, which no result may have.
_MAX_LANGUAGE_CHARS = 35
# SMPTE 12M: a semicolon, or in some files a dot, before the frames means drop-frame.
_TIMECODE = re.compile(r"(\d{2}):(\d{2}):(\d{2})([:;.])(\d{2,3})")


def sample_aspect_ratio(stream: VideoStream) -> Fraction:
    """Return the width of a pixel divided by its height; 1 if the file states none, or one that cannot be meant."""
    ratio = stream.sample_aspect_ratio
    return ratio if ratio is not None and 1 / _MAX_PIXEL_ASPECT <= ratio <= _MAX_PIXEL_ASPECT else Fraction(1)


def field_order(context: VideoCodecContext) -> FieldOrder:
    """Return how the picture's fields are displayed."""
    return _FIELD_ORDERS.get(int(context.field_order), FieldOrder.UNSPECIFIED)


def color(frame: VideoFrame) -> Color | None:
    """Return how the picture's values map to colors, or `None` if the file does not say."""
    described = Color(
        primaries=_PRIMARIES.get(int(frame.color_primaries), ""),
        transfer=_TRANSFERS.get(int(frame.color_trc), ""),
        matrix=_MATRICES.get(int(frame.colorspace), ""),
        range=_RANGES.get(int(frame.color_range), ColorRange.UNSPECIFIED),
    )
    return None if described == Color() else described


def start_timecode(container: InputContainer, stream: VideoStream) -> Timecode | None:
    """Return the timecode of the first frame, which FFmpeg reads from the container, the picture or a `tmcd` track.

    Timecodes inside the coded picture are not read: MPEG-2 streams have one in each group of pictures, usually
    00:00:00:00 because the encoder had no timecode to write.
    """
    for metadata in _metadata(container, stream):
        match = _TIMECODE.fullmatch(_tag(metadata, "timecode"))
        if match is not None:
            hours, minutes, seconds, frames = (int(match[group]) for group in (1, 2, 3, 5))
            if hours < 24 and minutes < 60 and seconds < 60:
                return Timecode(hours, minutes, seconds, frames, drop_frame=match[4] != ":")
    return None


def _tag(metadata: Mapping[str, str], name: str) -> str:
    # Matroska writes tag names in capitals.
    return next((value.strip() for key, value in metadata.items() if key.lower() == name), "")


def _metadata(container: InputContainer, stream: VideoStream) -> Iterator[Mapping[str, str]]:
    yield stream.metadata
    yield from (other.metadata for other in container.streams.data)
    yield container.metadata


def audio_tracks(container: InputContainer) -> tuple[AudioTrack, ...]:
    """Return the audio tracks in the order of the file."""
    tracks = []
    for stream in container.streams.audio:
        language = _tag(stream.metadata, "language")
        # ISO 639-2 has `und` for "undetermined".
        language = "" if language == "und" or len(language) > _MAX_LANGUAGE_CHARS else language
        # Typed as always present; it is absent if FFmpeg has no decoder.
        context = getattr(stream, "codec_context", None)
        if context is None:
            tracks.append(AudioTrack(codec="unknown", channels=0, sample_rate=0, language=language))
            continue
        layout = context.layout
        # FFmpeg describes channels in an unknown order as `3 channels`.
        name = "" if layout.name.endswith("channels") else layout.name
        tracks.append(AudioTrack(context.name, layout.nb_channels, context.sample_rate, name, language))
    return tuple(tracks)
