"""Read: the state of a job, at once or when it has ended."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final, TypeVar, final

from tidegate.domain.access import Caller, reader_of
from tidegate.domain.errors import job_not_found
from tidegate.domain.jobs import JobDetails, JobRef, JobState
from tidegate.ports import JobStore, WakeUps

MOST_OPEN_WAITS: Final = 10_000
_NO_TIME: Final = timedelta(0)

T = TypeVar("T")


@final
class ReadJob:
    """Polls and waits. Raises ``NotFound`` for every job the caller may not see."""

    def __init__(self, store: JobStore, wake_ups: WakeUps) -> None:
        self._store = store
        self._wake_ups = wake_ups
        self._open_waits = 0

    def may_wait(self) -> bool:
        """Whether another answer may be held; with too many open the caller is answered at once."""
        return self._open_waits < MOST_OPEN_WAITS

    async def state(self, caller: Caller, ref: JobRef, *, wait: timedelta = _NO_TIME) -> JobState:
        reader = reader_of(caller)

        async def read() -> JobState:
            found = await self._store.get(reader, ref)
            if found is None:
                raise job_not_found()
            return found

        return await self._when_ended(ref, read, lambda state: state.status.is_terminal, wait)

    async def details(self, caller: Caller, ref: JobRef, *, wait: timedelta = _NO_TIME) -> JobDetails:
        reader = reader_of(caller)

        async def read() -> JobDetails:
            found = await self._store.inspect(reader, ref)
            if found is None:
                raise job_not_found()
            return found

        return await self._when_ended(ref, read, lambda job: job.state.status.is_terminal, wait)

    async def _when_ended(
        self,
        ref: JobRef,
        read: Callable[[], Awaitable[T]],
        has_ended: Callable[[T], bool],
        wait: timedelta,
    ) -> T:
        if wait <= _NO_TIME:
            return await read()
        # Watch first, then read: an end between the two would be missed the other way round.
        with self._wake_ups.watch(ref.id) as watch:
            found = await read()
            if has_ended(found):
                return found
            self._open_waits += 1
            try:
                await watch.wait(wait)
            finally:
                self._open_waits -= 1
        return await read()
