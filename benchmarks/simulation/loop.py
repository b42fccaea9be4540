"""A small event loop for simulated time, and what its processes queue for.

A process is a generator that yields what it waits for. Nothing here is random and nothing looks at a clock: the same
processes give the same history.
"""

from collections import deque
from collections.abc import Callable, Generator
from heapq import heappop, heappush
from typing import TypeAlias, final

Resume: TypeAlias = Callable[[], None]
Event: TypeAlias = Callable[[Resume], None]
"""Something to wait for: it is given what goes on afterwards."""
Process: TypeAlias = Generator[Event, None, None]


@final
class Loop:
    """Events in the order of their time, those of one time in the order of their making."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Resume]] = []
        self._made = 0

    def call_after(self, delay: float, resume: Resume) -> None:
        self._made += 1
        heappush(self._events, (self.now + delay, self._made, resume))

    def after(self, delay: float) -> Event:
        return lambda resume: self.call_after(delay, resume)

    def start(self, process: Process) -> None:
        def step() -> None:
            event = next(process, None)
            if event is not None:
                event(step)

        self.call_after(0.0, step)

    def run(self, until: float) -> None:
        events = self._events
        while events and events[0][0] <= until:
            self.now, _, resume = heappop(events)
            resume()
        self.now = until


@final
class Gauge:
    """The mean of a number over time, since the last ``reset``."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.value = 0
        self._sum = 0.0
        self._changed = self._since = loop.now

    def add(self, change: int) -> None:
        now = self._loop.now
        self._sum += self.value * (now - self._changed)
        self._changed = now
        self.value += change

    def mean(self) -> float:
        self.add(0)
        passed = self._loop.now - self._since
        return self._sum / passed if passed else 0.0

    def reset(self) -> None:
        self._sum = 0.0
        self._changed = self._since = self._loop.now


@final
class Cores:
    """Some servers with one queue: first come, first served, a slice each."""

    def __init__(self, loop: Loop, count: int, *, slice_: float = float("inf"), speed: float = 1.0) -> None:
        """Work longer than ``slice_`` goes to the back of the queue after it, as a scheduler does it."""
        self._speed = speed
        self._loop = loop
        self._count = count
        self._slice = slice_
        self._queue: deque[tuple[float, Resume]] = deque()
        self.busy = Gauge(loop)
        self.present = Gauge(loop)
        """Those that wait and those that are served."""

    def use(self, seconds: float) -> Event:
        def begin(resume: Resume) -> None:
            self.present.add(1)
            self._queue.append((seconds / self._speed, resume))
            self._serve()

        return begin

    def utilisation(self) -> float:
        return self.busy.mean() / self._count

    def _serve(self) -> None:
        while self._queue and self.busy.value < self._count:
            work, resume = self._queue.popleft()
            self.busy.add(1)
            part = min(work, self._slice)
            self._loop.call_after(part, self._end_of(work - part, resume))

    def _end_of(self, rest: float, resume: Resume) -> Resume:
        def end() -> None:
            self.busy.add(-1)
            if rest > 0:
                self._queue.append((rest, resume))
                self._serve()
            else:
                self.present.add(-1)
                self._serve()
                resume()

        return end


@final
class Lock:
    """Held by one at a time, in the order of asking."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._waiting: deque[Resume] = deque()
        self.held = Gauge(loop)

    def take(self, resume: Resume) -> None:
        if self.held.value:
            self._waiting.append(resume)
        else:
            self.held.add(1)
            resume()

    def give(self) -> None:
        if self._waiting:
            self._loop.call_after(0.0, self._waiting.popleft())
        else:
            self.held.add(-1)


@final
class Log:
    """The write-ahead log: one flush at a time, and whatever has gathered meanwhile shares the next."""

    def __init__(self, loop: Loop, sync: float, per_byte: float) -> None:
        """Both in seconds."""
        self._loop = loop
        self._sync = sync
        self._per_byte = per_byte
        self._waiting: list[Resume] = []
        self._bytes = 0.0
        self.written = 0.0
        self.commits = 0
        self.flushes = 0
        self.flushing = Gauge(loop)

    def commit(self, size: float) -> Event:
        def begin(resume: Resume) -> None:
            self._waiting.append(resume)
            self._bytes += size
            if not self.flushing.value:
                self._flush()

        return begin

    def reset(self) -> None:
        self.written = 0.0
        self.commits = self.flushes = 0
        self.flushing.reset()

    def _flush(self) -> None:
        served, self._waiting = self._waiting, []
        size, self._bytes = self._bytes, 0.0
        self.flushing.add(1)

        def end() -> None:
            self.flushing.add(-1)
            self.written += size
            self.commits += len(served)
            self.flushes += 1
            for resume in served:
                self._loop.call_after(0.0, resume)
            if self._waiting:
                self._flush()

        self._loop.call_after(self._sync + size * self._per_byte, end)


@final
class Signal:
    """Wakes everybody who waits; who comes later waits for the next time."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._waiting: list[Resume] = []
        self.fired = 0
        """How often."""

    def within(self, seconds: float) -> Event:
        """The signal, or the end of the time, whichever is first."""

        def begin(resume: Resume) -> None:
            is_over = False

            def once() -> None:
                nonlocal is_over
                if not is_over:
                    is_over = True
                    resume()

            self._waiting.append(once)
            self._loop.call_after(seconds, once)

        return begin

    def fire(self) -> None:
        self.fired += 1
        waiting, self._waiting = self._waiting, []
        for resume in waiting:
            self._loop.call_after(0.0, resume)
