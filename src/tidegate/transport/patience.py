"""How long one call is waited for: in all, and for the next part of its body."""

import asyncio
from datetime import timedelta
from types import TracebackType
from typing import Self


class Patience:
    """One timer for both limits; ``TimeoutError`` when it runs out.

    Before the body only the total counts: long answers begin with a long silence.
    """

    def __init__(self, total: timedelta, between_parts: timedelta) -> None:
        self._loop = asyncio.get_running_loop()
        self._total = total
        self._between_parts = between_parts
        self._ends_at = self._loop.time() + total.total_seconds()
        self._timer = asyncio.timeout_at(self._ends_at)
        self.is_for_silence = False

    @property
    def limit(self) -> timedelta:
        """Which of the two the timer stands for."""
        return self._between_parts if self.is_for_silence else self._total

    def heard(self) -> None:
        """The headers or a part of the body came: the silence begins anew."""
        silent_until = self._loop.time() + self._between_parts.total_seconds()
        self.is_for_silence = silent_until < self._ends_at
        self._timer.reschedule(min(silent_until, self._ends_at))

    async def __aenter__(self) -> Self:
        await self._timer.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        timer = self._timer
        # The timer knows the task, and a cancelled task knows through its traceback all that was at work here:
        # without this, request and connection would wait for the garbage collector.
        del self._timer
        await timer.__aexit__(kind, error, traceback)
