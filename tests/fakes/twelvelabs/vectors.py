"""The vectors of a task's result: footage in the dimensions of a model, by option and scope."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from fakes.twelvelabs.facts import MODELS, Api
from fakes.twelvelabs.orders import Order
from fakes.twelvelabs.studio import Footage
from numpy.typing import NDArray

# v1 drops a shorter last clip. The behaviour of v2 is not documented.
_SHORTEST_TAIL_S = 2.0


@dataclass(frozen=True)
class Piece:
    """One vector of a result."""

    option: str
    scope: str
    start_seconds: float
    end_seconds: float
    vector: list[float]


def pieces(order: Order, footage: Footage, *, speech: bool) -> list[Piece]:
    """Return the result of a task, ordered by time within each option.

    Args:
        order: The request.
        footage: The video.
        speech: Whether it contains speech. Then it has a transcription, made from the sound.
    """
    tracks = {"visual": footage.pictures, "visual-text": footage.pictures}
    if footage.sounds is not None:
        tracks["audio"] = footage.sounds
        if speech:
            tracks["transcription"] = footage.sounds
    return [
        piece
        for option in order.options
        if option in tracks
        for piece in _track(order, option, tracks[option], footage)
    ]


def _track(order: Order, option: str, features: NDArray[np.float32], footage: Footage) -> Iterator[Piece]:
    dimensions = MODELS[order.model].dimensions
    vectors = features @ _projection(features.shape[1], dimensions, option)
    # The documentation does not promise unit length, so these vectors have other lengths.
    vectors *= (1.5 + np.arange(len(vectors)) % 2)[:, np.newaxis]
    if "clip" in order.scopes:
        for index, vector in enumerate(vectors):
            start = index * order.clip_seconds
            end = min(start + order.clip_seconds, footage.duration_seconds)
            if order.api is Api.V2 or index == 0 or end - start >= _SHORTEST_TAIL_S:
                yield Piece(option, "clip", start, end, vector.tolist())
    if (whole := {Api.V1: "video", Api.V2: "asset"}[order.api]) in order.scopes:
        yield Piece(option, whole, 0, footage.duration_seconds, vectors.mean(axis=0).tolist())


@cache
def _projection(size: int, dimensions: int, option: str) -> NDArray[np.float32]:
    """Return orthonormal rows, which preserve angles, lengths and cosine distances."""
    seed = sum(option.encode()) * dimensions
    columns, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(dimensions, size)))
    return columns.T.astype(np.float32)
