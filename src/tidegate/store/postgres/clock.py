"""The database's time, as far as one can tell from here: what it last said, and how long ago that was."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final, final

from tidegate.ports import Clock
from tidegate.store.rows import moment

_STEP: Final = timedelta(seconds=2)


@final
class DatabaseClock:
    """Implements ``Clock`` for whatever is compared with times in the store. It decides nothing: statements do.

    ``on_step`` hears how far the database's clock has jumped.
    """

    def __init__(self, clock: Clock, on_step: Callable[[timedelta], None]) -> None:
        self._clock = clock
        self._on_step = on_step
        self._said = clock.now()
        self._heard_at = clock.monotonic()
        self._is_set = False

    def set(self, ms: int) -> None:
        """The database says that it is ``ms``."""
        said = moment(ms)
        step = said - self.now()
        if self._is_set and abs(step) > _STEP:
            self._on_step(step)
        self._said = said
        self._heard_at = self._clock.monotonic()
        self._is_set = True

    def now(self) -> datetime:
        elapsed = round((self._clock.monotonic() - self._heard_at) * 1000)
        return self._said + timedelta(milliseconds=elapsed)

    def monotonic(self) -> float:
        return self._clock.monotonic()

    async def sleep(self, duration: timedelta) -> None:
        await self._clock.sleep(duration)
