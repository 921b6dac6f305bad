"""What is measured of a picture."""

import io

import av
import numpy as np
import pytest
from av.video.format import VideoFormat
from corpus.maker import Track, make_film
from numpy.typing import NDArray
from sage_fingerprint.model import CHROMA_COLUMNS, CHROMA_ROWS, COLUMNS, ROWS
from sage_fingerprint.picture import TEXTURE_SCALE, PictureMeter, measure


def _frame(picture: NDArray[np.uint8], pixel_format: str, *, color_range: int = 0) -> av.VideoFrame:
    """Return a picture of RGB as a frame, in the limited range unless the format implies another."""
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    frame = frame.reformat(
        format=pixel_format, dst_colorspace="ITU709", dst_color_range="JPEG" if color_range == 2 else "MPEG"
    )
    frame.color_range = color_range
    return frame


def _measured(*frames: av.VideoFrame) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    meter = PictureMeter()
    for frame in frames:
        meter.add(frame)
    luma, texture, chroma = meter.take()
    return luma.astype(int), texture.astype(int), chroma.astype(int)


def _scene(width: int = 640, height: int = 360) -> NDArray[np.uint8]:
    """Return a picture with smooth and with sharp parts, sampled from the same function at any size."""
    across = (np.arange(width) + 0.5)[None, :] / width
    down = (np.arange(height) + 0.5)[:, None] / height
    smooth = 128 + 90 * np.sin(7 * across + 3 * down) * np.cos(5 * down)
    edge = np.where((across - 0.5) ** 2 + (down - 0.5) ** 2 < 0.06, 60, 0)
    return np.stack([smooth + edge * share for share in (0.5, -0.4, 0.2)], axis=2).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(("value", "color_range"), [(16, 0), (16, 1), (0, 2)])
def test_black_and_white_fill_the_range(value: int, color_range: int) -> None:
    white = {16: 235, 0: 255}[value]
    for level, expected in ((value, 0), (white, 255)):
        planes = np.full((540, 640), 128, np.uint8)
        planes[:360] = level
        frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        frame.color_range = color_range
        luma, texture, chroma = _measured(frame)
        assert np.all(luma == expected)
        assert np.all(texture == 0)
        assert np.all(chroma == 128)


FORMATS = [
    "yuv420p",
    "yuvj420p",
    "yuv422p",
    "yuv444p",
    "yuv411p",
    "yuv420p10le",
    "yuv422p10le",
    "yuv444p12le",
    "nv12",
    "p010le",
    "yuyv422",
    "uyvy422",
    "yuva420p",
    "yuva444p10le",
    "rgb24",
    "bgra",
    "gbrp",
    "gbrp10le",
    "rgb48le",
]


@pytest.mark.parametrize("name", FORMATS)
def test_formats_measure_the_same(name: str) -> None:
    is_full = name.startswith("yuvj") or VideoFormat(name).is_rgb
    expected = _measured(_frame(_scene(), "yuv444p"))
    found = _measured(_frame(_scene(), name, color_range=2 if is_full else 0))
    for one, other, allowed in zip(found, expected, (1, 3, 2), strict=True):
        assert np.abs(one - other).max() <= allowed


@pytest.mark.parametrize("name", ["gray", "gray10le"])
def test_grey_has_no_colour(name: str) -> None:
    frame = _frame(np.repeat(_scene()[..., :1], 3, axis=2), name)
    luma, _, chroma = _measured(frame)
    expected, _, _ = _measured(_frame(np.repeat(_scene()[..., :1], 3, axis=2), "yuv444p"))
    assert np.abs(luma - expected).max() <= 1
    assert np.all(chroma == 128)


@pytest.mark.parametrize("size", [(426, 240), (1280, 720), (1920, 1080), (720, 576), (853, 481), (99, 70)])
def test_sizes_measure_the_same(size: tuple[int, int]) -> None:
    expected = _measured(_frame(_scene(640, 360), "yuv420p"))
    found = _measured(_frame(_scene(*size), "yuv420p"))
    # Edges are a little softer in a picture of fewer pixels.
    for one, other, allowed in zip(found, expected, (2, 24, 2), strict=True):
        assert np.abs(one - other).max() <= allowed
        assert np.abs(one - other).mean() <= allowed / 10


