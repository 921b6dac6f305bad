"""What a task is asked for with, in the SDK's types."""

from twelvelabs import (
    AsyncTemporalSegmentation,
    AsyncVideoInputRequest,
    MediaSource,
    TemporalSegmentation_Fixed,
    VideoSegmentation_Fixed,
    VideoSegmentationFixedFixed,
)
from twelvelabs.types.temporal_segmentation_fixed_fixed import TemporalSegmentationFixedFixed

from sage_embed.adapters.twelvelabs.models import WHOLE_VIDEO, Model


def video_v2(model: Model, *, url: str, clip_seconds: int, tracks: tuple[str, ...]) -> AsyncVideoInputRequest:
    """Return the `video` of a request to v2."""
    clips = [track for track in tracks if track != WHOLE_VIDEO]
    scopes = (["clip"] if clips else []) + (["asset"] if WHOLE_VIDEO in tracks else [])
    return AsyncVideoInputRequest(
        media_source=MediaSource(url=url),
        segmentation=_segmentation(model, clip_seconds),
        # The whole video gets a vector for each option. Alone it is made of the picture.
        embedding_option=[model.options[track][0] for track in clips or ["visual"]],
        embedding_scope=scopes,
    )


def scopes_v1(tracks: tuple[str, ...]) -> list[str]:
    """Return the scopes of a request to v1, where the whole video comes on top of its clips and never alone."""
    return ["clip", "video"] if WHOLE_VIDEO in tracks else ["clip"]


def wanted_options(model: Model, tracks: tuple[str, ...]) -> set[str]:
    """Return the options of the vectors that the tracks are made of, by all the names that they may come under."""
    named = model.options if WHOLE_VIDEO in tracks else tracks
    return {option for track in named for option in model.options[track]}


def _segmentation(model: Model, clip_seconds: int) -> AsyncTemporalSegmentation | VideoSegmentation_Fixed:
    if not model.nested_segmentation:
        return VideoSegmentation_Fixed(fixed=VideoSegmentationFixedFixed(duration_sec=clip_seconds))
    fixed = TemporalSegmentationFixedFixed(duration_sec=clip_seconds)
    return AsyncTemporalSegmentation(temporal=TemporalSegmentation_Fixed(fixed=fixed))
