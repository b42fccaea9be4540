"""F3: a bit that turned over, or a file that lost its end: wrong bytes are never served, whatever else is true.

SQLite's WAL has checksums, its database has not; bodies and results have one of ours. So this is promised:

* A body or a result is what was written, or it is reported as damage.
* A status is one that the job has had.
* What makes no sense is reported as damage or refused at the start; nothing breaks in any other way.
* A damaged WAL is no damage: the store is as it was at one moment, and what the database had by then is there.

Other members of a row have no digest: a time or a name may be wrong by a bit, and a job whose entry in the index is
damaged is not found. ``PRAGMA integrity_check`` tells of that.

``TIDEGATE_FLIPS`` says how many flips are tried; ``TIDEGATE_FLIP`` replays a single one.
"""

import asyncio
import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Final

import pytest
from msgspec import Struct

from support.fakes import SeededRng
from support.stores import ALICE, SqliteUnderTest
from support.virtual_time import VirtualLoop
from tidegate.domain.access import OwnedBy
from tidegate.domain.errors import Conflict, InvalidRequest, StorageUnavailable, StoreError
from tidegate.domain.jobs import Claimed, JobFilter, JobId, JobRef
from tidegate.store.migrate import SchemaMismatch
from tidegate.store.refusal import StoreRefused
from tidegate.store.sqlite import damage

FLIPS: Final = int(os.environ.get("TIDEGATE_FLIPS", "50"))
ONLY: Final = os.environ.get("TIDEGATE_FLIP")
JOBS: Final = 40
MOVED: Final = JOBS // 2
"""The last job that had come from the WAL to the database."""
LONGEST: Final = 20_000
FILES: Final = ("tidegate.db", "tidegate.db-wal")
THIS: Final = "tests/store/test_flipped_bits.py"


class Known(Struct, frozen=True):
    """What was written of a job."""

    body: bytes
    result: bytes
    ends: bool


