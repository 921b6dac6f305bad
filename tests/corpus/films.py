"""The table of films: what each is, how it is made, and what must be measured, or why it must be refused."""

import functools
import io
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from corpus import encrypted
from corpus.maker import Track, copy_film, make_film, raw_film
from sage_ingest.videos.model import FieldOrder, FrameRateMode, PictureArea, Timecode
from support.small_films import sound_with_cover

HERE = Path(__file__).parent
NTSC = Fraction(30000, 1001)
FILM = Fraction(24000, 1001)
FRAGMENTED = (("movflags", "frag_keyframe+empty_moov+default_base_moof"),)
VP8 = (("auto-alt-ref", "1"), ("lag-in-frames", "16"), ("b", "100k"))
VP9 = (("deadline", "realtime"), ("cpu-used", "8"))
B_FRAMES = (("bf", "2"),)
PYRAMID = (("bf", "8"), ("x264-params", "b-adapt=0:b-pyramid=normal"))
ULTRAFAST = (("preset", "ultrafast"), ("bf", "0"))
INTERLACED = (("x264-params", "interlaced=1"),)
UNEVEN = (0, 0.04, 0.08, 0.2, 0.24, 0.5, 0.9, 1.0)
# Damage may hide packets.
UNCOUNTED = {"frame_count": None, "frame_rate": None, "frame_rate_mode": None}
COVER = Track("mjpeg", frames=1, size=(320, 240), pix_fmt="yuvj420p")
SHORT = Track(frames=10, size=(160, 96), shade=90)
SMALL = Track(size=(64, 48), shade=90)
PAL = (720, 576)
DNXHR = Track("dnxhd", frames=10, size=(256, 128), pix_fmt="yuv422p", options=(("profile", "dnxhr_lb"),))


@dataclass(frozen=True)
class Film:
    """A row of the table.

    Attributes:
        name: What is special about it.
        make: Makes it.
        seconds: Its length.
        frames: How many frames a player shows.
        rate: Frames per second.
        even: Whether every frame has the same duration; `None`: there are too few to tell.
        media: Further fields of `Media`.
        lost: Frames that cannot be decoded, which the container counts.
        refusal: Why it must be refused: part of the sentence; empty: it must not.
    """

    name: str
    make: Callable[[], bytes]
    seconds: float = 2.0
    frames: int = 50
    rate: Fraction = Fraction(25)
    even: bool | None = True
    media: Mapping[str, Any] = field(default_factory=dict)
    lost: int = 0
    refusal: str = ""

    @functools.cached_property
    def content(self) -> bytes:
        """The file."""
        return self.make()

    @property
    def mode(self) -> FrameRateMode:
        """Whether every frame has the same duration."""
        modes = {None: FrameRateMode.UNSPECIFIED, True: FrameRateMode.CONSTANT, False: FrameRateMode.VARIABLE}
        return modes[self.even]


def _of(container: str, *tracks: Track, **how: Any) -> Callable[[], bytes]:
    return functools.partial(make_film, container, *tracks, **how)


def _cut(make: Callable[[], bytes], share: float = 0.6) -> Callable[[], bytes]:
    return lambda: (film := make())[: int(len(film) * share)]


def _joined(*parts: Callable[[], bytes]) -> Callable[[], bytes]:
    return lambda: b"".join(part() for part in parts)


def _edited(*, hide_seconds: float = 0.0, seconds: float = 2.0) -> Callable[[], bytes]:
    """Return a film of which an edit list hides the beginning, and what follows a length."""

    def make() -> bytes:
        film = bytearray(make_film("mov"))
        at = film.index(b"elst") + 12
        _, media_time = struct.unpack_from(">II", film, at)
        header = film.index(b"mdhd")
        (timescale,) = struct.unpack_from(">I", film, header + 16)
        struct.pack_into(">II", film, at, round(seconds * 1000), media_time + round(hide_seconds * timescale))
        return bytes(film)

    return make


