"""The settings of the stack on one machine."""

from pathlib import Path
from typing import Self

from pydantic import Field
from sage_runtime.settings import Settings

Port = int


class StackSettings(Settings):
    """Settings of `sage-local`.

    A port of 0 is a free one, taken again at the next start while it is free.

    Attributes:
        state: Folder of everything that survives a restart.
        gateway_port: Port of 127.0.0.1 where all services answer.
        ingest_port: Port of ingest itself.
        embed_port: Port of embed itself.
        compare_port: Port of compare itself.
        postgres_port: Port of PostgreSQL.
        s3_port: Port of S3.
        workers: How many worker processes embed.
        replicas: How many processes serve ingest, embed and compare each. With two or more, one that ends is started
            again, and loses no call where it was stopped with SIGTERM; the ports above are those of the first.
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
        """Return settings that take no port which was chosen for another stack, whatever the environment says."""
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
        """Return the ports by the name of their part, 0 for a free one."""
        return {name: getattr(self, f"{name}_port") for name in CHOOSABLE_PORTS}


# Parts whose port people may set; the variable of each is SAGE_<NAME>_PORT.
CHOOSABLE_PORTS = ("gateway", "ingest", "embed", "compare", "postgres", "s3")