def body_of(number: int) -> bytes:
    """A few that fill pages, and many that lie beside the rows of their jobs."""
    return Random(f"body {number}").randbytes(LONGEST // (1 + number % 7) ** 4)


def digest_of_key(number: int) -> bytes:
    return b"%d" % number * 16


async def fill(directory: Path) -> dict[JobId, Known]:
    """Half of the jobs end, half of the work lies in the WAL, and the process dies."""
    store = SqliteUnderTest(directory / "tidegate.db")
    store.open()
    known: dict[JobId, Known] = {}
    for number in range(JOBS):
        of = Known(body_of(number), b'{"n":%d}' % number + body_of(-number), ends=number % 2 == 1)
        job = await store.accept(body=of.body, idempotency=store.idempotency(str(number)))
        known[job] = of
        if of.ends:
            await store.complete(await claimed_of(store, job), of.result)
        if number % 4 == 0:
            await store.keys.create(store.key(str(number)), digest_of_key(number))
        if number == MOVED:
            await store.store._writer._checkpoint("TRUNCATE")
    store.pull_the_plug()
    return known


async def claimed_of(store: SqliteUnderTest, job: JobId) -> Claimed:
    """Claim until it is this one's turn, and give the others back."""
    while True:
        claimed = await store.claim_one()
        if claimed.lease.job_id == job:
            return claimed


def spoil(file: Path, rng: Random) -> str:
    """Turn one bit over, or cut the end of the file off."""
    content = bytearray(file.read_bytes())
    place = rng.randrange(len(content))
    if rng.random() < 0.1:
        del content[place:]
    else:
        content[place] ^= 1 << rng.randrange(8)
    file.write_bytes(content)
    return f"{file.name} at {place}"


async def read_everything(file: Path, known: Mapping[JobId, Known]) -> str:
    """What became of it: all well, refused, or damage reported. Fails when something wrong is served."""
    store = SqliteUnderTest(file.with_name("tidegate.db"), rng=SeededRng(1))
    try:
        store.open()
    except (StoreRefused, SchemaMismatch):
        return "refused at the start"
    try:
        found = [await status_of(store, job, of) for job, of in known.items()]
        if file.name.endswith("-wal"):
            check_it_is_one_moment(found)
        elif "gone" in found:
            assert store.store._writer._connection.pragma("integrity_check") != "ok"
        await read_the_rest(store)
        for claimed in await store.claim(JOBS):
            assert claimed.body == known[claimed.lease.job_id].body
    except StoreError:
        assert not file.name.endswith("-wal")
        return "reported as damage"
    finally:
        store.pull_the_plug()
    return "read"


async def status_of(store: SqliteUnderTest, job: JobId, known: Known) -> str:
    found = await store.jobs.get(OwnedBy(ALICE), JobRef(job))
    if found is None:
        return "gone"
    assert found.id == job
    assert found.status in ({"pending", "completed"} if known.ends else {"pending"})
    assert found.result == (known.result if found.status == "completed" else None)
    return found.status


def check_it_is_one_moment(found: Sequence[str]) -> None:
    """Jobs were submitted one by one, every second one ended before the next was submitted."""
    there = [status for status in found if status != "gone"]
    assert len(there) > MOVED
    assert [*there, *["gone"] * (JOBS - len(there))] == found
    assert there[1:-1:2] == ["completed"] * len(there[1:-1:2])


async def read_the_rest(store: SqliteUnderTest) -> None:
    """It may be wrong by a bit, but not break."""
    await store.jobs.list(OwnedBy(ALICE), JobFilter(), limit=100, newest_first=True, after=None)
    await store.keys.list(limit=100, offset=0, name_prefix="")
    for number in range(JOBS):
        await store.keys.find(digest_of_key(number))
        with suppress(InvalidRequest, Conflict):
            await store.jobs.replayed(store.idempotency(str(number)))


def flip(number: int, directory: Path, original: Path, known: Mapping[JobId, Known]) -> tuple[str, str]:
    """The file that was spoiled, and what became of it."""
    place = directory / f"flip-{number}"
    shutil.copytree(original, place)
    chance = Random(f"flip {number}")
    file = place / chance.choice(FILES)
    where = spoil(file, chance)
    try:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            return file.name, runner.run(read_everything(file, known))
    except BaseException as exc:
        exc.add_note(f"{where}; replay it: TIDEGATE_FLIP={number} pytest {THIS} -k never_served")
        raise
    finally:
        shutil.rmtree(place)


@pytest.fixture
def original(tmp_path: Path) -> tuple[Path, Mapping[JobId, Known]]:
    directory = tmp_path / "original"
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return directory, runner.run(fill(directory))


def test_wrong_bytes_are_never_served(
    tmp_path: Path,
    original: tuple[Path, Mapping[JobId, Known]],
    record_property: Callable[[str, object], None],
) -> None:
    numbers = range(FLIPS) if ONLY is None else [int(ONLY)]

    found = Counter(flip(number, tmp_path, *original) for number in numbers)

    record_property("tried", found.total())
    assert (
        ONLY is not None
        or {
            ("tidegate.db", "read"),
            ("tidegate.db", "reported as damage"),
            ("tidegate.db-wal", "read"),
        }
        <= found.keys()
    ), found


def test_without_the_digests_they_are(
    tmp_path: Path, original: tuple[Path, Mapping[JobId, Known]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the test above would be blind."""
    monkeypatch.setattr(damage, "digest_of", lambda *_: 0)
    monkeypatch.setattr("tidegate.store.sqlite.rows.intact", lambda _job, payload, _digest: payload)
    served = 0
    for number in range(50):
        try:
            flip(number, tmp_path, *original)
        except AssertionError:
            served += 1

    assert served > 0


@pytest.mark.anyio
@pytest.mark.parametrize("record", ["", "{", '{"id":"id-a"}', b"\xff", 7])
async def test_a_key_that_makes_no_sense_is_damage(tmp_path: Path, record: object) -> None:
    store = SqliteUnderTest(tmp_path / "tidegate.db")
    store.open()
    key = store.key()
    await store.keys.create(key, digest_of_key(1))
    store.store._writer._connection.execute("UPDATE virtual_keys SET record = ?", (record,))

    for reading in (
        store.keys.find(digest_of_key(1)),
        store.keys.get(key.id),
        store.keys.get_by_name(key.name),
        store.keys.list(limit=1, offset=0, name_prefix=""),
    ):
        with pytest.raises(StorageUnavailable):
            await reading

    assert store.fatal
    store.pull_the_plug()
