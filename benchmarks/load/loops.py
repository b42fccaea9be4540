"""Closed and open loop: how fast requests follow each other, and from when their latency counts."""

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from typing import Final, final

from benchmarks.load.connection import Connection
from benchmarks.load.histogram import Histogram
from benchmarks.load.session import Load, Session
from benchmarks.machine.proc import Meter
from benchmarks.samples import Sample, latency_of

_TICK: Final = 0.001
"""The least an event loop sleeps."""


@final
class Schedule:
    """Times at a fixed rate, in nanoseconds: when each request of an open loop is to be sent."""

    def __init__(self, rate: float, start: int) -> None:
        self._interval = 1e9 / rate
        self._start = start
        self._given = 0

    def due(self, now: int) -> Iterator[int]:
        """Each time up to ``now`` that was not given before, however late this is asked."""
        while (at := self._start + round(self._given * self._interval)) <= now:
            self._given += 1
            yield at


async def closed_loop(load: Load, meter: Meter, seconds: float, *, warm_up: float = 0.5) -> Sample:
    """Each connection sends its next request as soon as it has the answer to the last one."""
    async with Session.opened(load) as session:
        session.on_free = session.send
        _send_everywhere(session)
        await session.run_for(warm_up)
        session.is_counting = True
        meter.start()
        await session.run_for(seconds)
        reading = meter.stop()
        session.is_counting = False
        session.rest()
        await session.until_answered()
    return reading.sample(session.histogram.count, latency_of(session.histogram))


async def open_loop(load: Load, meter: Meter, seconds: float, *, rate: float) -> Sample:
    """Requests at a fixed rate whatever the server does.

    Latency counts from the scheduled time: a request that had to wait for a free connection, because the server
    or we stood still, shows it. Otherwise a stall would hide the requests that nobody could send meanwhile.
    """
    async with Session.opened(load) as session:
        pacer = _Pacer(session, rate)
        session.is_counting = True
        meter.start()
        await pacer.run(seconds)
        reading = meter.stop()
        await session.until_answered()
    return reading.sample(session.histogram.count, latency_of(session.histogram))


async def send_all(load: Load, count: int) -> None:
    """``count`` requests in a closed loop, each answered when this returns."""
    left = count

    def send_next(connection: Connection, now: int) -> None:
        nonlocal left
        if left > 0:
            left -= 1
            session.send(connection, now)

    async with Session.opened(load) as session:
        session.on_free = send_next
        for connection in session.connections:
            send_next(connection, time.perf_counter_ns())
        await session.until(lambda: left <= 0)
        await session.until_answered()


async def one_at_a_time(load: Load, count: int, pause: float) -> Histogram:
    """One request after the other with the server at rest in between."""
    async with Session.opened(load) as session:
        session.is_counting = True
        for _ in range(count):
            session.send(session.connections[0], time.perf_counter_ns())
            await session.until(lambda: not session.under_way)
            await asyncio.sleep(pause)
    return session.histogram


@final
class _Pacer:
    """Sends on schedule as long as a connection is free, and as soon as one is free after that."""

    def __init__(self, session: Session, rate: float) -> None:
        self._session = session
        self._rate = rate
        self._free = deque(session.connections)
        self._late: deque[int] = deque()
        session.on_free = self._take_back

    async def run(self, seconds: float) -> None:
        start = time.perf_counter_ns()
        end = start + round(seconds * 1e9)
        schedule = Schedule(self._rate, start)
        while (now := time.perf_counter_ns()) < end:
            self._late.extend(schedule.due(now))
            while self._late and self._free:
                self._session.send(self._free.popleft(), self._late.popleft())
            await self._session.run_for(_TICK)

    def _take_back(self, connection: Connection, _now: int) -> None:
        if self._late:
            self._session.send(connection, self._late.popleft())
        else:
            self._free.append(connection)


def _send_everywhere(session: Session) -> None:
    for connection in session.connections:
        session.send(connection, time.perf_counter_ns())
