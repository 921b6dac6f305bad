"""The models of TwelveLabs, and the API's names for their parts in requests and responses.

Source: the documentation pages about Marengo, and the requests of the SDK, version 1.3.6.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from sage_runtime.errors import SageError
from twelvelabs import (
    AsyncTemporalSegmentation,
    AsyncVideoInputRequest,
    MediaSource,
    TemporalSegmentation_Fixed,
    VideoSegmentation_Fixed,
    VideoSegmentationFixedFixed,
)
from twelvelabs.types.temporal_segmentation_fixed_fixed import TemporalSegmentationFixedFixed

from sage_embed.engines.engine import ModelInfo
from sage_embed.keys.model import PROVIDER

# The only track that is not made of clips: a single vector for the entire video.
WHOLE_VIDEO = "video"

# The recipe: which of the model's vectors make up a track. TwelveLabs publishes no version of its weights.
_REVISION = "1"
_GIB = 1024**3


class Api(StrEnum):
    """The generations of the embedding API."""

    V1 = "v1"
    V2 = "v2"


@dataclass(frozen=True)
class Model:
    """A model and how it is requested.

    Attributes:
        info: The description shown to users.
        api: The API that serves it.
        options: For each track that is made of clips, the API's names for its vectors. If there are several, the first
            one in the result is used, never a mixture: they are different vectors.
        nested_segmentation: Whether v2 expects the segmentation one level deeper.
    """

    info: ModelInfo
    api: Api
    options: Mapping[str, tuple[str, ...]]
    nested_segmentation: bool = False

    def requested_options(self, tracks: tuple[str, ...]) -> set[str]:
        """Return all names that the vectors of these tracks may have in a result."""
        named = self.options if WHOLE_VIDEO in tracks else tracks
        return {option for track in named for option in self.options[track]}


def _model(
    name: str,
    *,
    api: Api,
    dimensions: int,
    options: Mapping[str, tuple[str, ...]],
    max_hours: int | None = None,
    max_gib: int | None = None,
    max_resolution: tuple[int, int] | None = None,
    nested_segmentation: bool = False,
) -> Model:
    known = max_hours is not None
    info = ModelInfo(
        name=name,
        revision=_REVISION,
        provider=PROVIDER,
        dimensions=dimensions,
        tracks=(*options, WHOLE_VIDEO),
        min_clip_seconds=2.0,
        max_clip_seconds=10.0,
        whole_clip_seconds=True,
        min_video_seconds=4.0 if known else 0.0,
        max_video_seconds=None if max_hours is None else max_hours * 3600.0,
        max_video_bytes=None if max_gib is None else max_gib * _GIB,
        min_resolution=(360, 360) if known else None,
        max_resolution=max_resolution,
    )
    return Model(info, api, options, nested_segmentation)


MODELS: tuple[Model, ...] = (
    _model(
        "marengo3.0",
        api=Api.V2,
        dimensions=512,
        options={"visual": ("visual",), "audio": ("audio",), "transcription": ("transcription",)},
        max_hours=4,
        max_gib=4,
        max_resolution=(5184, 2160),
    ),
    # Its limits are not documented: TwelveLabs itself rejects what exceeds them.
    _model(
        "marengo3.5",
        api=Api.V2,
        dimensions=512,
        options={"visual": ("visual",), "audio": ("audio",)},
        nested_segmentation=True,
    ),
    # It has two vectors for the picture: `visual-text`, for searches by text, which the API returns if `visual` is
    # requested, and `visual-image`, for searches by image.
    _model(
        "Marengo-retrieval-2.7",
        api=Api.V1,
        dimensions=1024,
        options={"visual": ("visual-text", "visual", "visual-image"), "audio": ("audio",)},
        max_hours=2,
        max_gib=2,
        max_resolution=(3840, 2160),
    ),
)

BY_NAME: Mapping[str, Model] = {model.info.name: model for model in MODELS}


def infos(unusable: SageError | None) -> list[ModelInfo]:
    """Return the descriptions shown to users, all of them usable or, with an error, all unusable."""
    return [replace(model.info, unusable=unusable) for model in MODELS]


def video_v2(model: Model, *, url: str, clip_seconds: int, tracks: tuple[str, ...]) -> AsyncVideoInputRequest:
    """Return the `video` of a request to v2."""
    clips = [track for track in tracks if track != WHOLE_VIDEO]
    scopes = (["clip"] if clips else []) + (["asset"] if WHOLE_VIDEO in tracks else [])
    return AsyncVideoInputRequest(
        media_source=MediaSource(url=url),
        segmentation=_segmentation(model, clip_seconds),
        # The entire video gets a vector per option. If it is the only track, it is made from the picture.
        embedding_option=[model.options[track][0] for track in clips or ["visual"]],
        embedding_scope=scopes,
    )


def scopes_v1(tracks: tuple[str, ...]) -> list[str]:
    """Return the scopes of a request to v1, which offers the entire video only together with its clips."""
    return ["clip", "video"] if WHOLE_VIDEO in tracks else ["clip"]


def _segmentation(model: Model, clip_seconds: int) -> AsyncTemporalSegmentation | VideoSegmentation_Fixed:
    if not model.nested_segmentation:
        return VideoSegmentation_Fixed(fixed=VideoSegmentationFixedFixed(duration_sec=clip_seconds))
    fixed = TemporalSegmentationFixedFixed(duration_sec=clip_seconds)
    return AsyncTemporalSegmentation(temporal=TemporalSegmentation_Fixed(fixed=fixed))
