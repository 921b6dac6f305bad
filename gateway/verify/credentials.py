"""Credentials for a gateway under test: a certificate, and the keys and tokens of an OIDC provider.

usage: credentials.py certificate FOLDER                writes tls.crt and tls.key, for localhost
       credentials.py keys FOLDER                       writes key.pem and jwks.json
       credentials.py token FOLDER [CLAIM=VALUE ...]    prints a token; claims of numbers are numbers,
                                                        and CLAIM= omits one
"""

import base64
import json
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.x509.oid import NameOID

ISSUER = "https://issuer.example"
_KEY_ID = "verify"


def main() -> None:
    """Run the command line."""
    what, folder, *claims = sys.argv[1:]
    if what == "certificate":
        write_certificate(Path(folder))
    elif what == "keys":
        write_keys(Path(folder))
    else:
        print(token(Path(folder), dict(claim.split("=", 1) for claim in claims)))


def write_certificate(folder: Path) -> None:
    """Write a self-signed certificate and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "tls.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "tls.key").write_bytes(_pem(key))


def write_keys(folder: Path) -> None:
    """Write a new private key and the set of public keys."""
    key = ec.generate_private_key(ec.SECP256R1())
    (folder / "key.pem").write_bytes(_pem(key))
    point = key.public_key().public_numbers()
    public = {"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": _KEY_ID}
    public |= {"x": _encode(point.x.to_bytes(32, "big")), "y": _encode(point.y.to_bytes(32, "big"))}
    (folder / "jwks.json").write_text(json.dumps({"keys": [public]}))


def token(folder: Path, changed: dict[str, str]) -> str:
    """Return a token that is valid for five minutes, with some claims changed."""
    key = serialization.load_pem_private_key((folder / "key.pem").read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("key.pem is not an elliptic curve key")
    claims: dict[str, object] = {"iss": ISSUER, "aud": "sage", "sub": "ann@example.com", "exp": int(time.time()) + 300}
    claims |= {name: int(value) if value.isdigit() else value for name, value in changed.items()}
    claims = {name: value for name, value in claims.items() if value != ""}
    head = {"alg": "ES256", "typ": "JWT", "kid": _KEY_ID}
    signed = ".".join(_encode(json.dumps(part).encode()) for part in (head, claims))
    r, s = utils.decode_dss_signature(key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{signed}.{_encode(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    no_password = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, no_password)


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


if __name__ == "__main__":
    main()
