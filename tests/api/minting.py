"""Tokens made by hand, so that a test can make the wrong ones too."""

import base64
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from support.gateway import JWT_SECRET

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def part(value: Any) -> str:
    """One part of a token: an object, or text that is meant to stand as it is."""
    if isinstance(value, bytes):
        return base64url(value)
    return base64url((value if isinstance(value, str) else json.dumps(value)).encode())


def claims(**members: Any) -> dict[str, Any]:
    """An hour's worth of claims of the issuer that the tests configure; ``None`` takes one away."""
    usual = {"iss": "https://id.example", "aud": "tidegate", "sub": "alice", "exp": time.time() + 3600}
    return {name: value for name, value in (usual | members).items() if value is not None}


def signed(
    payload: Any,
    header: Any = None,
    *,
    secret: str = JWT_SECRET,
    digest: str = "sha256",
) -> str:
    """An HMAC token."""
    head = {"alg": "HS256", "typ": "JWT"} if header is None else header
    return sealed(f"{part(head)}.{part(payload)}", secret=secret, digest=digest)


def sealed(text: str, *, secret: str = JWT_SECRET, digest: str = "sha256") -> str:
    """Any text with its HMAC."""
    return f"{text}.{base64url(hmac.new(secret.encode(), text.encode(), digest).digest())}"


def signed_with(key: PrivateKey, payload: Any, header: Mapping[str, Any]) -> str:
    """A token of a private key, whatever its header says."""
    text = f"{part(header)}.{part(payload)}"
    return f"{text}.{base64url(_signature(key, text.encode()))}"


def _signature(key: PrivateKey, text: bytes) -> bytes:
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(text, padding.PKCS1v15(), hashes.SHA256())
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(text)
    size = (key.key_size + 7) // 8
    numbers = decode_dss_signature(key.sign(text, ec.ECDSA(hashes.SHA256())))
    return b"".join(number.to_bytes(size, "big") for number in numbers)


def pem(key: PrivateKey) -> str:
    """The public half."""
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


def jwk(key: PrivateKey, **members: Any) -> dict[str, Any]:
    """The public half, as a key set lists it."""
    return _public_members(key) | members


def _public_members(key: PrivateKey) -> dict[str, Any]:
    if isinstance(key, rsa.RSAPrivateKey):
        public = key.public_key().public_numbers()
        size = (public.n.bit_length() + 7) // 8
        return {"kty": "RSA", "n": base64url(public.n.to_bytes(size, "big")), "e": "AQAB"}
    if isinstance(key, ed25519.Ed25519PrivateKey):
        raw = key.public_key().public_bytes_raw()
        return {"kty": "OKP", "crv": "Ed25519", "x": base64url(raw)}
    point = key.public_key().public_numbers()
    return {
        "kty": "EC",
        "crv": "P-256",
        "x": base64url(point.x.to_bytes(32, "big")),
        "y": base64url(point.y.to_bytes(32, "big")),
    }


def admin_token(subject: str = "root", **members: Any) -> str:
    return signed(claims(sub=subject, role="admin", **members))


def key_token(key: str = "key-a", **members: Any) -> str:
    return signed(claims(virtual_key=key, **members))
