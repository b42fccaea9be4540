"""Wake-ups inside one process: who waits for work, and who waits for which job's end."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import final

from tidegate.domain.jobs import JobId


@final
class LocalWatch:
    """Implements ``Watch``."""

    def __init__(self) -> None:
        self.heard: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def tell(self) -> None:
        if not self.heard.done():
            self.heard.set_result(None)

    async def wait(self, time_limit: timedelta) -> None:
        await asyncio.wait([self.heard], timeout=time_limit.total_seconds())


@final
class LocalWakeUps:
    """Implements ``WakeUps``."""

    def __init__(self) -> None:
        self._work = asyncio.Event()
        self._watches: dict[JobId, set[LocalWatch]] = {}
        self._listeners: list[Callable[[JobId], None]] = []
        self._is_released = False

    def work_arrived(self) -> None:
        self._work.set()

    def ended(self, job_id: JobId) -> None:
        for watch in self._watches.get(job_id, ()):
            watch.tell()
        for listener in self._listeners:
            listener(job_id)

    def on_ended(self, listener: Callable[[JobId], None]) -> None:
        self._listeners.append(listener)

    @contextmanager
    def watch(self, job_id: JobId) -> Iterator[LocalWatch]:
        watch = LocalWatch()
        if self._is_released:
            watch.tell()
        watches = self._watches.setdefault(job_id, set())
        watches.add(watch)
        try:
            yield watch
        finally:
            watches.discard(watch)
            if not watches:
                self._watches.pop(job_id, None)

    def watched(self) -> list[JobId]:
        """Jobs whose end somebody waits for."""
        return list(self._watches)

    async def wait_for_work(self, time_limit: timedelta) -> None:
        try:
            async with asyncio.timeout(time_limit.total_seconds()):
                await self._work.wait()
        except TimeoutError:
            return
        self._work.clear()

    def release_everybody(self) -> None:
        """The process is going down: nobody waits any longer, now or later."""
        self._is_released = True
        for watches in self._watches.values():
            for watch in watches:
                watch.tell()
