"""Requests that create a task: read and checked like the real service does in both APIs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from fakes.twelvelabs.facts import MODELS, Api, Model, invalid

_MIN_CLIP_S, _MAX_CLIP_S = 2, 10
_SCOPES = {Api.V1: ("clip", "video"), Api.V2: ("clip", "asset")}


@dataclass(frozen=True)
class Order:
    """A valid request for a task.

    Attributes:
        api: The API that received it.
        model: The model's name.
        url: URL of the video.
        clip_seconds: Length of a clip.
        options: The model's names of the requested vectors.
        scopes: `clip`, and `asset` (v2) or `video` (v1).
    """

    api: Api
    model: str
    url: str
    clip_seconds: int
    options: tuple[str, ...]
    scopes: tuple[str, ...]


def read_v2(body: bytes) -> Order:
    """Read the JSON of `POST /embed-v2/tasks`.

    Raises:
        RefusedError: 400 `parameter_invalid`.
    """
    try:
        document = json.loads(body)
        video = document["video"]
        url = video["media_source"]["url"]
    except (ValueError, KeyError, TypeError) as error:
        raise invalid(f"The request body is invalid: {error}") from error
    if document.get("input_type") != "video":
        raise invalid("The input_type parameter is invalid.")
    name, model = _model(document.get("model_name"), Api.V2)
    dimensions = document.get("embedding_dimension")
    if dimensions is not None and (not model.nested_segmentation or dimensions not in (128, 256, 512)):
        raise invalid("The embedding_dimension parameter is invalid.")
    return Order(
        api=Api.V2,
        model=name,
        url=_url(url),
        clip_seconds=_clip_seconds(_fixed(video.get("segmentation"), model)),
        options=_known(video.get("embedding_option", model.options), model.options, "embedding_option"),
        scopes=_known(video.get("embedding_scope", _SCOPES[Api.V2]), _SCOPES[Api.V2], "embedding_scope"),
    )


def read_v1(content_type: str, fields: Mapping[str, Sequence[str]]) -> Order:
    """Read the form of `POST /embed/tasks`, in which a field may be repeated.

    Raises:
        RefusedError: 400 `parameter_invalid`.
    """
    if content_type != "multipart/form-data":
        raise invalid("The request must be multipart/form-data.")
    for name, values in fields.items():
        if name != "video_embedding_scope" and len(values) != 1:
            raise invalid(f"The {name} parameter is given several times.")
        if "" in values:
            raise invalid(f"The {name} parameter is empty.")
    name, model = _model(*fields.get("model_name", [""]), Api.V1)
    (length,) = fields.get("video_clip_length", ["6"])
    try:
        seconds = float(length)
    except ValueError as error:
        raise invalid("The video_clip_length parameter is invalid.") from error
    return Order(
        api=Api.V1,
        model=name,
        url=_url(*fields.get("video_url", [""])),
        clip_seconds=_clip_seconds(int(seconds) if seconds.is_integer() else seconds),
        options=model.options,
        scopes=_known(fields.get("video_embedding_scope", ["clip"]), _SCOPES[Api.V1], "video_embedding_scope"),
    )


def _model(name: object, api: Api) -> tuple[str, Model]:
    model = MODELS.get(name) if isinstance(name, str) else None
    if model is None or api not in model.apis:
        raise invalid("The model_name parameter is invalid.")
    return str(name), model


def _url(url: object) -> str:
    if not isinstance(url, str) or urlsplit(url).scheme not in ("http", "https"):
        raise invalid("The video url is invalid.")
    return url


def _fixed(segmentation: object, model: Model) -> object:
    expected = "temporal" if model.nested_segmentation else "strategy"
    if not isinstance(segmentation, dict) or expected not in segmentation:
        raise invalid("The segmentation parameter does not match the model version.")
    inner = segmentation["temporal"] if model.nested_segmentation else segmentation
    if not isinstance(inner, dict) or inner.get("strategy") != "fixed" or not isinstance(inner.get("fixed"), dict):
        raise invalid("The segmentation parameter is invalid.")
    return inner["fixed"].get("duration_sec")


def _clip_seconds(value: object) -> int:
    if type(value) is not int or not _MIN_CLIP_S <= value <= _MAX_CLIP_S:
        raise invalid("The clip length must be an integer between 2 and 10.")
    return value


def _known(values: object, allowed: tuple[str, ...], name: str) -> tuple[str, ...]:
    if not isinstance(values, list | tuple) or not values or not set(values) <= set(allowed):
        raise invalid(f"The {name} parameter is invalid. The following values are allowed: {', '.join(allowed)}.")
    return tuple(values)
