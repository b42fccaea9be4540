"""Cancel: told once, however often it is asked for (contract §11.2)."""

from pathlib import Path

import pytest

from support.fakes import RecordingObserver
from support.stores import ALICE, SqliteUnderTest
from tidegate.domain.access import AdminCaller
from tidegate.domain.errors import NotFound
from tidegate.domain.jobs import JobId, JobRef
from tidegate.services.cancel_job import CancelJob

pytestmark = pytest.mark.anyio

ROOT = AdminCaller("https://id.example", "root")


async def test_only_the_cancel_that_ended_the_job_is_told(tmp_path: Path) -> None:
    store = SqliteUnderTest(tmp_path / "tidegate.db")
    store.open()
    observer = RecordingObserver()
    cancel = CancelJob(store.jobs, observer)
    job_id = await store.accept(owner=ALICE)

    first = await cancel.cancel(ROOT, JobRef(job_id))
    again = await cancel.cancel(ROOT, JobRef(job_id))

    assert again == first
    assert observer.cancelled == [first]
    with pytest.raises(NotFound):
        await cancel.cancel(ROOT, JobRef(JobId("019cadd6-a3fe-72d0-833c-352f8860e41f")))
    assert observer.cancelled == [first]
    await store.store.close()
