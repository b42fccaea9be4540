"""An issuer's public keys by URL: fetched when needed, kept while the URL fails (RFC 7517)."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final, final

import msgspec

from tidegate.api.tokens import import_key
from tidegate.domain.inference import HttpCall, HttpReply
from tidegate.ports import Clock, Transport

REFRESH_AT_MOST_EVERY: Final = 60.0
REFRESH_AFTER: Final = 3600.0
LARGEST_SET: Final = 256 * 1024
MOST_KEYS: Final = 100
_TIME_LIMIT: Final = timedelta(seconds=5)
_EGRESS: Final = "issuer keys"
"""No provider can have this name, hence none lends its proxy or authority to an issuer."""
_TYPES: Final = {"RS256": "RSA", "ES256": "EC", "EdDSA": "OKP"}


class _KeySet(msgspec.Struct):
    keys: list[dict[str, Any]]


@final
class RemoteKeys:
    """Implements ``KeySource``: an unknown ``kid`` asks the URL again, at most once a minute."""

    def __init__(self, url: str, transport: Transport, clock: Clock) -> None:
        self._url = url
        self._transport = transport
        self._clock = clock
        self._known: list[dict[str, Any]] = []
        self._tried_at = float("-inf")
        self._fetched_at = float("-inf")
        self._lock = asyncio.Lock()

    async def keys(self, key_id: str | None, algorithm: str) -> Sequence[Any]:
        is_old = self._clock.monotonic() - self._fetched_at >= REFRESH_AFTER
        found = self._fitting(key_id, algorithm)
        if is_old or not found:
            await self._refresh()
            found = self._fitting(key_id, algorithm)
        return found

    def _fitting(self, key_id: str | None, algorithm: str) -> list[Any]:
        return [
            key
            for jwk in self._known
            if jwk.get("kty") == _TYPES[algorithm]
            and (key_id is None or jwk.get("kid") == key_id)
            and jwk.get("alg", algorithm) == algorithm
            and jwk.get("use", "sig") == "sig"
            and (key := _imported(jwk, algorithm)) is not None
        ]

    async def _refresh(self) -> None:
        async with self._lock:
            now = self._clock.monotonic()
            if now - self._tried_at < REFRESH_AT_MOST_EVERY:
                return
            self._tried_at = now
            fetched = await self._fetch()
            if fetched is not None:
                self._known = fetched
                self._fetched_at = now

    async def _fetch(self) -> list[dict[str, Any]] | None:
        """The set at the URL; ``None`` when it cannot be had, and then the last good one serves on."""
        call = HttpCall(_EGRESS, "GET", self._url, (("accept", "application/json"),), b"", None)
        reply = await self._transport.send(call, time_limit=_TIME_LIMIT)
        if not isinstance(reply, HttpReply) or reply.status != 200 or len(reply.body) > LARGEST_SET:
            return None
        try:
            found = msgspec.json.decode(reply.body, type=_KeySet).keys
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return None
        return found if len(found) <= MOST_KEYS else None


def _imported(jwk: dict[str, Any], algorithm: str) -> Any:
    try:
        return import_key(jwk, algorithm)
    except ValueError:
        return None
