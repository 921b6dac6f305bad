"""The models of TwelveLabs, and what the wire calls their parts.

Source: the documentation's pages on Marengo and the requests of its SDK, version 1.3.6.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from sage_runtime.errors import SageError

from sage_embed.engine import ModelInfo
from sage_embed.key_model import PROVIDER

# The one track that is not made of clips: one vector for all of the video.
WHOLE_VIDEO = "video"

# The recipe: which of the model's vectors make a track. TwelveLabs tells no version of its weights.
_REVISION = "1"
_GIB = 1024**3


class Api(StrEnum):
    """The generations of the embedding API."""

    V1 = "v1"
    V2 = "v2"


@dataclass(frozen=True)
class Model:
    """A model and how it is asked for.

    Attributes:
        info: What users see of it.
        api: Through which API it is reached.
        options: For each track that is made of clips, what the wire calls its vectors. Where there are several names,
            the first that the answer has is taken, never a mixture: they are different vectors.
        nested_segmentation: Whether v2 wants the segmentation one level deeper.
    """

    info: ModelInfo
    api: Api
    options: Mapping[str, tuple[str, ...]]
    nested_segmentation: bool = False


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
    # Its limits are documented nowhere: TwelveLabs itself says where a video passes them.
    _model(
        "marengo3.5",
        api=Api.V2,
        dimensions=512,
        options={"visual": ("visual",), "audio": ("audio",)},
        nested_segmentation=True,
    ),
    # Its picture comes twice: for searches with text, which is the vector that the API gives where `visual` is asked
    # for, and for searches with images.
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
    """Return what users see of the models where they all can be used, or cannot."""
    return [replace(model.info, unusable=unusable) for model in MODELS]
