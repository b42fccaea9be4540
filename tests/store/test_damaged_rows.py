"""Rows that make no sense: reported as damage, refused at the start or borne, but nothing breaks in any other way.

A single bit may turn the number of a time into another kind of value; whatever reads it must know what that is.
"""

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import apsw
import pytest

from support.fakes import SeededRng
from support.stores import ALICE, RETRY, SqliteUnderTest
from support.virtual_time import VirtualLoop
from tidegate.domain.access import AllOwners, OwnedBy
from tidegate.domain.errors import GatewayError
from tidegate.domain.jobs import JobFilter, JobId, JobRef
from tidegate.store.migrate import SchemaMismatch
from tidegate.store.refusal import StoreRefused
from tidegate.store.sqlite import damage

NONSENSE: Final = (
    "1e300", "-1e300", "4611686018427387904", "-4611686018427387904", "0", "x'ff'", "'x'", "CAST(x'ff' AS TEXT)", "NULL",
)  # fmt: skip
"""Values, in SQL."""
DIGEST: Final = b"d" * 32
FAST: Final = Path("/dev/shm")

Doing = Callable[[], Awaitable[object]]


async def fill(store: SqliteUnderTest) -> list[JobId]:
    """A job of every kind, one of them running, and a key."""
    store.open()
    await store.keys.create(store.key(), DIGEST)
    ids = [await store.accept(idempotency=store.idempotency())]
    await store.complete(await store.claim_one())
    ids.append(await store.accept())
    await store.fail(await store.claim_one())
    ids.append(await store.accept())
    await store.jobs.settle((await store.claim_one()).lease, RETRY, ())
    ids.append(await store.accept(metadata=b"{}"))
    await store.claim_one()
    ids.append(await store.accept())
    await store.store.close()
    return ids


def everything(store: SqliteUnderTest, ids: list[JobId]) -> Iterator[Doing]:
    """All that is ever asked of a store."""
    jobs, keys, own = store.jobs, store.keys, OwnedBy(ALICE)
    for job in ids:
        yield partial(jobs.get, own, JobRef(job))
        yield partial(jobs.inspect, own, JobRef(job))
    yield lambda: jobs.list(own, JobFilter(), limit=2, newest_first=False, after=None)
    yield jobs.counts
    yield jobs.next_due
    yield jobs.pending_lanes
    yield lambda: jobs.replayed(store.idempotency())
    yield lambda: store.accept(idempotency=store.idempotency("another"))
    yield lambda: keys.find(DIGEST)
    yield lambda: keys.list(limit=2, offset=0, name_prefix="")
    store.later(seconds=61)
    yield store.claim
    yield lambda: jobs.cancel(AllOwners(), JobRef(ids[-1]))
    store.later(hours=2)
    yield jobs.rescue
    yield lambda: jobs.expire(limit=100)
    yield lambda: jobs.prune(limit=100)


async def use(store: SqliteUnderTest, ids: list[JobId]) -> None:
    """As a gateway would, up to the moment at which it ends itself."""
    try:
        store.open()
    except (StoreRefused, SchemaMismatch):
        return
    try:
        for doing in everything(store, ids):
            try:
                await doing()
            except GatewayError:
                if store.fatal:
                    return
    finally:
        store.pull_the_plug()


def spoil(path: Path, table: str, column: str, value: str) -> bool:
    """Whether the schema let it happen; of what is unique, one row gets it."""
    database = apsw.Connection(str(path))
    try:
        database.execute(f'UPDATE OR IGNORE "{table}" SET "{column}" = {value}')  # noqa: S608 – all from here
        return database.changes() > 0
    except (apsw.ConstraintError, apsw.MismatchError):
        return False
    finally:
        database.close()


def columns(path: Path) -> list[tuple[str, str]]:
    database = apsw.Connection(str(path))
    found: list[Any] = database.execute(
        "SELECT t.name, c.name FROM sqlite_schema t, pragma_table_info(t.name) c WHERE t.type = 'table'"
    ).fetchall()
    database.close()
    return found


def breakages() -> tuple[int, Mapping[str, str]]:
    """How many rows were spoiled, and what that broke in any but the right way."""
    broken: dict[str, str] = {}
    tried = 0
    with TemporaryDirectory(dir=FAST if FAST.is_dir() else None) as directory:
        original = Path(directory) / "original"
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            ids = runner.run(fill(SqliteUnderTest(original / "tidegate.db")))
        for table, column in columns(original / "tidegate.db"):
            for value in NONSENSE:
                place = Path(directory) / "spoiled"
                shutil.copytree(original, place)
                if spoil(place / "tidegate.db", table, column, value):
                    tried += 1
                    store = SqliteUnderTest(place / "tidegate.db", rng=SeededRng(1))
                    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
                        try:
                            runner.run(use(store, ids))
                        except Exception as exc:  # noqa: BLE001 – each is a finding
                            broken[f"{table}.{column} = {value}"] = repr(exc)
                shutil.rmtree(place)
    return tried, broken


def test_a_row_that_makes_no_sense_breaks_nothing_in_a_way_of_its_own() -> None:
    tried, broken = breakages()

    assert broken == {}
    assert tried > 300


def test_without_looking_for_nonsense_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the test above would be blind."""
    monkeypatch.setattr(damage, "_NOT_OURS", ())

    _, broken = breakages()

    assert {place.partition(" = ")[0] for place in broken} >= {
        "boots.started_at", "jobs.created_at", "jobs.weight", "tails.tail", "virtual_keys.record",
    }, broken  # fmt: skip
