"""Wake-ups between processes: NOTIFY is a hint, looking again every two seconds is the truth.

Listeners die silently. So this one listens first and looks afterwards, sends itself an echo, and whoever waits for
a job is told of its end even if nobody ever notified anything.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any, Final, final

from tidegate.domain.errors import StoreError
from tidegate.domain.jobs import JobId
from tidegate.ports import Clock, Rng
from tidegate.store.postgres.database import Database
from tidegate.store.postgres.reading import ended as ended_among
from tidegate.store.postgres.refusing import FAILURES
from tidegate.store.wake_ups import LocalWakeUps, LocalWatch

CHANNEL: Final = "tidegate"
_WORK: Final = "work"
_ECHO: Final = "echo:"
_GATHER: Final = timedelta(milliseconds=5)
_IDS_AT_ONCE: Final = 200
"""A notification takes 8 000 bytes."""
_LOOK_EVERY: Final = timedelta(seconds=2)
_ECHO_EVERY: Final = 10.0
_ECHO_WITHIN: Final = 5.0
_LONGEST_PAUSE: Final = timedelta(seconds=2)

Connect = Callable[[], Awaitable[Any]]


@final
class PostgresWakeUps:
    """Implements ``WakeUps`` for all processes on one database."""

    def __init__(
        self, database: Database, connect: Connect | None, clock: Clock, rng: Rng, name: str
    ) -> None:
        """``connect`` opens the listener's own connection; without it there is only looking."""
        self._database = database
        self._connect = connect
        self._clock = clock
        self._rng = rng
        self._name = name
        self._local = LocalWakeUps()
        self._news: list[str] = []
        self._telling: asyncio.Task[None] | None = None
        self._echo_heard_at = 0.0
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks.append(asyncio.create_task(self._look_again_and_again()))
        if self._connect is not None:
            self._tasks.append(asyncio.create_task(self._listen_again_and_again(self._connect)))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._telling is not None:
            await self._telling

    # What this process has to say

    def work_arrived(self) -> None:
        self._local.work_arrived()
        if _WORK not in self._news[-1:]:
            self._tell(_WORK)

    def ended(self, job_id: JobId) -> None:
        self._local.ended(job_id)
        self._tell(job_id)

    def _tell(self, news: str) -> None:
        if self._connect is None:
            return
        self._news.append(news)
        if self._telling is None:
            self._telling = asyncio.create_task(self._tell_all())

    async def _tell_all(self) -> None:
        """One notification for much news: each costs everybody's commit a lock."""
        try:
            while self._news:
                await self._clock.sleep(_GATHER)
                news, self._news = list(dict.fromkeys(self._news)), []
                for start in range(0, len(news), _IDS_AT_ONCE):
                    await self._notify(" ".join(news[start : start + _IDS_AT_ONCE]))
        except StoreError:
            self._news.clear()  # hints only: the others look by themselves
        finally:
            self._telling = None

    async def _notify(self, payload: str) -> None:
        await self._database.fetch("SELECT pg_notify($1, $2)", CHANNEL, f"{self._name} {payload}")

    # What others say

    def hear(self, payload: str) -> None:
        sender, *news = payload.split(" ")
        if news == [_ECHO + self._name]:
            self._echo_heard_at = self._clock.monotonic()
        if sender == self._name:
            return
        for item in news:
            if item == _WORK:
                self._local.work_arrived()
            elif not item.startswith(_ECHO):
                self._local.ended(JobId(item))

    async def _listen_again_and_again(self, connect: Connect) -> None:
        while True:
            try:
                await self._listen(connect)
            except (*FAILURES, StoreError):
                pass
            await self._clock.sleep(self._rng.chance() * _LONGEST_PAUSE)

    async def _listen(self, connect: Connect) -> None:
        """Returns when the line is dead. Listens first, then looks: what came between the two would be lost."""
        connection = await connect()
        is_broken = asyncio.Event()
        connection.add_termination_listener(lambda _connection: is_broken.set())
        try:
            async with asyncio.timeout(_ECHO_WITHIN):
                await connection.add_listener(CHANNEL, lambda _c, _pid, _channel, payload: self.hear(payload))
            self._local.work_arrived()
            await self._look()
            while not is_broken.is_set() and await self._hears_itself(connection, is_broken):
                await self._unless(is_broken, _ECHO_EVERY - _ECHO_WITHIN)
        finally:
            connection.terminate()

    async def _hears_itself(self, connection: Any, is_broken: asyncio.Event) -> bool:
        asked_at = self._clock.monotonic()
        async with asyncio.timeout(_ECHO_WITHIN):
            await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, f"{self._name} {_ECHO}{self._name}")
        await self._unless(is_broken, _ECHO_WITHIN)
        return self._echo_heard_at >= asked_at

    @staticmethod
    async def _unless(is_broken: asyncio.Event, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await is_broken.wait()

    async def _look_again_and_again(self) -> None:
        while True:
            await self._clock.sleep(_LOOK_EVERY)
            try:
                await self._look()
            except StoreError:
                continue  # while the database is away nothing ends

    async def _look(self) -> None:
        watched = self._local.watched()
        if watched:
            for job_id in await ended_among(self._database, watched):
                self._local.ended(job_id)

    # Who waits here

    def on_ended(self, listener: Callable[[JobId], None]) -> None:
        self._local.on_ended(listener)

    def watch(self, job_id: JobId) -> AbstractContextManager[LocalWatch]:
        return self._local.watch(job_id)

    async def wait_for_work(self, time_limit: timedelta) -> None:
        await self._local.wait_for_work(time_limit)

    def release_everybody(self) -> None:
        self._local.release_everybody()
