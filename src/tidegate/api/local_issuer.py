"""The gateway's own token issuer: a key in a 0600 file, with which the command line mints short tokens."""

import errno
import importlib
import os
import re
import secrets  # noqa: TID251 – a key is made once, outside the running gateway
import warnings
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from tidegate.domain.ids import epoch_ms
from tidegate.domain.secret import Secret

ISSUER: Final = "tidegate-local"
AUDIENCE: Final = "tidegate"
ALGORITHM: Final = "HS256"
KINDS: Final = ("virtual_key", "admin")
FILE_NAME: Final = "local-issuer.key"
LONGEST_LIFETIME: Final = timedelta(hours=24)
_WHOLE_KEY: Final = re.compile(rb"[0-9a-f]{64}")


def load(directory: Path) -> Secret | None:
    """The issuer's key, or ``None`` where no gateway has made one yet. Raises ``OSError`` for half a key."""
    file = directory / FILE_NAME
    try:
        key = file.read_bytes().strip()
    except FileNotFoundError:
        return None
    if _WHOLE_KEY.fullmatch(key) is None:
        # What is left of a key can be guessed, and whoever guesses it is an administrator.
        raise OSError(
            errno.EINVAL, "not a key of this gateway: remove it, the next start makes one", str(file)
        )
    return Secret(key.decode())


def load_or_create(directory: Path) -> Secret:
    """The issuer's key; on first use 32 random bytes in a file that only its owner can read."""
    known = load(directory)
    if known is not None:
        return known
    key = secrets.token_hex(32)
    unfinished = directory / f"{FILE_NAME}.new"
    handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(key + "\n")
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(directory / FILE_NAME)
    return Secret(key)


def mint(key: Secret, *, subject: str, virtual_key: str | None, now: datetime, lifetime: timedelta) -> str:
    """A signed token: for a virtual key by its id, or for an admin. ``lifetime`` is at most a day."""
    if not timedelta(0) < lifetime <= LONGEST_LIFETIME:
        raise ValueError("a token lives between one second and 24 hours")
    issued_at = epoch_ms(now) // 1000
    claims: dict[str, Any] = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": subject,
        "iat": issued_at,
        "exp": issued_at + lifetime // timedelta(seconds=1),
    }
    claims |= {"role": "admin"} if virtual_key is None else {"virtual_key": virtual_key}
    jwt = importlib.import_module("joserfc.jwt")
    jwk = importlib.import_module("joserfc.jwk")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        secret = jwk.OctKey.import_key(key.reveal())
    token: str = jwt.encode({"alg": ALGORITHM}, claims, secret, algorithms=[ALGORITHM])
    return token
