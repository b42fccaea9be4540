"""List: one page of the jobs a caller may see."""

from typing import final

from tidegate.domain.access import AnonymousCaller, Caller, reader_of
from tidegate.domain.errors import ErrorCode, Unauthenticated
from tidegate.domain.jobs import JobFilter, JobId, JobPage
from tidegate.ports import JobStore


@final
class ListJobs:
    def __init__(self, store: JobStore) -> None:
        self._store = store

    async def page(
        self, caller: Caller, wanted: JobFilter, *, limit: int, newest_first: bool, after: JobId | None
    ) -> JobPage:
        """A key's own jobs, an admin's all. Raises ``Unauthenticated`` for anonymous callers."""
        if isinstance(caller, AnonymousCaller):
            # A list would hand out the ids that guard anonymous jobs.
            raise Unauthenticated(
                ErrorCode.VIRTUAL_KEY_REQUIRED,
                "authentication is required: send a virtual key or a JWT",
                credential_was_sent=False,
            )
        return await self._store.list(
            reader_of(caller), wanted, limit=limit, newest_first=newest_first, after=after
        )