def _damaged(make: Callable[[], bytes], start: float, end: float) -> Callable[[], bytes]:
    def damaged() -> bytes:
        film = bytearray(make())
        first, last = int(len(film) * start) // 188 * 188, int(len(film) * end)
        for at in range(first, last, 188):
            film[at + 20 : at + 180] = b"\x55" * 160
        return bytes(film)

    return damaged


def _unsupported(frames: range) -> Callable[[], bytes]:
    """Return a film of JPEG 2000 of which FFmpeg calls some frames "not implemented"."""

    def make() -> bytes:
        film = bytearray(make_film("mov", Track("jpeg2000")))
        with av.open(io.BytesIO(bytes(film))) as container:
            at = [packet.pos for packet in container.demux(video=0) if packet.size]
        for number in frames:
            # In the marker segment of the coding style.
            film[at[number] + 93] ^= 0xFF
        return bytes(film)

    return make


def _rates() -> list[Film]:
    films = []
    for rate in (Fraction(60000, 1001), Fraction(48000, 1001), FILM, NTSC, Fraction(10), Fraction(1), Fraction(1, 2)):
        frames = min(40, max(6, int(rate * 2)))
        for container in ("mp4", "matroska", "mpegts", "flv", "avi"):
            make = _of(container, Track(rate=rate, frames=frames))
            films.append(Film(f"{container} at {rate}", make, float(frames / rate), frames, rate))
    return films


CONTAINERS = [
    Film("mp4", _of("mp4")),
    Film("mp4 with its index in front", _of("mp4", options=[("movflags", "faststart")])),
    Film("mp4 in fragments", _of("mp4", options=FRAGMENTED)),
    Film("mp4 av1", _of("mp4", Track("libsvtav1"))),
    Film("mp4 in letterbox", _of("mp4", Track(bar=16)), media={"active_picture": PictureArea(0, 16, 96, 32)}),
    Film("mov prores", _of("mov", Track("prores_ks", pix_fmt="yuv422p10le"))),
    Film("mov dnxhr", _of("mov", DNXHR), 0.4, 10),
    Film("mov qtrle", _of("mov", Track("qtrle", pix_fmt="rgb24"))),
    Film("mov png", _of("mov", Track("png", pix_fmt="rgb24"))),
    Film("mov mjpeg", _of("mov", Track("mjpeg", pix_fmt="yuvj420p"))),
    Film("mov jpeg2000", _of("mov", Track("jpeg2000"))),
    Film("3gp h263", _of("3gp", Track("h263", size=(176, 144)))),
    Film("matroska", _of("matroska")),
    Film("matroska hevc", _of("matroska", Track("libx265"))),
    Film("matroska ffv1", _of("matroska", Track("ffv1"))),
    Film("matroska without index", _of("matroska", options=[("live", "1")])),
    Film("webm vp8 with hidden frames", _of("webm", Track("libvpx", options=VP8))),
    Film("webm vp9", _of("webm", Track("libvpx-vp9", options=VP9))),
    Film("avi mpeg4", _of("avi", Track("mpeg4"))),
    Film("avi mpeg4 with B-frames", _of("avi", Track("mpeg4", options=B_FRAMES))),
    Film("avi mjpeg", _of("avi", Track("mjpeg", pix_fmt="yuvj420p"))),
    # As copying without encoding makes it: a slot every 1/50 s, half of them empty.
    Film("avi copied from a transport stream", lambda: copy_film(make_film("mpegts"), "avi")),
    # Its decoder does not say that frames wait, and FFmpeg guesses their times as if they did.
    Film("avi copied, without B-frames", lambda: copy_film(make_film("mpegts", Track(options=ULTRAFAST)), "avi")),
    Film("mpegts mpeg2", _of("mpegts", Track("mpeg2video", options=B_FRAMES))),
    Film("mpegts hevc", _of("mpegts", Track("libx265"))),
    # Recorders that decrypt leave it.
    Film(
        "mpegts with a descriptor of encryption, in the clear",
        encrypted.transport_map(encrypted.with_access_descriptor),
    ),
    Film("vob", _of("vob", Track("mpeg2video", options=B_FRAMES))),
    Film("mpeg1", _of("mpeg", Track("mpeg1video", options=B_FRAMES))),
    Film("flv sorenson", _of("flv", Track("flv"))),
    Film("asf wmv2", _of("asf", Track("wmv2"))),
    Film("asf with B-frames", _of("asf")),
    Film("mxf mpeg2", _of("mxf", Track("mpeg2video", size=PAL, frames=12, options=B_FRAMES)), 0.48, 12),
    Film("mxf h264", _of("mxf", Track(size=PAL, frames=12)), 0.48, 12),
    Film("mxf jpeg2000", _of("mxf", Track("jpeg2000"))),
    Film("mxf op-atom", _of("mxf_opatom", DNXHR), 0.4, 10),
    Film("gxf", _of("gxf", Track("mpeg2video", size=PAL, frames=12)), 0.48, 12),
    Film("dv", _of("dv", Track("dvvideo", size=PAL, frames=10)), 0.4, 10),
    Film("nut", _of("nut")),
    Film("rm", _of("rm", Track("rv20"))),
    Film("ivf vp8", _of("ivf", Track("libvpx", options=VP8))),
    Film("ivf vp9", _of("ivf", Track("libvpx-vp9", options=VP9))),
    Film("y4m", _of("yuv4mpegpipe", Track("rawvideo"))),
    Film("ogg vp8", _of("ogg", Track("libvpx"))),
    Film(
        "ogg theora whose repeated frames are empty packets", (HERE / "still.ogv").read_bytes, 61 / 24, 61, Fraction(24)
    ),
]

