"""What the wire of TwelveLabs knows: models, options, scopes and the shape of an error."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

PREFIX = "/v1.3"
MAX_PAGE = 50


class Api(StrEnum):
    """The two generations of the embedding API, by their path."""

    V1 = "/embed/tasks"
    V2 = "/embed-v2/tasks"


@dataclass(frozen=True)
class Model:
    """What one model takes and makes.

    Attributes:
        apis: Through which APIs it is reached.
        dimensions: Numbers in a vector.
        options: What it makes; the first is the picture.
        nested_segmentation: Whether v2 wants its segmentation under `temporal`.
    """

    apis: tuple[Api, ...]
    dimensions: int
    options: tuple[str, ...]
    nested_segmentation: bool = False


MODELS: Mapping[str, Model] = {
    "Marengo-retrieval-2.7": Model((Api.V1,), 1024, ("visual-text", "audio")),
    "marengo3.0": Model((Api.V1, Api.V2), 512, ("visual", "audio", "transcription")),
    "marengo3.5": Model((Api.V2,), 512, ("visual", "audio"), nested_segmentation=True),
}

MESSAGES = {
    "api_key_invalid": "The API key is either invalid or expired. Please check the API key or generate a new one.",
    "too_many_requests": "You have reached your rate limit. Please try again later.",
    "usage_limit_exceeded": "Your usage limit is exceeded. Please upgrade your plan.",
    "forbidden": "You do not have permission to use this resource.",
    "internal_server_error": "Internal server error.",
    "service_unavailable": "The service is temporarily unavailable.",
}


class RefusedError(Exception):
    """The request is answered with an error.

    Args:
        status: The status.
        code: The code of the body.
        message: The body's message; empty: the usual one of the code.
    """

    def __init__(self, status: int, code: str, message: str = "") -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.message = message

    def body(self) -> dict[str, object]:
        """Return the flat body."""
        message = self.message or MESSAGES.get(self.code, self.code)
        return {"code": self.code, "message": message, "docs_url": "https://docs.twelvelabs.io/error-codes"}


def invalid(message: str) -> RefusedError:
    """Return the answer to a parameter that is not as it must be."""
    return RefusedError(400, "parameter_invalid", message)
