"""Facts about the APIs of TwelveLabs: models, options and the format of errors."""

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
    """The properties of a model.

    Attributes:
        apis: The APIs that serve it.
        dimensions: Length of a vector.
        options: The vectors that it makes. The first one is the picture.
        nested_segmentation: Whether v2 expects its segmentation under `temporal`.
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
    """The request is refused.

    Args:
        status: The HTTP status.
        code: The code in the body.
        message: The message in the body; empty for the default message of the code.
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
    """Return the refusal of an invalid parameter."""
    return RefusedError(400, "parameter_invalid", message)
