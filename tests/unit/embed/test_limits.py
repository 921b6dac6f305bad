"""The limits of a model."""

from dataclasses import replace

import pytest
from fakes.embed import MODEL
from sage_embed.config import LocalSettings
from sage_embed.embeddings.model import Video
from sage_embed.engines.engine import ModelInfo, check_limits
from sage_embed.engines.local.engine import LocalEngine
from sage_runtime.errors import Reason, SageError
from sage_runtime.errors.catalogue import public_text

LIMITED = replace(
    MODEL,
    name="marengo3.0",
    provider="twelvelabs",
    min_video_seconds=4.0,
    max_video_seconds=14400.0,
    max_video_bytes=4_000_000_000,
    min_resolution=(360, 360),
    max_resolution=(5184, 2160),
)
FITTING = Video(
    "video_1", duration_seconds=60.0, start_offset_seconds=0.0, size_bytes=10_000_000, width=1920, height=1080
)


def refused(video: Video, model: ModelInfo = LIMITED) -> str:
    """Return the message with which a video is refused."""
    with pytest.raises(SageError) as caught:
        check_limits(video, model)
    assert caught.value.reason is Reason.PROVIDER_REJECTED_VIDEO
    return public_text(caught.value)


@pytest.mark.parametrize(
    ("facts", "fact", "limit"),
    [
        ({"duration_seconds": 3.5}, "it is 3.5 s long", "at least 4 s"),
        ({"duration_seconds": 14401.0}, "it is 14401 s long", "at most 14400 s"),
        ({"size_bytes": 4_000_000_001}, "it has 4000000001 bytes", "at most 4000000000"),
        ({"width": 640, "height": 352}, "it has 640x352 pixels", "at least 360x360"),
        ({"width": 352, "height": 640}, "it has 352x640 pixels", "at least 360x360"),
        ({"width": 3840, "height": 2400}, "it has 3840x2400 pixels", "at most 5184x2160"),
        ({"width": 2160, "height": 5200}, "it has 2160x5200 pixels", "at most 5184x2160"),
    ],
)
def test_a_video_beyond_a_limit_is_refused_with_the_limit_and_what_to_do(facts, fact, limit):
    assert refused(replace(FITTING, **facts)) == (
        f"TwelveLabs does not accept this video: {fact}; model marengo3.0 accepts {limit}. Use model local instead."
    )


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"duration_seconds": 4.0},
        {"duration_seconds": 14400.0},
        {"size_bytes": 4_000_000_000},
        {"width": 360, "height": 360},
        {"width": 5184, "height": 2160},
        {"width": 2160, "height": 5184},
        # Unknown properties are left to the provider.
        {"width": 0, "height": 0, "size_bytes": 0},
    ],
)
def test_a_video_within_the_limits_passes(facts):
    check_limits(replace(FITTING, **facts), LIMITED)


def test_a_model_without_limits_accepts_everything():
    unlimited = replace(MODEL, max_video_seconds=None)
    check_limits(replace(FITTING, duration_seconds=1e6, size_bytes=10**13, width=16, height=16), unlimited)


def test_the_local_model_does_not_recommend_itself():
    local = replace(LIMITED, name="local", provider="local")
    assert "instead" not in refused(replace(FITTING, duration_seconds=1.0), local)


async def test_the_local_model_accepts_a_day() -> None:
    (local,) = await LocalEngine(LocalSettings()).models()
    check_limits(replace(FITTING, duration_seconds=86_400.0), local)
    assert "it is 86401 s long; model local accepts at most 86400 s" in refused(
        replace(FITTING, duration_seconds=86_401.0), local
    )
