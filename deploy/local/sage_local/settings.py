"""The settings of the stack on one machine, and the secrets of its components."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from pydantic import Field
from sage_gateway.config import GatewaySettings
from sage_runtime.auth.sign_in import token_paths
from sage_runtime.auth.tokens import PREFIX, Scope, Token, digest_of
from sage_runtime.process.settings import Settings

from sage_local.process import PRIVATE_VARIABLES
from sage_local.state import State

Port = int


class StackSettings(Settings):
    """Settings of `sage-local`.

    A port of 0 means any free one, used again at the next start if it is still free.

    Attributes:
        state: Folder for everything that survives a restart.
        gateway_port: Port of the gateway on 127.0.0.1, through which all services are reached.
        ingest_port: Port of ingest.
        embed_port: Port of embed.
        compare_port: Port of compare.
        postgres_port: Port of PostgreSQL.
        s3_port: Port of S3.
        workers: Number of worker processes, which compute embeddings.
        replicas: Number of processes of each of ingest, embed and compare. With two or more, one that exits is
            restarted, and no call is lost if it was stopped with SIGTERM. The ports above are those of the first.
    """

    state: Path = Field(default=Path(".sage"), validation_alias="SAGE_STATE")
    gateway_port: Port = Field(default=8080, ge=0, le=65_535, validation_alias="SAGE_GATEWAY_PORT")
    ingest_port: Port = Field(default=0, ge=0, le=65_535, validation_alias="SAGE_INGEST_PORT")
    embed_port: Port = Field(default=0, ge=0, le=65_535, validation_alias="SAGE_EMBED_PORT")
    compare_port: Port = Field(default=0, ge=0, le=65_535, validation_alias="SAGE_COMPARE_PORT")
    postgres_port: Port = Field(default=0, ge=0, le=65_535, validation_alias="SAGE_POSTGRES_PORT")
    s3_port: Port = Field(default=0, ge=0, le=65_535, validation_alias="SAGE_S3_PORT")
    workers: int = Field(default=1, ge=0, le=64, validation_alias="SAGE_WORKERS")
    replicas: int = Field(default=1, ge=1, le=8, validation_alias="SAGE_REPLICAS")

    @classmethod
    def on_free_ports(cls, state: Path, *, workers: int, replicas: int = 1) -> Self:
        """Return settings that ignore the ports in the environment, which are meant for another stack."""
        return cls(
            state=state,
            gateway_port=0,
            ingest_port=0,
            embed_port=0,
            compare_port=0,
            postgres_port=0,
            s3_port=0,
            workers=workers,
            replicas=replicas,
        )

    def wanted_ports(self) -> dict[str, int]:
        """Return the requested ports by component, 0 for a free one."""
        return {name: getattr(self, f"{name}_port") for name in CHOOSABLE_PORTS}


# Components whose port can be set; the variable of each is SAGE_<NAME>_PORT.
CHOOSABLE_PORTS = ("gateway", "ingest", "embed", "compare", "postgres", "s3")

_MIN_FREE = "SAGE_STORE_MIN_FREE_BYTES"
_RESERVED_BYTES = 512 * 1024 * 1024
_TOKENS_FILE = "SAGE_TOKENS_FILE"
_SERVICE_TOKEN = "SAGE_SERVICE_TOKEN"  # noqa: S105 -- the name of a variable
_GATEWAY_TOKEN = "SAGE_GATEWAY_TOKEN"  # noqa: S105 -- the name of a variable
# Either of these makes callers sign in. Without both, every user of this machine has access, and no one else does.
_SIGN_IN_SOURCES = (_TOKENS_FILE, "SAGE_GATEWAY_OIDC_ISSUER")

# For a stack without sign-in, TLS, limits or public names, whatever the environment says.
_GATEWAY = tuple(str(field.validation_alias) for field in GatewaySettings.model_fields.values())
OPEN_AND_LOCAL = dict.fromkeys(
    (*_SIGN_IN_SOURCES, "SAGE_SIGN_IN", *(one for one in _GATEWAY if "_GATEWAY_" in one)), ""
)


@dataclass(frozen=True)
class SignInSettings:
    """Variables for the components of a stack. Empty ones remove inherited variables.

    Attributes:
        services: For every service and worker.
        workers: For workers, in addition.
        gateway: For the gateway.
    """

    services: dict[str, str] = field(default_factory=dict)
    workers: dict[str, str] = field(default_factory=dict)
    gateway: dict[str, str] = field(default_factory=dict)


def prepare_sign_in(state: State, environment: Mapping[str, str]) -> SignInSettings:
    """Return the components' sign-in settings, creating the tokens that they authenticate to each other with.

    The user's files in SAGE_TOKENS_FILE are not changed; the stack adds one file to the list.

    Args:
        state: Where that file and the tokens are kept.
        environment: Settings on top of this process's environment.
    """
    given = {**os.environ, **environment}
    if given.get("SAGE_SIGN_IN") == "off" or not any(given.get(name) for name in _SIGN_IN_SOURCES):
        return SignInSettings()
    service, gateway = (PREFIX + state.secret(name) for name in ("service-token", "gateway-token"))
    own = state.write_tokens(
        Token("service", Scope.READ, digest_of(service)).line(),
        Token("gateway", Scope.GATEWAY, digest_of(gateway)).line(),
    )
    files = [*(path.absolute() for path in token_paths(given.get(_TOKENS_FILE, ""))), own]
    return SignInSettings(
        services={_TOKENS_FILE: ",".join(map(str, files)), _SERVICE_TOKEN: "", _GATEWAY_TOKEN: "", "SAGE_TOKEN": ""},
        workers={_SERVICE_TOKEN: given.get(_SERVICE_TOKEN) or service},
        gateway={_GATEWAY_TOKEN: given.get(_GATEWAY_TOKEN) or gateway},
    )


def key_settings(state: State, environment: Mapping[str, str]) -> dict[str, str]:
    """Return embed's settings for providers' keys: the user's, or a generated key to encrypt them with.

    Args:
        state: Where the generated key is kept.
        environment: Settings on top of this process's environment.
    """
    given = {**os.environ, **environment}
    settings = {name: given[name] for name in PRIVATE_VARIABLES if given.get(name)}
    if not any(name.startswith("SAGE_KEY_ENCRYPTION_KEYS") for name in settings):
        settings["SAGE_KEY_ENCRYPTION_KEYS_FILE"] = str(state.encryption_keys())
    return settings


def room_settings(state: State, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the settings of services that store objects for the room on the disk of the state folder.

    PostgreSQL is on the same disk, and SeaweedFS needs room for a volume of 256 MB (more if uploads are fast) to free
    that of deleted films. On a small disk its volumes are smaller, so a quarter of the disk is enough.

    Args:
        state: On the disk.
        environment: Settings on top of this process's environment.
    """
    given = {**os.environ, **environment}.get(_MIN_FREE)
    reserved = min(_RESERVED_BYTES, shutil.disk_usage(state.folder).total // 4)
    return {"SAGE_STORE_FOLDER": str(state.folder), _MIN_FREE: given or str(reserved)}
