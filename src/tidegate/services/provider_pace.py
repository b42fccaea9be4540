"""How fast calls to a provider may follow each other: requests and tokens per minute, this process's part of them."""

import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Final, final

from msgspec import Struct

from tidegate.domain.fleet import ALONE, Fleet
from tidegate.ports import Clock

_USED: Final = 0.96
"""Part of the allowed requests: what is held up on its way arrives together with what comes after it."""
_CATCHES_UP: Final = 0.1
"""Seconds by which a call that came late may be made up for."""
_TOKENS_SAVED: Final = 5.0
"""Seconds of tokens that may be spent at once after a rest."""
_AHEAD: Final = 1.0
"""Seconds of work that may be claimed before its turn."""


class PaceLimit(Struct, frozen=True):
    """What a provider allows per minute; ``None``: as much as you like."""

    requests: int | None = None
    tokens: int | None = None


@final
class ProviderPace:
    """A turn is taken per call. Tokens are known only afterwards, so they are paid afterwards."""

    def __init__(self, limits: Mapping[str, PaceLimit], clock: Clock) -> None:
        now = clock.monotonic()
        self._clock = clock
        self._limits = {name: limit for name, limit in limits.items() if limit != PaceLimit()}
        self._next = dict.fromkeys(self._limits, now)
        """When the next request may go. Monotonic seconds."""
        self._tokens = dict.fromkeys(self._limits, (0.0, now))
        """Tokens at hand, and when that was so."""
        self._fleet = ALONE

    def take_fleet(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def room(self, provider: str) -> int | None:
        """How many calls may begin within a second; ``None``: any number."""
        if provider not in self._limits:
            return None
        if not self._fleet.is_settled:
            return 0
        wait = self._wait(provider)
        if wait > _AHEAD:
            return 0
        interval = self._interval(provider)
        return math.ceil((_AHEAD - wait) / interval) if interval else None

    def ready_in(self, provider: str) -> float:
        """Seconds until a call may begin."""
        return self._wait(provider) if provider in self._limits else 0.0

    async def turn(self, provider: str) -> None:
        """Waits until a call may begin."""
        if provider not in self._limits:
            return
        while True:
            wait = self._wait(provider)
            if wait <= 0:
                break
            await self._clock.sleep(timedelta(seconds=wait))
        now = self._clock.monotonic()
        self._next[provider] = max(self._next[provider], now - _CATCHES_UP) + self._interval(provider)

    def spent(self, provider: str, tokens: int) -> None:
        if provider in self._limits and self._limits[provider].tokens is not None:
            self._tokens[provider] = (self._at_hand(provider) - tokens, self._clock.monotonic())

    def _wait(self, provider: str) -> float:
        wait = max(0.0, self._next[provider] - self._clock.monotonic())
        rate = self._token_rate(provider)
        if rate:
            wait = max(wait, -self._at_hand(provider) / rate)
        return wait

    def _interval(self, provider: str) -> float:
        """Seconds from one request to the next."""
        requests = self._limits[provider].requests
        return 60 / (requests * _USED) * self._fleet.share(provider).of if requests else 0.0

    def _token_rate(self, provider: str) -> float:
        tokens = self._limits[provider].tokens
        return tokens / 60 / self._fleet.share(provider).of if tokens else 0.0

    def _at_hand(self, provider: str) -> float:
        had, at = self._tokens[provider]
        rate = self._token_rate(provider)
        return min(had + (self._clock.monotonic() - at) * rate, rate * _TOKENS_SAVED)
