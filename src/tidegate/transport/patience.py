"""How long one call is waited for: in all, and for the next part of its body."""

import asyncio
from datetime import timedelta
from types import TracebackType
from typing import Final, final

_LOOK_EVERY: Final = 0.05
"""Seconds; a limit is kept to about this."""


@final
class Watchman:
    """Looks after all calls under way with one timer: one for each would be made, moved and thrown away."""

    def __init__(self) -> None:
        self._calls: set[Patience] = set()
        self._is_looking = False

    def watch(self, call: "Patience") -> None:
        self._calls.add(call)
        if not self._is_looking:
            self._is_looking = True
            self._look_later()

    def forget(self, call: "Patience") -> None:
        self._calls.discard(call)

    def _look_later(self) -> None:
        asyncio.get_running_loop().call_later(_LOOK_EVERY, self._look)

    def _look(self) -> None:
        now = asyncio.get_running_loop().time()
        for call in [call for call in self._calls if call.ends_at <= now]:
            call.run_out()
        self._is_looking = bool(self._calls)
        if self._is_looking:
            self._look_later()


@final
class Patience:
    """Both limits of one call as a context; ``TimeoutError`` when one of them runs out.

    Before the body only the total counts: long answers begin with a long silence.
    """

    __slots__ = (
        "_began_with",
        "_between_parts",
        "_has_run_out",
        "_latest",
        "_loop",
        "_task",
        "_total",
        "_watchman",
        "ends_at",
    )

    def __init__(self, watchman: Watchman, total: timedelta, between_parts: timedelta) -> None:
        self._watchman = watchman
        self._loop = asyncio.get_running_loop()
        self._total = total
        self._between_parts = between_parts
        self._latest = self.ends_at = self._loop.time() + total.total_seconds()
        self._task: asyncio.Task[object] | None = None
        self._began_with = 0
        self._has_run_out = False

    @property
    def is_for_silence(self) -> bool:
        return self.ends_at < self._latest

    @property
    def limit(self) -> timedelta:
        """Which of the two it is that ends first."""
        return self._between_parts if self.is_for_silence else self._total

    def heard(self) -> None:
        """The headers or a part of the body came: the silence begins anew."""
        self.ends_at = min(self._loop.time() + self._between_parts.total_seconds(), self._latest)

    def run_out(self) -> None:
        if self._task is not None and not self._has_run_out:
            self._has_run_out = True
            self._task.cancel()

    def __enter__(self) -> None:
        self._task = asyncio.current_task(self._loop)
        if self._task is None:
            raise RuntimeError("there is no task to interrupt")
        self._began_with = self._task.cancelling()
        self._watchman.watch(self)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._watchman.forget(self)
        # A cancelled task knows through its traceback all that was at work here: knowing it as well would
        # keep request and connection until the garbage collector comes.
        task, self._task = self._task, None
        if task is None or not self._has_run_out:
            return
        was_ours = task.uncancel() <= self._began_with
        if was_ours and kind is not None and issubclass(kind, asyncio.CancelledError):
            raise TimeoutError from error
