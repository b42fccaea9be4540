"""Identifiers: UUIDv7, so that neighbours in time are neighbours in an index."""

import re
from datetime import datetime
from typing import Final

NIL: Final = "00000000-0000-0000-0000-000000000000"
_VARIANT: Final = "89ab"
_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def uuid7(now: datetime, random_bytes: bytes) -> str:
    """UUIDv7 (RFC 9562 §5.7) with 74 random bits and no counter.

    ``random_bytes`` are 10 bytes from a cryptographic source: in anonymous mode knowing a job id is the
    permission to read it.
    """
    stamp = f"{epoch_ms(now):012x}"
    noise = random_bytes.hex()
    variant = _VARIANT[random_bytes[9] & 3]
    return f"{stamp[:8]}-{stamp[8:]}-7{noise[:3]}-{variant}{noise[3:6]}-{noise[6:18]}"


def epoch_ms(moment: datetime) -> int:
    """Milliseconds since 1970, rounded to the nearest."""
    return round(moment.timestamp() * 1000)


def is_uuid(text: str) -> bool:
    return _UUID.fullmatch(text) is not None
