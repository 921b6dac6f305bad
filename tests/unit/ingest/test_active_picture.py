"""Black bars are found, and what only looks like them is not taken for them."""

import io
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import pytest
from corpus.maker import Track, make_film
from numpy.typing import NDArray
from sage_ingest.probing import active_picture
from sage_ingest.probing.measure import measure
from sage_ingest.videos.model import Media, PictureArea, media_from_json, media_to_json

SIZE = (160, 96)


@dataclass(frozen=True)
class Boxed(Track):
    """A picture track with black in it.

    Attributes:
        left, top, right, bottom: Black columns and rows.
        subtitle: Rows within the lower bar that are bright in the middle.
        vignette: How much darker each column is than the next one, from both sides.
        black: Frames that are black as a whole.
        opened: Frames without black.
    """

    size: tuple[int, int] = SIZE
    frames: int = 100
    shade: int = 90
    left: int = 0
    top: int = 0
    right: int = 0
    bottom: int = 0
    subtitle: range = range(0)
    vignette: int = 0
    black: range = range(0)
    opened: range = range(0)

    def picture(self, index: int) -> NDArray[np.uint8]:
        image = super().picture(index)
        if index in self.opened:
            return image
        width, height = self.size
        inside = np.zeros_like(image)
        if index not in self.black:
            rows, columns = slice(self.top, height - self.bottom), slice(self.left, width - self.right)
            inside[rows, columns] = image[rows, columns]
            inside[self.subtitle, width // 4 : -width // 4] = 235
        from_sides = np.minimum(np.arange(width), np.arange(width)[::-1])[:, np.newaxis]
        return np.minimum(inside, from_sides * self.vignette).astype(np.uint8) if self.vignette else inside


LETTERBOX = Boxed(top=16, bottom=16)
WITHIN_LETTERBOX = PictureArea(left=0, top=16, width=160, height=64)
WHOLE = PictureArea(left=0, top=0, width=160, height=96)


def measured(track: Track, container: str = "mp4") -> Media:
    film = make_film(container, track)
    return measure(io.BytesIO(film), size_bytes=len(film))


@pytest.mark.parametrize(
    ("track", "area"),
    [
        pytest.param(Boxed(), WHOLE, id="no bars"),
        pytest.param(LETTERBOX, WITHIN_LETTERBOX, id="letterbox"),
        pytest.param(Boxed(left=24, right=24), PictureArea(24, 0, 112, 96), id="pillarbox"),
        pytest.param(Boxed(left=24, right=24, top=16, bottom=16), PictureArea(24, 16, 112, 64), id="windowbox"),
        pytest.param(replace(LETTERBOX, black=range(60)), WITHIN_LETTERBOX, id="it fades in"),
        pytest.param(replace(LETTERBOX, opened=range(40, 60)), WHOLE, id="a scene without bars"),
        pytest.param(replace(LETTERBOX, subtitle=range(84, 90)), WITHIN_LETTERBOX, id="subtitles in a bar"),
        pytest.param(Boxed(vignette=2), WHOLE, id="a vignette"),
        pytest.param(Boxed(top=32, bottom=32), None, id="a band of 5:1"),
        pytest.param(Boxed(bottom=32), WHOLE, id="a dark floor"),
        pytest.param(Boxed(left=60, right=60), None, id="nothing but a small title"),
        pytest.param(Boxed(black=range(100)), None, id="nothing but black"),
        pytest.param(replace(LETTERBOX, frames=10), None, id="too few frames"),
        pytest.param(replace(LETTERBOX, options=(("g", "1000"),)), WITHIN_LETTERBOX, id="one keyframe"),
        pytest.param(replace(LETTERBOX, matrix=(0, 1, -1, 0)), WITHIN_LETTERBOX, id="turned"),
        pytest.param(replace(LETTERBOX, start=Fraction(3600)), WITHIN_LETTERBOX, id="clock starts at an hour"),
    ],
)
def test_black_bars_are_those_of_every_frame(track: Boxed, area: PictureArea | None) -> None:
    assert measured(track).active_picture == area


@pytest.mark.parametrize(
    ("container", "codec", "pix_fmt"),
    [
        ("matroska", "libx265", "yuv420p10le"),
        ("mov", "prores_ks", "yuv422p10le"),
        ("avi", "mjpeg", "yuvj420p"),
        ("mpegts", "mpeg2video", "yuv420p"),
        ("mxf", "mpeg2video", "yuv420p"),
        ("mov", "qtrle", "rgb24"),
    ],
)
def test_every_kind_of_film_can_have_bars(container: str, codec: str, pix_fmt: str) -> None:
    track = replace(LETTERBOX, codec=codec, pix_fmt=pix_fmt)
    assert measured(track, container).active_picture == WITHIN_LETTERBOX


def test_films_that_are_costly_to_look_at_are_accepted_without(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("_MAX_BYTES", "_MAX_CPU_S", "_MAX_S"):
        with monkeypatch.context() as context:
            context.setattr(active_picture, limit, 0)
            assert measured(LETTERBOX).active_picture is None


def test_it_is_stored_and_rows_from_before_have_none() -> None:
    media = measured(LETTERBOX)
    stored = media_to_json(media)
    assert media_from_json(stored) == media
    del stored["active_picture"]
    assert media_from_json(stored) == replace(media, active_picture=None)
