"""An event loop without real time: nobody waits, and every run of a seed is the same run.

Its clock jumps to the next timer as soon as nothing else is left to do. Work for threads is done on the loop
itself, so there is no second thread whose speed could matter. Given a seed it also decides in which order
callbacks run that became ready together, and for how long the disk is busy.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from heapq import heappop
from random import Random
from typing import Any, Final, TypeVar, TypeVarTuple, Unpack, final

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_START: Final = 1000.0
_SLOWEST_DISK: Final = 0.02
_SLOW_DISK_CHANCE: Final = 0.1


class Deadlock(Exception):
    """Everybody waits, and no timer will ever wake anybody."""


class VirtualLoop(asyncio.BaseEventLoop):
    """Without ``random`` callbacks keep their order and work for threads is done when it is handed in."""

    # What the base class keeps, and the type stubs do not know.
    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]

    def __init__(self, random: Random | None = None) -> None:
        super().__init__()
        self._now = _START
        self._random = random

    def time(self) -> float:
        return self._now

    def run_in_executor(
        self, executor: Any, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        done: asyncio.Future[T] = self.create_future()
        if self._random is None:
            self._do(done, func, args)
        else:
            self.call_later(self._disk_time(), self._do, done, func, args)
        return done

    def _do(self, done: asyncio.Future[Any], func: Callable[..., Any], args: tuple[Any, ...]) -> None:
        result, error = None, None
        try:
            result = func(*args)
        except Exception as exc:  # noqa: BLE001 – as in a thread: whoever waits gets it
            error = exc
        if self._random is None:
            self._tell(done, result, error)
        else:
            self.call_later(self._disk_time(), self._tell, done, result, error)

    def _tell(self, done: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
        if done.done():
            return  # whoever waited was cancelled; the work is done all the same
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)

    def _disk_time(self) -> float:
        """Mostly nothing, so that others may run before and after at the same instant."""
        assert self._random is not None
        return self._random.uniform(0, _SLOWEST_DISK) if self._random.random() < _SLOW_DISK_CHANCE else 0.0

    def _run_once(self) -> None:
        """One turn: time moves if nothing is ready, then everything runs that is."""
        self._collect_timers()
        turn = [handle for handle in self._ready if not handle.cancelled()]
        self._ready.clear()
        if self._random is not None:
            self._random.shuffle(turn)
        for handle in turn:
            if not handle.cancelled():  # an earlier one of this turn may have called it off
                handle._run()

    def _collect_timers(self) -> None:
        while self._scheduled:
            timer = self._scheduled[0]
            if not timer.cancelled():
                if timer.when() > self._now:
                    if not all(handle.cancelled() for handle in self._ready):
                        return
                    self._now = timer.when()
                self._ready.append(timer)
            heappop(self._scheduled)
            timer._scheduled = False  # type: ignore[attr-defined]  # not in the stubs; cancelling looks at it
        if not self._ready and not self._stopping:  # type: ignore[attr-defined]  # not in the stubs either
            raise Deadlock


@final
class VirtualClock:
    """Implements ``Clock`` on a virtual loop; the wall clock can be moved apart from the other."""

    def __init__(
        self, loop: VirtualLoop, start: datetime = datetime(2026, 3, 2, 9, 15, 4, 123000, UTC)
    ) -> None:
        self._loop = loop
        self._start = start
        self.stepped = timedelta(0)
        """How far the wall clock was moved in all."""

    def now(self) -> datetime:
        passed = round((self._loop.time() - _START) * 1000)
        return self._start + self.stepped + timedelta(milliseconds=passed)

    def monotonic(self) -> float:
        return self._loop.time()

    async def sleep(self, duration: timedelta) -> None:
        await asyncio.sleep(duration.total_seconds())

    def step_wall_clock(self, by: timedelta) -> None:
        self.stepped += by
