"""The store's clock: the wall clock, but never going back."""

from typing import final

from tidegate.domain.ids import epoch_ms
from tidegate.ports import Clock


@final
class StoreClock:
    """A step back of the wall clock stands still here until it is made up for."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._latest = 0

    def now_ms(self) -> int:
        """Milliseconds since 1970."""
        self._latest = max(self._latest, epoch_ms(self._clock.now()))
        return self._latest

    def monotonic(self) -> float:
        return self._clock.monotonic()
