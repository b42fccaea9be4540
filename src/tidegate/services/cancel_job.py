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
        job = await self._store.cancel(reader_of(caller), ref)
        if job is None:
            raise job_not_found()
        self._observer.job_cancelled(job)
        return job
