"""F3: a bit that turned over, or a file that lost its end: wrong bytes are never served, whatever else is true.

SQLite's WAL has checksums, its database has not; bodies and results have one of ours. ``TIDEGATE_FLIPS`` says how many
flips are tried; ``TIDEGATE_FLIP`` replays a single one.
"""

import asyncio
import os
import shutil
from collections import Counter
from pathlib import Path
from random import Random
from typing import Final

import pytest

from support.fakes import SeededRng
from support.stores import ALICE, StoreUnderTest
from support.virtual_time import VirtualLoop
from tidegate.domain.access import OwnedBy
from tidegate.domain.errors import StoreError
from tidegate.domain.jobs import Claimed, JobFilter, JobId, JobRef
from tidegate.store.migrate import SchemaMismatch
from tidegate.store.sqlite import damage
from tidegate.store.sqlite.connection import StoreRefused

FLIPS: Final = int(os.environ.get("TIDEGATE_FLIPS", "50"))
ONLY: Final = os.environ.get("TIDEGATE_FLIP")
JOBS: Final = 40
LONGEST: Final = 20_000
FILES: Final = ("tidegate.db", "tidegate.db-wal")

Known = dict[JobId, tuple[bytes, bytes]]
"""Body and result of every job."""


def body_of(number: int) -> bytes:
    return Random(f"body {number}").randbytes(LONGEST // (1 + number % 7))


async def fill(directory: Path) -> Known:
    """Half of the jobs end, half of the work lies in the WAL, and the process dies."""
    store = StoreUnderTest(directory / "tidegate.db")
    store.open()
    known: Known = {}
    for number in range(JOBS):
        body, result = body_of(number), b'{"n":%d}' % number + body_of(-number)
        job = await store.accept(body=body)
        known[job] = (body, result)
        if number % 2:
            await store.complete(await claimed_of(store, job), result)
        if number == JOBS // 2:
            await store.store._writer._checkpoint("TRUNCATE")
    store.pull_the_plug()
    return known


async def claimed_of(store: StoreUnderTest, job: JobId) -> Claimed:
    """Claim until it is this one's turn, and give the others back."""
    while True:
        claimed = await store.claim_one()
        if claimed.lease.job_id == job:
            return claimed


def spoil(directory: Path, rng: Random) -> str:
    """Turn one bit over, or cut the end of a file off."""
    file = directory / rng.choice(FILES)
    content = bytearray(file.read_bytes())
    place = rng.randrange(len(content))
    if rng.random() < 0.1:
        del content[place:]
    else:
        content[place] ^= 1 << rng.randrange(8)
    file.write_bytes(content)
    return f"{file.name} at {place}"


async def read_everything(directory: Path, known: Known) -> str:
    """What became of it: all well, refused, or damage reported. Fails when wrong bytes are served."""
    store = StoreUnderTest(directory / "tidegate.db", rng=SeededRng(1))
    try:
        store.open()
    except (StoreRefused, SchemaMismatch):
        return "refused at the start"
    try:
        for job, (_, result) in known.items():
            await check_poll(store, job, result)
        await store.jobs.list(OwnedBy(ALICE), JobFilter(), limit=100, newest_first=True, after=None)
        for claimed in await store.claim(JOBS):
            assert claimed.body == known[claimed.lease.job_id][0]
    except StoreError:
        return "reported as damage"
    finally:
        store.pull_the_plug()
    return "read"


async def check_poll(store: StoreUnderTest, job: JobId, result: bytes) -> None:
    """What lay behind a damaged frame of the WAL is lost with it: a job may be absent, or as it was before."""
    found = await store.jobs.get(OwnedBy(ALICE), JobRef(job))
    if found is not None and found.status == "completed":
        assert (found.id, found.result) == (job, result)


def flip(number: int, directory: Path, original: Path, known: Known) -> str:
    place = directory / f"flip-{number}"
    shutil.copytree(original, place)
    try:
        where = spoil(place, Random(f"flip {number}"))
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            return runner.run(read_everything(place, known))
    except BaseException as exc:
        exc.add_note(f"{where}; replay it: TIDEGATE_FLIP={number} pytest {Path(__file__).name}")
        raise
    finally:
        shutil.rmtree(place)


@pytest.fixture
def original(tmp_path: Path) -> tuple[Path, Known]:
    directory = tmp_path / "original"
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return directory, runner.run(fill(directory))


def test_wrong_bytes_are_never_served(tmp_path: Path, original: tuple[Path, Known]) -> None:
    numbers = range(FLIPS) if ONLY is None else [int(ONLY)]

    found = Counter(flip(number, tmp_path, *original) for number in numbers)

    assert ONLY is not None or {"read", "reported as damage"} <= found.keys(), found


def test_without_the_digests_they_are(
    tmp_path: Path, original: tuple[Path, Known], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the test above would be blind."""
    monkeypatch.setattr(damage, "digest_of", lambda *_: 0)
    monkeypatch.setattr("tidegate.store.sqlite.rows.intact", lambda _job, payload, _digest: payload)
    served = 0
    for number in range(20):
        try:
            flip(number, tmp_path, *original)
        except AssertionError:
            served += 1

    assert served > 0