def test_a_pattern_finer_than_the_grid_leaves_no_texture() -> None:
    fine = np.zeros((1080, 1920, 3), np.uint8)
    fine[::2, ::2] = fine[1::2, 1::2] = 200
    luma, texture, _ = _measured(_frame(fine, "yuv420p"))
    assert np.ptp(luma) <= 1
    assert texture.max() <= 2 * TEXTURE_SCALE


@pytest.mark.parametrize(
    ("matrix", "displayed"),
    [
        ((0, 1, -1, 0), lambda cells: np.rot90(cells, -1)),
        ((-1, 0, 0, -1), lambda cells: np.rot90(cells, 2)),
        ((0, -1, 1, 0), lambda cells: np.rot90(cells, 1)),
        ((-1, 0, 0, 1), lambda cells: cells[:, ::-1]),
        ((1, 0, 0, -1), lambda cells: cells[::-1]),
        ((0, 1, 1, 0), lambda cells: cells.swapaxes(0, 1)),
    ],
)
def test_the_displayed_picture_is_measured(matrix, displayed) -> None:
    def cells(*numbers: int) -> NDArray[np.int64]:
        with av.open(io.BytesIO(make_film("mp4", Track(frames=1, size=(256, 256), matrix=numbers)))) as film:
            return _measured(next(film.decode(video=0)))[0][0]

    def square(luma: NDArray[np.int64]) -> NDArray[np.float64]:
        # Two by two cells, which are the same on both sides.
        return luma.reshape(2, ROWS // 2, 2, COLUMNS // 2).mean(axis=(1, 3))

    assert np.allclose(square(cells(*matrix)), displayed(square(cells())), atol=2)


def test_fields_are_averaged_and_leave_no_combs() -> None:
    moving = Track(
        "libx264", frames=1, size=(720, 576), options=(("x264-params", "interlaced=1"), ("crf", "8"), ("bf", "0"))
    )
    with av.open(io.BytesIO(make_film("mp4", moving))) as film:
        interlaced = next(film.decode(video=0))
    assert interlaced.interlaced_frame
    flagged = _measured(interlaced)
    plain = _measured(av.VideoFrame.from_ndarray(interlaced.to_ndarray(), format="yuv420p"))
    assert all(np.array_equal(one, other) for one, other in zip(flagged, plain, strict=True))
    combed = np.zeros((576, 720, 3), np.uint8)
    combed[::2, 100:300] = combed[1::2, 140:340] = 200
    luma, texture, _ = _measured(_frame(combed, "yuv420p"))
    # Inside what both fields show, and where only one does, no row differs from the next.
    inside = slice(int(150 / 720 * COLUMNS) + 1, int(290 / 720 * COLUMNS) - 1)
    assert texture[0, :, inside].max() <= 2 * TEXTURE_SCALE
    assert abs(int(luma[0, 9, int(120 / 720 * COLUMNS)]) - 100) <= 8


def test_values_are_those_of_the_definition() -> None:
    chance = np.random.default_rng(3)
    luma = chance.integers(0, 256, (5, 72, 128), np.uint8)
    chroma = chance.integers(0, 256, (5, 2, 36, 64), np.uint8)
    found_luma, found_texture, found_chroma = measure(luma, chroma, full=True)
    cells = luma.reshape(5, ROWS, 4, COLUMNS, 4).astype(float)
    across, down = np.diff(cells, axis=4), np.diff(cells, axis=2)
    gradient = np.sqrt((across**2).mean(axis=(2, 4)) + (down**2).mean(axis=(2, 4)))
    assert np.array_equal(found_luma, np.floor(cells.mean(axis=(2, 4)) + 0.5))
    assert np.abs(found_texture - np.minimum(TEXTURE_SCALE * gradient, 255)).max() <= 0.51
    mean = chroma.reshape(5, 2, CHROMA_ROWS, 4, CHROMA_COLUMNS, 4).astype(float).mean(axis=(3, 5))
    assert np.array_equal(found_chroma, np.floor(mean + 0.5))


def test_frames_of_several_kinds_keep_their_order() -> None:
    grey = [np.full((90, 160, 3), level, np.uint8) for level in range(0, 240, 3)]
    kinds = [("yuv420p", 0), ("yuvj420p", 2), ("yuv444p", 1)]
    frames = []
    for index, one in enumerate(grey):
        name, color_range = kinds[index // 7 % 3]
        frames.append(_frame(one, name, color_range=color_range))
    luma, _, _ = _measured(*frames)
    assert np.abs(luma[:, 5, 5] - np.arange(0, 240, 3)).max() <= 1
