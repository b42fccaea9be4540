"""Unique secrets, and a search that finds them in whatever form they leaked."""

import base64
import math
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import quote

PREFIX: Final = 16
"""So much of a secret is as bad as the whole."""


def forms(secret: str) -> Iterator[bytes]:
    """What a leak of the beginning of ``secret`` may look like."""
    text = secret[:PREFIX].encode()
    yield text
    yield quote(text, safe="").encode()
    yield "".join(f"%{byte:02X}" for byte in text).encode()
    yield text.hex().encode()
    yield text.hex().upper().encode()
    for shift in range(3):
        yield from _in_base64(text, shift)


def _in_base64(text: bytes, shift: int) -> Iterator[bytes]:
    """The characters that only ``text`` decides when so many bytes (of three) stand before it."""
    first, last = math.ceil(shift * 8 / 6), (shift + len(text)) * 8 // 6
    padded = bytes(shift) + text + bytes(3)
    yield base64.b64encode(padded)[first:last]
    yield base64.urlsafe_b64encode(padded)[first:last]


def leaks(secrets: Mapping[str, str], found: bytes) -> list[str]:
    """Names of the secrets that ``found`` holds, with the form they were found in."""
    return sorted(
        {
            f"{name} as {form.decode('latin-1')}"
            for name, secret in secrets.items()
            for form in forms(secret)
            if form in found
        }
    )
