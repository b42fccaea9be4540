"""The connections of one load: they send, time what comes back, and fail loudly when it is not as expected."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, Self, final

from msgspec import Struct

from benchmarks.load.connection import Connection, LoadFailed
from benchmarks.load.histogram import Histogram
from benchmarks.load.requests import HOST

_SHOWN: Final = 300
_MOST_LATE: Final = 20.0
"""Seconds without any answer after which there will be none."""
_TICK: Final = 0.001
"""The least an event loop sleeps."""


class Load(Struct, frozen=True):
    """What is sent where."""

    port: int
    next_request: Callable[[], bytes]
    connections: int = 64
    expected: frozenset[int] = frozenset({200, 202})
    on_body: Callable[[bytes], None] | None = None
    """Gets the body of every answer."""


@final
class Session:
    """Open connections. ``on_free`` hears when one has its answer, with the time in nanoseconds."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._failure: LoadFailed | None = None
        self._is_over = asyncio.Event()
        self._is_stopping = False
        self.connections: list[Connection] = []
        self.on_free: Callable[[Connection, int], None] = _rest
        self.histogram = Histogram()
        self.is_counting = False
        self.under_way = 0
        self.answered = 0

    @classmethod
    @asynccontextmanager
    async def opened(cls, load: Load) -> AsyncIterator[Self]:
        session = cls(load)
        try:
            for _ in range(load.connections):
                await session._connect()
            yield session
        finally:
            for connection in session.connections:
                connection.close()

    def rest(self) -> None:
        """From now on nothing follows an answer."""
        self.on_free = _rest

    def send(self, connection: Connection, at: int) -> None:
        """``at`` is when it was to be sent: from then on its latency counts."""
        connection.sent_at = at
        self.under_way += 1
        connection.send(self._load.next_request())

    async def run_for(self, seconds: float) -> None:
        """Raises ``LoadFailed`` as soon as an answer is not the expected one."""
        try:
            async with asyncio.timeout(seconds):
                await self._is_over.wait()
        except TimeoutError:
            return
        if self._failure is not None:
            raise self._failure

    async def until(self, is_done: Callable[[], bool]) -> None:
        """Raises ``LoadFailed`` as ``run_for`` does, and when the server has stopped to answer."""
        answered, give_up = self.answered, time.monotonic() + _MOST_LATE
        while not is_done():
            await self.run_for(_TICK)
            if self.answered != answered:
                answered, give_up = self.answered, time.monotonic() + _MOST_LATE
            elif time.monotonic() > give_up:
                raise self._silence()

    async def until_answered(self) -> None:
        """Until nothing is under way any more."""
        self._is_stopping = True
        if self.under_way or self._failure is not None:
            await self.run_for(_MOST_LATE)
        if self.under_way:
            raise self._silence()

    def _silence(self) -> LoadFailed:
        return LoadFailed(f"{self.under_way} requests got no answer within {_MOST_LATE:g} s")

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            lambda: Connection(self._replied, self._fail), HOST, self._load.port
        )
        self.connections.append(connection)

    def _replied(self, connection: Connection, status: int, body: bytes) -> None:
        now = time.perf_counter_ns()
        self.under_way -= 1
        self.answered += 1
        if self.is_counting:
            self.histogram.record((now - connection.sent_at) // 1000)
        if status not in self._load.expected:
            text = body[:_SHOWN].decode("utf-8", "replace")
            self._fail(f"the server answered {status}: {text}")
            return
        if self._load.on_body is not None:
            self._load.on_body(body)
        self.on_free(connection, now)
        if self._is_stopping and not self.under_way:
            self._is_over.set()

    def _fail(self, message: str) -> None:
        self._failure = self._failure or LoadFailed(message)
        self.rest()
        self._is_over.set()


def _rest(_connection: Connection, _now: int) -> None:
    """Nothing follows."""
