"""Where credentials are read from (contract §5.1). From here on a secret is a digest."""

import base64
import binascii
import hashlib
from typing import Final

import msgspec

from tidegate.api.inbound import Inbound
from tidegate.services.authenticate import NO_CREDENTIALS, Credentials

_PREFIX: Final = b"sk-bf-"
_KEY_HEADERS: Final = (b"x-api-key", b"x-goog-api-key", b"api-key")
_ANY_CREDENTIAL: Final = frozenset({b"authorization", b"x-bf-vk", *_KEY_HEADERS})


def read_credentials(inbound: Inbound) -> Credentials:
    headers = inbound.headers
    if _ANY_CREDENTIAL.isdisjoint(headers):
        return NO_CREDENTIALS
    digests: list[bytes] = []
    tokens: list[str] = []
    has_filler = False
    for value in inbound.values(b"authorization"):
        scheme, _, bearer = value.partition(b" ")
        bearer = bearer.strip()
        if scheme.lower() != b"bearer" or not bearer:
            continue
        if _is_key(bearer):
            digests.append(hashlib.sha256(bearer).digest())
        elif _is_token(bearer):
            tokens.append(bearer.decode("latin-1"))
        else:
            has_filler = True
    # An imported key needs no prefix here.
    digests += [hashlib.sha256(value).digest() for value in inbound.values(b"x-bf-vk") if value]
    for name in _KEY_HEADERS:
        # SDKs put placeholders here: only what looks like a key is one.
        digests += [hashlib.sha256(value).digest() for value in inbound.values(name) if _is_key(value)]
    return Credentials(tuple(digests), tuple(tokens), has_filler)


def _is_key(value: bytes) -> bool:
    return value[:6].lower() == _PREFIX


def _is_token(value: bytes) -> bool:
    """Shaped like a JWT, whatever the rest looks like, so that a broken one never becomes anonymous."""
    first, dot, _ = value.partition(b".")
    if not dot:
        return False
    try:
        header = base64.urlsafe_b64decode(first + b"=" * (-len(first) % 4))
        msgspec.json.decode(header, type=dict[str, msgspec.Raw])
    except (binascii.Error, ValueError, RecursionError):
        return False
    return True
