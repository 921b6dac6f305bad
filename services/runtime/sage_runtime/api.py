"""Conventions that every RPC of SAGE follows: IDs, pages, enums and media types.

Rules for single fields are annotations in `protos/`, enforced by `sage_runtime.server`.
"""

import base64
import binascii
import hashlib
import mimetypes
import re
from enum import Enum
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Generic, TypeVar

import uuid_utils

from sage_runtime.errors import FieldViolation, Reason, SageError

if TYPE_CHECKING:
    from google.protobuf.internal.enum_type_wrapper import _EnumTypeWrapper

DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 200

_DIGEST_BYTES = 12


def new_id(prefix: str) -> str:
    """Return a new ID such as `video_0192f0c1d2e37a4b8c9d0e1f2a3b4c5d`: a UUIDv7 (RFC 9562), sorted by age."""
    return f"{prefix}_{uuid_utils.uuid7().hex}"


def page_size_of(requested: int) -> int:
    """Return the number of entries for a page: the default for zero, at most `MAX_PAGE_SIZE` (AIP-158)."""
    return min(requested or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)


def make_page_token(last_id: str, *, scope: str) -> str:
    """Return the token for the page after `last_id`.

    Args:
        last_id: ID of the last entry on this page.
        scope: The list and its filters as text. The token is valid for these only.
    """
    return base64.urlsafe_b64encode(_digest(last_id, scope) + last_id.encode()).decode().rstrip("=")


def read_page_token(token: str, *, scope: str) -> str | None:
    """Return the ID that a page starts after, or `None` for the first page (an empty token).

    Raises:
        SageError: PAGE_TOKEN_INVALID.
    """
    if not token:
        return None
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        last_id = raw[_DIGEST_BYTES:].decode()
    except (binascii.Error, ValueError) as error:
        raise _invalid_token() from error
    # A forged token could carry NUL, which no database accepts in a query.
    if raw[:_DIGEST_BYTES] != _digest(last_id, scope) or "\0" in last_id:
        raise _invalid_token()
    return last_id


def _invalid_token() -> SageError:
    rule = "must be empty, or `next_page_token` of the previous page with the same filters."
    return SageError(Reason.PAGE_TOKEN_INVALID, violations=(FieldViolation("page_token", rule),))


def _digest(last_id: str, scope: str) -> bytes:
    # Not a secret: a forged token could only start a list elsewhere, which any caller may do anyway.
    return hashlib.sha256(f"{scope}\n{last_id}".encode()).digest()[:_DIGEST_BYTES]


E = TypeVar("E", bound=Enum)
V = TypeVar("V", bound=int)


class EnumTable(Generic[E, V]):
    """Converts an enum both ways. A member `PENDING` corresponds to the contract's value `PREFIX_PENDING`.

    Example:
        STATES = EnumTable(State, embed_pb2.EmbeddingState)
        STATES.to_message(State.PENDING)  # embed_pb2.EMBEDDING_STATE_PENDING
        STATES.from_message(embed_pb2.EMBEDDING_STATE_UNSPECIFIED)  # None

    Args:
        members: The domain's enum.
        values: The contract's enum. It may have more values.

    Raises:
        ValueError: A member has no value in the contract.
    """

    def __init__(self, members: type[E], values: "_EnumTypeWrapper[V]") -> None:
        self._name = values.DESCRIPTOR.full_name
        # By convention the value zero is PREFIX_UNSPECIFIED.
        prefix = values.keys()[0].removesuffix("UNSPECIFIED")
        self._values: dict[E, V] = {member: values.Value(f"{prefix}{member.name}") for member in members}
        self._members: dict[int, E] = {value: member for member, value in self._values.items()}

    def to_message(self, member: E) -> V:
        """Return the contract's value for a member."""
        return self._values[member]

    def from_message(self, value: int) -> E | None:
        """Return the member for a value of the contract, or `None` if it is unspecified.

        Raises:
            ValueError: The domain has no such member: the value is from a newer contract.
        """
        if value == 0:
            return None
        try:
            return self._members[value]
        except KeyError:
            raise ValueError(f"{self._name} has no value {value} here") from None


# Python reads the system's tables, which differ between machines and give some film formats other types: `.ts` is a
# Qt translation, `.mxf` an application.
_BY_SUFFIX = {
    ".264": "video/h264",
    ".265": "video/h265",
    ".3g2": "video/3gpp2",
    ".3gp": "video/3gpp",
    ".asf": "video/x-ms-asf",
    ".avi": "video/x-msvideo",
    ".dv": "video/x-dv",
    ".f4v": "video/mp4",
    ".flv": "video/x-flv",
    ".h264": "video/h264",
    ".h265": "video/h265",
    ".hevc": "video/h265",
    ".ivf": "video/x-ivf",
    ".m2ts": "video/mp2t",
    ".m2v": "video/mpeg",
    ".m4v": "video/mp4",
    ".mjpeg": "video/x-motion-jpeg",
    ".mjpg": "video/x-motion-jpeg",
    ".mkv": "video/x-matroska",
    ".mov": "video/quicktime",
    ".mp4": "video/mp4",
    ".mpeg": "video/mpeg",
    ".mpg": "video/mpeg",
    ".mts": "video/mp2t",
    ".mxf": "video/mxf",
    ".nut": "video/x-nut",
    ".ogm": "video/ogg",
    ".ogv": "video/ogg",
    ".rm": "video/vnd.rn-realvideo",
    ".rmvb": "video/vnd.rn-realvideo",
    ".ts": "video/mp2t",
    ".vob": "video/mpeg",
    ".webm": "video/webm",
    ".wmv": "video/x-ms-wmv",
    ".y4m": "video/x-yuv4mpeg",
}


# Containers of films whose registered or usual type is not `video/*`.
_OTHER_FILM_TYPES = frozenset(
    {
        "application/mp4",
        "application/mxf",
        "application/ogg",
        "application/vnd.ms-asf",
        "application/vnd.rn-realmedia",
        "application/vnd.rn-realmedia-vbr",
        "application/x-matroska",
    }
)
# type "/" subtype of RFC 6838, section 4.2, with `video` for the type.
_VIDEO_TYPE = re.compile(r"video/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}")
# Of a file whose bytes alone tell what it is.
UNSPECIFIC_MEDIA_TYPE = "application/octet-stream"


def is_film_type(media_type: str) -> bool:
    """Return whether files of a media type, in lower case and without parameters, can be films."""
    return _VIDEO_TYPE.fullmatch(media_type) is not None or media_type in _OTHER_FILM_TYPES


def media_type_of(filename: str) -> str:
    """Return the media type of a film for its name, such as `video/mp4`.

    Empty if the extension is not that of a film format. That does not mean that the file is no film: its bytes decide.
    """
    suffix = PurePosixPath(filename).suffix.lower()
    found = _BY_SUFFIX.get(suffix) or mimetypes.guess_type(f"film{suffix}")[0] or ""
    return found if is_film_type(found) else ""