KINDS = [
    *_rates(),
    Film("mp4 with uneven frames", _of("mp4", Track(times=UNEVEN)), 1.04, 8, Fraction(100, 13), even=False),
    Film("matroska with uneven frames", _of("matroska", Track(times=UNEVEN)), 1.04, 8, Fraction(100, 13), even=False),
    Film("one frame", _of("mp4", Track(frames=1)), 0.04, 1, even=None),
    Film(
        "interlaced",
        _of("mp4", Track(options=INTERLACED)),
        media={"field_order": FieldOrder.TOP_FIRST},
    ),
    Film(
        # Two fields of a frame, then three, as on discs of 24 frames a second for television.
        "telecine",
        _of("matroska", Track(times=tuple(round(i / FILM + i % 2 / 120, 3) for i in range(48)))),
        float(47 / FILM) + 1 / 120 + 0.04,
        48,
        even=False,
        media={"frame_rate": None, "duration_seconds": None},
    ),
    *(
        Film(
            f"display matrix {matrix}",
            _of("mp4", Track(matrix=matrix)),
            media={"mirrored": mirrored, "rotation_degrees": degrees},
        )
        for matrix, mirrored, degrees in [
            ((0, 1, -1, 0), False, 90),
            ((-1, 0, 0, -1), False, 180),
            ((0, -1, 1, 0), False, 270),
            ((-1, 0, 0, 1), True, 0),
            ((1, 0, 0, -1), True, 180),
            ((0, -1, -1, 0), True, 90),
        ]
    ),
    *(
        Film(
            f"{container} with timecode {code}",
            _of(container, Track(codec, rate=rate, frames=12, size=size), metadata=[("timecode", code)]),
            float(12 / rate),
            12,
            rate,
            media={"start_timecode": Timecode(*map(int, code.replace(";", ":").split(":")), drop_frame=";" in code)},
        )
        for container, codec, size in [("mov", "libx264", (96, 64)), ("mxf", "mpeg2video", (720, 480))]
        for rate, code in [(Fraction(25), "10:00:00:00"), (NTSC, "01:00:00:00"), (NTSC, "01:00:00;00")]
    ),
    Film("edit list that hides the beginning", _edited(hide_seconds=0.6, seconds=1.4), 1.4, 35),
    Film("edit list that hides the end", _edited(seconds=1.2), 1.2, 30),
    Film("edit list that hides both", _edited(hide_seconds=0.4, seconds=0.8), 0.8, 20),
    Film("picture that begins late", _of("mp4", Track(start=Fraction(3))), media={"start_offset_seconds": 3.0}),
]

