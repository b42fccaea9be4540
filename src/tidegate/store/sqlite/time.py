"""The store's clock: the wall clock, but never going back."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final, final

from tidegate.domain.ids import epoch_ms
from tidegate.ports import Clock

_LARGEST_DRIFT: Final = 2000.0
"""Milliseconds the wall clock may gain or lose between two looks before that is a step."""
_PRUNE_WAITS: Final = 60.0
"""Seconds after a step forward in which nothing is erased: a person may still correct the clock."""
_CATCHING_UP: Final = 0.5


@final
class StoreClock:
    """Implements ``Clock`` for all that is compared with times in the store. Used on the event loop only.

    Where the wall clock was set back, store time goes on at half its pace until the wall clock has caught up:
    what has expired stays expired, and what waits for its time still gets there.
    """

    def __init__(self, clock: Clock, on_step: Callable[[timedelta], None]) -> None:
        """``on_step`` hears by how much the wall clock jumped."""
        self._clock = clock
        self._on_step = on_step
        self._wall = epoch_ms(clock.now())
        self._latest = float(self._wall)
        self._looked_at = clock.monotonic()
        self._stepped_at = float("-inf")

    def now_ms(self) -> int:
        """Milliseconds since 1970."""
        wall = epoch_ms(self._clock.now())
        looked_at = self._clock.monotonic()
        elapsed = (looked_at - self._looked_at) * 1000
        step = wall - self._wall - elapsed
        self._wall = wall
        self._looked_at = looked_at
        if wall >= self._latest:
            self._latest = wall
        else:
            self._latest += elapsed * _CATCHING_UP
        if not -_LARGEST_DRIFT <= step <= _LARGEST_DRIFT:
            self._note(step)
        return int(self._latest)

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.now_ms() / 1000, UTC)

    def monotonic(self) -> float:
        return self._clock.monotonic()

    async def sleep(self, duration: timedelta) -> None:
        await self._clock.sleep(duration)

    @property
    def is_to_be_trusted(self) -> bool:
        """Whether what this clock calls expired may be erased: not for a minute after a step forward."""
        return self._clock.monotonic() - self._stepped_at >= _PRUNE_WAITS

    def _note(self, step: float) -> None:
        if step > 0:
            self._stepped_at = self._looked_at
        self._on_step(timedelta(milliseconds=round(step)))
