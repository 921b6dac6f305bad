"""Vectors as a task's result has them: footage in the dimensions of a model, by option and scope."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from fakes.twelvelabs.facts import MODELS, Api
from fakes.twelvelabs.orders import Order
from fakes.twelvelabs.studio import Footage
from numpy.typing import NDArray

# v1 drops a last clip that is shorter; of v2 nothing is known.
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
    """Return the result of a task, in the order of time within each option.

    Args:
        order: What was asked for.
        footage: The video.
        speech: Whether somebody speaks in it: it then has a transcription, which stands in for what is said.
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
    # Nothing says that they have length 1, so they have not.
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
    """Return rows that are orthonormal: angles and lengths stay as they are, and so do cosine distances."""
    seed = sum(option.encode()) * dimensions
    columns, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(dimensions, size)))
    return columns.T.astype(np.float32)