TRACKS = [
    Film(
        f"{container} with a cover that is not marked",
        _of(container, COVER, Track()),
        media={"video_track": 1, "width": 96},
    )
    for container in ("mp4", "matroska")
] + [
    Film(
        "a default track that is second", _of("matroska", SMALL, Track(disposition="default")), media={"video_track": 1}
    ),
    Film("a short track first", _of("mpegts", SHORT, Track()), media={"video_track": 1, "width": 96}),
    Film("a small track first", _of("mpegts", SMALL, Track()), media={"video_track": 1, "width": 96}),
    Film(
        "a default track without a picture",
        _of(
            "matroska",
            SMALL,
            Track(disposition="default"),
            change=lambda _, packet: packet if packet.stream.index == 0 else None,
        ),
        media={"video_track": 0, "width": 64},
    ),
    Film("cover art and no film", sound_with_cover, refusal="no picture track"),
]

JUMPS = [
    Film(
        f"{container} whose clock starts again",
        _joined(
            _of(container, replace(track, start=Fraction(5))),
            _of(container, replace(track, start=Fraction(5), shade=90)),
        ),
        2 * track.frames / 25,
        2 * track.frames,
        media={"timestamps_jump": True},
    )
    for container, track in [
        ("mpegts", Track()),
        ("mpegts", Track("mpeg2video")),
        ("vob", Track("mpeg2video", size=PAL, frames=30)),
    ]
] + [
    Film(
        "clock that jumps an hour ahead",
        _joined(_of("mpegts"), _of("mpegts", Track(start=Fraction(3600), shade=90))),
        4.0,
        100,
        media={"timestamps_jump": True},
    ),
    Film(
        "three parts in no order",
        _joined(*(_of("mpegts", Track(start=Fraction(start), shade=start % 100)) for start in (1000, 20, 500))),
        6.0,
        150,
        media={"timestamps_jump": True},
    ),
    Film(
        "ogg vp8, joined",
        _joined(_of("ogg", Track("libvpx")), _of("ogg", Track("libvpx", shade=90))),
        4.0,
        100,
        media={"timestamps_jump": True},
    ),
    Film(
        "ogg theora, joined",
        lambda: 2 * (HERE / "still.ogv").read_bytes(),
        122 / 24,
        122,
        Fraction(24),
        media={"timestamps_jump": True},
    ),
    Film(
        "matroska with frames far out of order, joined",
        _joined(*(_of("matroska", Track(options=PYRAMID, shade=shade)) for shade in (0, 90))),
        4.0,
        100,
        media={"timestamps_jump": True},
    ),
    # FFmpeg finds the second picture track of the second part in the middle.
    Film(
        "parts with different tracks",
        _joined(_of("mpegts"), _of("mpegts", Track(shade=90), SMALL)),
        4.0,
        100,
        media={"timestamps_jump": True},
    ),
    # Less than FFmpeg's threshold: the recording paused.
    Film(
        "time that passed",
        _joined(_of("mpegts", Track(start=Fraction(1))), _of("mpegts", Track(start=Fraction(6), shade=90))),
        7.0,
        100,
        Fraction(100, 7),
        even=False,
    ),
    Film(
        "asf with a long still before its last frame",
        _of("asf", Track("wmv2", times=(0, 0.04, 0.08, 0.12, 30))),
        30.04,
        5,
        Fraction(5) / Fraction("30.04"),
        even=False,
    ),
    Film(
        "matroska with a long still",
        _of("matroska", Track(times=(0, 0.04, 0.08, 60, 60.04))),
        60.08,
        5,
        Fraction(5) / Fraction("60.08"),
        even=False,
    ),
]

