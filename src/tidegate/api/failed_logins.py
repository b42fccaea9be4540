"""Slows down who keeps guessing: refused credentials are counted per address and minute."""

from collections.abc import Callable
from datetime import timedelta
from typing import Final, final

from tidegate.ports import Clock

SLOWED_FROM: Final = 20
"""Which refusal of a minute is the first to be answered late."""
DELAY: Final = timedelta(seconds=1)
_MINUTE: Final = 60.0
_MOST_ADDRESSES: Final = 10_000
_ALL_OTHERS: Final = ""


@final
class FailedLogins:
    """Hears of refused credentials only: whoever shows a good one is never slowed down, wherever it comes from."""

    def __init__(self, clock: Clock, slowed: Callable[[str, int], None]) -> None:
        self._clock = clock
        self._slowed = slowed
        """Hears the address of every answer that is late, and the how manieth of its minute it is."""
        self._began_at = float("-inf")
        self._counts: dict[str, int] = {}

    async def refused(self, address: str) -> None:
        """One more; returns when it may be answered."""
        count = self._count(address)
        if count >= SLOWED_FROM:
            self._slowed(address, count - SLOWED_FROM + 1)
            await self._clock.sleep(DELAY)

    def _count(self, address: str) -> int:
        now = self._clock.monotonic()
        if now - self._began_at >= _MINUTE:
            self._began_at = now
            self._counts.clear()
        if len(self._counts) >= _MOST_ADDRESSES and address not in self._counts:
            address = _ALL_OTHERS  # so many addresses are one attacker: they share what is left
        count = self._counts[address] = self._counts.get(address, 0) + 1
        return count
