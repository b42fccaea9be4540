"""Disks that are full, broken or held by somebody else."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import pytest

from support.faulty_vfs import FaultyVFS
from support.processes import held
from support.stores import ALICE, SqliteUnderTest
from tidegate.domain.access import OwnedBy
from tidegate.domain.errors import (
    CommitUnknown,
    StorageFull,
    StorageUnavailable,
    StoreBusy,
)
from tidegate.domain.jobs import JobRef

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteUnderTest]:
    under_test = SqliteUnderTest(tmp_path / "data" / "tidegate.db")
    under_test.open()
    yield under_test
    await under_test.store.close()


def forbid_growth(store: SqliteUnderTest) -> None:
    connection = store.store._writer._connection
    connection.pragma("max_page_count", connection.pragma("page_count"))


def allow_growth(store: SqliteUnderTest) -> None:
    store.store._writer._connection.pragma("max_page_count", 2**31)


class TestFullDisk:
    async def test_submits_are_refused_polls_go_on_and_it_recovers_by_itself(
        self, store: SqliteUnderTest
    ) -> None:
        job_id = await store.accept()
        forbid_growth(store)

        with pytest.raises(StorageFull):
            await store.accept(body=b"x" * 200_000)
        assert await store.status(job_id) == "pending"
        with pytest.raises(StorageFull):
            await store.accept()

        allow_growth(store)
        store.later(seconds=5)
        assert await store.status(await store.accept()) == "pending"

    async def test_a_full_disk_is_noticed_again(self, store: SqliteUnderTest) -> None:
        forbid_growth(store)
        for _ in range(3):
            with pytest.raises(StorageFull):
                await store.accept(body=b"x" * 200_000)
            store.later(seconds=5)

    async def test_what_shares_the_commit_is_refused_too_and_not_half_stored(
        self, store: SqliteUnderTest
    ) -> None:
        forbid_growth(store)
        small = [store.new_job() for _ in range(3)]
        large = store.new_job(body=b"x" * 200_000)

        results = await asyncio.gather(
            *[store.jobs.accept(job) for job in (*small, large)], return_exceptions=True
        )

        assert [type(result) for result in results] == [StorageFull] * 4
        allow_growth(store)
        assert [await store.status(job.id) for job in (*small, large)] == ["gone"] * 4

    async def test_fairness_counters_forget_what_was_rolled_back(self, store: SqliteUnderTest) -> None:
        forbid_growth(store)
        with pytest.raises(StorageFull):
            await store.accept(body=b"x" * 200_000)
        allow_growth(store)
        store.later(seconds=5)
        await store.accept()

        ranks = store.store._writer._connection.execute("SELECT rank FROM jobs").fetchall()

        assert ranks == [(201.0,)]

    async def test_submits_stop_before_the_disk_is_full(self, tmp_path: Path) -> None:
        store = SqliteUnderTest(tmp_path / "data" / "tidegate.db")
        store.open()
        space = store.store.jobs._space
        space._min_free = 2**60

        with pytest.raises(StorageFull):
            await store.accept()
        space._min_free = 0
        store.later(seconds=1)

        await store.accept()
        await store.store.close()


class TestBrokenDisk:
    @pytest.fixture
    def vfs(self, tmp_path: Path) -> FaultyVFS:
        return FaultyVFS(f"faulty-{tmp_path.name}")

    @pytest.fixture
    def store(self, tmp_path: Path, vfs: FaultyVFS) -> SqliteUnderTest:
        under_test = SqliteUnderTest(tmp_path / "data" / "tidegate.db", options={"vfs": vfs.name})
        under_test.open()
        return under_test

    @pytest.mark.parametrize("call", ["xWrite", "xSync"])
    async def test_nobody_is_told_that_a_job_is_stored(
        self, store: SqliteUnderTest, vfs: FaultyVFS, call: str
    ) -> None:
        kept = await store.accept()
        vfs.fail(call, apsw.IOError)

        results = await asyncio.gather(*[store.accept() for _ in range(3)], return_exceptions=True)

        assert [type(result) for result in results] == [CommitUnknown] * 3
        assert len(store.fatal) == 1
        vfs.heal()
        store.options = {}
        store.crash_and_restart()
        assert await store.status(kept) == "pending"
        await store.store.close()

    async def test_a_failed_sync_is_never_repeated(self, store: SqliteUnderTest, vfs: FaultyVFS) -> None:
        vfs.fail("xSync", apsw.IOError)
        with pytest.raises(CommitUnknown):
            await store.accept()
        vfs.heal()
        vfs.calls.clear()

        for _ in range(3):
            with pytest.raises(StorageUnavailable):
                await store.accept()
        store.pull_the_plug()

        assert vfs.calls["xSync"] == vfs.calls["xWrite"] == 0

    async def test_a_page_that_cannot_be_read_is_no_missing_job(
        self, store: SqliteUnderTest, vfs: FaultyVFS
    ) -> None:
        ids = [await store.accept(body=os.urandom(60_000)) for _ in range(3)]
        store.store._readers._looker.cache_flush()
        store.store._readers._looker.release_memory()
        vfs.fail("xRead", apsw.IOError)

        found = await asyncio.gather(
            *[store.jobs.inspect(OwnedBy(ALICE), JobRef(job_id)) for job_id in ids], return_exceptions=True
        )

        assert StorageUnavailable in {type(outcome) for outcome in found}
        assert None not in found
        assert store.fatal
        vfs.heal()
        store.pull_the_plug()


class TestHeldDatabase:
    async def test_a_foreign_writer_is_waited_for_without_stopping_the_loop(
        self, store: SqliteUnderTest
    ) -> None:
        with held(store.path) as let_go:
            accepting = asyncio.create_task(store.accept())
            ticks = 0
            while not accepting.done():
                await asyncio.sleep(0.01)
                ticks += 1
                if ticks == 10:
                    let_go()

        assert ticks >= 10
        assert await store.status(accepting.result()) == "pending"

    async def test_after_five_seconds_the_store_is_busy(
        self, store: SqliteUnderTest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tidegate.store.sqlite.writer.BUSY_TIMEOUT_MS", 100)
        with held(store.path), pytest.raises(StoreBusy):
            await store.accept()

        assert await store.status(await store.accept()) == "pending"

    async def test_who_waits_behind_others_does_not_wait_for_five_seconds_more(
        self, store: SqliteUnderTest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with held(store.path):
            with monkeypatch.context() as patched:
                patched.setattr("tidegate.store.sqlite.writer.BUSY_TIMEOUT_MS", 100)
                with pytest.raises(StoreBusy):
                    await store.accept()
            store.later(seconds=5)

            async with asyncio.timeout(1):
                with pytest.raises(StoreBusy):
                    await store.accept()

    async def test_the_next_foreign_writer_is_waited_for_as_patiently(self, store: SqliteUnderTest) -> None:
        for _ in range(2):
            with held(store.path) as let_go:
                accepting = asyncio.create_task(store.accept())
                await asyncio.sleep(0.05)
                assert not accepting.done()
                let_go()
                await accepting
            store.later(seconds=6)


class TestBrokenOperations:
    async def test_one_fails_alone(self, store: SqliteUnderTest) -> None:
        job = store.new_job()
        await store.jobs.accept(job)

        results = await asyncio.gather(
            store.jobs.accept(store.new_job()),
            store.jobs.accept(job),
            store.jobs.accept(store.new_job()),
            return_exceptions=True,
        )

        assert isinstance(results[1], apsw.ConstraintError)
        assert not isinstance(results[0], BaseException)
        assert not isinstance(results[2], BaseException)
        assert store.fatal == []
        assert len(await store.claim()) == 3


class TestLongReads:
    async def test_a_scan_is_interrupted(
        self, store: SqliteUnderTest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tidegate.store.sqlite.readers._LONGEST_SCAN", 0.05)
        endless = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"

        with pytest.raises(StoreBusy):
            await store.store._readers.scan(lambda query: query(endless, ()))

        assert (await store.jobs.counts()).pending == {}


class TestWal:
    async def test_it_does_not_grow_without_bound(self, store: SqliteUnderTest) -> None:
        wal = store.path.with_name("tidegate.db-wal")
        largest = 0
        for _ in range(60):
            await asyncio.gather(*[store.accept(body=os.urandom(40_000)) for _ in range(30)])
            largest = max(largest, wal.stat().st_size)

        assert 16 * 2**20 < largest < 24 * 2**20, "a third of what was written"

    async def test_after_a_long_read_it_is_cut_also_where_nothing_is_written_any_more(
        self, store: SqliteUnderTest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tidegate.store.sqlite.writer._CHECKPOINT_AT", 2**18)
        monkeypatch.setattr("tidegate.store.sqlite.writer._TRUNCATE_AT", 2**20)
        wal = store.path.with_name("tidegate.db-wal")
        reader = apsw.Connection(str(store.path))
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM jobs").fetchall()
        for _ in range(10):
            await asyncio.gather(*[store.accept(body=os.urandom(40_000)) for _ in range(10)])
        await store.jobs.rescue()  # by now a checkpoint has met the reader
        assert wal.stat().st_size > 4 * 2**20

        reader.close()
        for _ in range(2):
            await store.jobs.rescue()

        assert wal.stat().st_size == 0

    async def test_an_orderly_stop_leaves_it_empty(self, store: SqliteUnderTest) -> None:
        await store.accept()
        await store.store._writer.checkpoint()

        assert store.path.with_name("tidegate.db-wal").stat().st_size == 0
