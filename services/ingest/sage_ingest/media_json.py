"""`Media` as JSON, for the database and for the process that probes."""

from collections.abc import Mapping
from dataclasses import asdict
from fractions import Fraction
from typing import Any

from sage_ingest.model import Audio, Media


def media_to_json(media: Media) -> dict[str, Any]:
    """Return plain values; the frame rate as text such as `30000/1001`."""
    return {**asdict(media), "frame_rate": str(media.frame_rate)}


def media_from_json(values: Mapping[str, Any]) -> Media:
    """Return what `media_to_json` made its values from."""
    audio = values["audio"]
    return Media(
        **{**values, "frame_rate": Fraction(values["frame_rate"]), "audio": None if audio is None else Audio(**audio)}
    )
