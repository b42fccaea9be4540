"""Cancel: the job ends now; a call that is under way is closed by its worker."""

from typing import final

from tidegate.domain.access import Caller, reader_of
from tidegate.domain.errors import job_not_found
from tidegate.domain.jobs import JobDetails, JobRef
from tidegate.ports import JobStore, Observer


@final
class CancelJob:
    def __init__(self, store: JobStore, observer: Observer) -> None:
        self._store = store
        self._observer = observer

    async def cancel(self, caller: Caller, ref: JobRef) -> JobDetails:
        """The cancelled job. Raises ``NotFound``, or ``Conflict`` when it had ended otherwise."""
        done = await self._store.cancel(reader_of(caller), ref)
        if done is None:
            raise job_not_found()
        if done.ended_now:
            self._observer.job_cancelled(done.job)
        return done.job