DAMAGED = [
    Film("frames that are not implemented", _unsupported(range(10, 15)), lost=5),
    Film(
        "transport stream that begins between keyframes",
        _of(
            "mpegts",
            Track(options=(("bf", "0"), ("sc_threshold", "0"))),
            change=lambda number, packet: packet if number >= 5 else None,
        ),
        1.52,
        38,
    ),
    Film("transport stream with damage", _damaged(_of("mpegts"), 0.4, 0.5), lost=50, media=UNCOUNTED),
]

REFUSED = [
    *(
        Film(f"truncated {name}", _cut(make), refusal="incomplete")
        for name, make in {
            "mp4": _of("mp4"),
            "mov prores": _of("mov", Track("prores_ks", pix_fmt="yuv422p10le")),
            "matroska": _of("matroska"),
            "avi": _of("avi", Track("mpeg4")),
            "mxf": _of("mxf", Track("mpeg2video", size=PAL, frames=12)),
            "mxf op-atom": _of("mxf_opatom", DNXHR),
            "gxf": _of("gxf", Track("mpeg2video", size=PAL, frames=12)),
            "flv": _of("flv"),
            "asf": _of("asf", Track("wmv2")),
            "ogg": _of("ogg", Track("libvpx")),
            "ivf": _of("ivf", Track("libvpx")),
            "y4m": _of("yuv4mpegpipe", Track("rawvideo")),
            "dv": _of("dv", Track("dvvideo", size=PAL, frames=9)),
            "rm": _of("rm", Track("rv20")),
        }.items()
    ),
    Film(
        "mxf that is cut at 97%", _cut(_of("mxf", Track("mpeg2video", size=PAL, frames=12)), 0.97), refusal="incomplete"
    ),
    *(
        Film(f"encrypted {name}", make, refusal="it is encrypted")
        for name, make in {
            "mp4": _of("mp4", options=encrypted.CENC),
            "mp4 in fragments": _of("mp4", options=(*encrypted.CENC, *FRAGMENTED)),
            "mp4 of apple's store": encrypted.fairplay,
            "matroska": encrypted.matroska,
            "asf": encrypted.asf("2211b3fb-bd23-11d2-b4b7-00a0c955fc6e"),
            "asf, extended": encrypted.asf("298ae614-2622-4c17-b935-dae07ee9289c"),
            "asf, advanced": encrypted.asf("43058533-6981-49e6-9b74-ad12cb86d58c", in_extension=True),
            "mxf": encrypted.mxf,
            "mxf by its metadata": encrypted.mxf_framework,
            "transport packets": lambda: encrypted.transport(in_packets=True),
            "pictures in a transport stream": lambda: encrypted.transport(in_packets=False),
            "samples of http live streaming": encrypted.transport_map(encrypted.as_sample_aes),
            "program stream": encrypted.program,
            "flv": encrypted.flv,
        }.items()
    ),
    Film("frames that are all not implemented", _unsupported(range(50)), refusal="its picture cannot be decoded"),
    Film("raw h264", lambda: raw_film("libx264"), refusal="it is H.264 video without a container"),
    Film("raw hevc", lambda: raw_film("libx265"), refusal="it is HEVC video without a container"),
    Film("raw mpeg2", lambda: raw_film("mpeg2video"), refusal="it is MPEG video without a container"),
    Film(
        "two frames a million hours apart",
        _of("matroska", Track(times=(0, 0.04, 3.6e9))),
        refusal="s long, and at most",
    ),
    Film("playlist", lambda: b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\na.ts\n", refusal="not in a video format"),
]

PLAYABLE = [*CONTAINERS, *KINDS, *(film for film in TRACKS if not film.refusal), *JUMPS, *DAMAGED]
ALL_REFUSED = [*REFUSED, *(film for film in TRACKS if film.refusal)]
