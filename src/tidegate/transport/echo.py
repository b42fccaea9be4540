"""What must not come back: a vendor that repeats the key of a call would have us store and show it."""

from collections.abc import Mapping
from typing import Final

from tidegate.domain.inference import Credential

_SHORTEST: Final = 20
"""Shorter ones are words such as ``EMPTY`` or ``ollama``, which an honest answer may hold."""
_MASK: Final = "***"


def key_of(credential: Credential | None) -> str | None:
    """What of the credential is to be masked wherever a reply repeats it."""
    if credential is None:
        return None
    key = credential.value.reveal().rpartition(" ")[2]
    return key if len(key) >= _SHORTEST else None


def body_without(key: str, body: bytes) -> bytes:
    found = key.encode()
    return body.replace(found, _MASK.encode()) if found in body else body


def headers_without(key: str, headers: Mapping[str, str]) -> Mapping[str, str]:
    if not any(key in value for value in headers.values()):
        return headers
    return {name: value.replace(key, _MASK) for name, value in headers.items()}
