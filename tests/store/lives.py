"""Random lives of a store, written down as they go, and what must be left of one after a power cut."""

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from pathlib import Path
from random import Random
from typing import Any, Final, Protocol, final

import apsw
from msgspec import Struct
from msgspec.structs import replace

from support.disk_model import Event, Fact
from support.fakes import SeededRng
from support.stores import BODY, REFUSED, SqliteUnderTest
from tidegate.domain.access import AllOwners, KeyId, VirtualKey
from tidegate.domain.errors import StoreError
from tidegate.domain.jobs import CANCELLED, Claimed, Completed, Failed, Idempotency, JobId, JobRef, Postponed
from tidegate.store.refusal import StoreRefused
from tidegate.store.sqlite.rows import id_from_bytes, id_to_bytes

_ROUNDS: Final = 40
_LOSSES: Final = 1000
"""Every crash of a life costs its jobs a worker; that is not what is asked here."""
_EVERYBODY: Final = AllOwners()
_SHORT: Final = 5
GONE: Final = "gone"
_HALVES: Final = (
    "SELECT seq FROM jobs WHERE seq NOT IN (SELECT job FROM job_request)",
    "SELECT job FROM job_request WHERE job NOT IN (SELECT seq FROM jobs)",
    "SELECT seq FROM jobs WHERE (status = 'completed') <> (seq IN (SELECT job FROM job_result))",
)


class Diary(Protocol):
    """Where a life is written down."""

    def fact(self, value: Any) -> None: ...


class Step(Struct, frozen=True):
    """Something that is asked of the store for one job; told once it is durable."""

    job: JobId
    number: int
    becomes: str
    is_told: bool
    content: bytes = b""
    """The body, of an accepted job; the result, of a completed one; the code of the error, of a failed one."""
    idempotency: Idempotency | None = None


class KeyStep(Struct, frozen=True):
    """A virtual key as it is to be from now on, or ``None`` where it is deleted."""

    key: KeyId
    number: int
    becomes: VirtualKey | None
    digest: bytes
    is_told: bool


@final
class Life:
    """Submits, claims, endings, cancels, crashes, restarts and checkpoints in an order that chance decides."""

    def __init__(self, rng: Random, path: Path, diary: Diary, *, vfs: str, rounds: int = _ROUNDS) -> None:
        self._rng = rng
        self._diary = diary
        self._rounds = rounds
        self.store = SqliteUnderTest(path, loss_budget=_LOSSES, options={"vfs": vfs})
        self._steps: dict[JobId, int] = {}
        self._claimed: list[Claimed] = []
        self._pending: set[JobId] = set()
        self._short: set[JobId] = set()
        """Jobs whose results do not live long."""
        self._expiring: set[JobId] = set()
        self._scan: apsw.Connection | None = None
        self._keys: dict[KeyId, VirtualKey] = {}
        self._key_steps: dict[KeyId, int] = {}
        self.refusals: list[StoreError] = []
        """What those were told who asked for something and did not get it."""

    async def live(self) -> None:
        try:
            await self._live()
        finally:
            self._stop_reading()

    async def _live(self) -> None:
        self.store.open()
        doings = [
            self._submit, self._submit, self._submit, self._claim, self._claim, self._end, self._end, self._end,
            self._cancel, self._prune, self._checkpoint, self._read, self._crash, self._restart, self._change_key,
        ]  # fmt: skip
        for _ in range(self._rounds):
            await self._rng.choice(doings)()
            if self.store.fatal:
                return  # the process ends
            self.store.later(seconds=self._rng.choice([0, 0, 1, 20]))
        self._stop_reading()
        await self.store.store.close()

    async def _submit(self) -> None:
        await _together(self._accept() for _ in range(self._rng.randint(1, 6)))

    async def _accept(self) -> None:
        is_short = self._rng.random() < 0.3
        job = self.store.new_job(
            body=BODY + b" " * self._rng.choice([0, 10, 700, 9_000, 40_000]),
            result_ttl=_SHORT if is_short else 3600,
            metadata=self._rng.choice([None, b'{"a":1}']),
            idempotency=self.store.idempotency(str(len(self._steps))) if self._rng.random() < 0.5 else None,
        )
        self._steps[job.id] = -1
        await self._do(
            job.id, "pending", self.store.jobs.accept(job), content=job.body, idempotency=job.idempotency
        )
        self._pending.add(job.id)
        if is_short:
            self._short.add(job.id)

    async def _claim(self) -> None:
        """Nothing to write down: after a power cut whatever was running is pending again."""
        for claimed in await self.store.claim(self._rng.randint(1, 8)):
            self._claimed.append(claimed)
            self._pending.discard(claimed.lease.job_id)

    async def _end(self) -> None:
        self._rng.shuffle(self._claimed)
        ending, self._claimed = self._claimed[:3], self._claimed[3:]
        await _together(self._settle(claimed) for claimed in ending)

    async def _settle(self, claimed: Claimed) -> None:
        job, lease, jobs = claimed.lease.job_id, claimed.lease, self.store.jobs
        match self._rng.choice(["completed", "completed", "failed", "pending"]):
            case "completed":
                result = b'{"said":"%s"}' % (b"x" * self._rng.choice([10, 3_000, 30_000]))
                await self._do(job, "completed", jobs.settle(lease, Completed(result), ()), content=result)
            case "failed":
                code = REFUSED.code.encode()
                await self._do(job, "failed", jobs.settle(lease, Failed(REFUSED), ()), content=code)
            case _:
                await self._do(job, "pending", jobs.settle(lease, Postponed(is_charged=False), ()))
                self._pending.add(job)

    async def _cancel(self) -> None:
        for job in self._rng.sample(sorted(self._pending), min(2, len(self._pending))):
            self._pending.discard(job)
            cancelling = self.store.jobs.cancel(_EVERYBODY, JobRef(job))
            await self._do(job, "failed", cancelling, content=CANCELLED.code.encode())

    async def _change_key(self) -> None:
        """A new key, or a known one with another secret, or one less."""
        keys = self.store.keys
        known = self._rng.choice([None, *self._keys.values()])
        digest = self._rng.randbytes(32)
        if known is None:
            key = self.store.key(str(len(self._key_steps)))
            self._keys[key.id] = key
            await self._do_key(key.id, key, digest, keys.create(key, digest))
        elif self._rng.random() < 0.3:
            del self._keys[known.id]
            await self._do_key(known.id, None, b"", keys.delete(known.id, cancels_jobs=False))
        else:
            key = self._keys[known.id] = replace(known, description=digest.hex())
            await self._do_key(key.id, key, digest, keys.update(key, digest))

    async def _do_key(
        self, key: KeyId, becomes: VirtualKey | None, digest: bytes, doing: Awaitable[object]
    ) -> None:
        number = self._key_steps[key] = self._key_steps.get(key, -1) + 1
        self._diary.fact(KeyStep(key, number, becomes, digest, is_told=False))
        await self._told(doing)
        self._diary.fact(KeyStep(key, number, becomes, digest, is_told=True))

    async def _prune(self) -> None:
        """Whatever has ended and does not live long is due."""
        self.store.later(seconds=_SHORT)
        ended, self._expiring = self._expiring, set()
        for job in sorted(ended):
            self._steps[job] += 1
            self._note(job, GONE, is_told=False)
        await self.store.jobs.prune(limit=1000)
        for job in sorted(ended):
            self._note(job, GONE, is_told=True)

    async def _checkpoint(self) -> None:
        await self.store.store._writer._checkpoint(self._rng.choice(["PASSIVE", "PASSIVE", "TRUNCATE"]))

    async def _read(self) -> None:
        """A reader holds its moment of the database, and with it the WAL, until the next read or restart."""
        if self._scan is not None:
            self._stop_reading()
            return
        self._scan = self.store.store._readers._scanners.get()
        self._scan.execute("BEGIN")
        self._scan.execute("SELECT count(*) FROM jobs").fetchall()

    def _stop_reading(self) -> None:
        if self._scan is not None:
            self._scan.execute("ROLLBACK")
            self.store.store._readers._scanners.put(self._scan)
            self._scan = None

    async def _crash(self) -> None:
        self._stop_reading()
        self.store.crash_and_restart()
        self._take_back()

    async def _restart(self) -> None:
        self._stop_reading()
        await self.store.store.close()
        if not self.store.fatal:
            self.store.open()
            self._take_back()

    def _take_back(self) -> None:
        """The next start has made pending what was running."""
        self._pending |= {claimed.lease.job_id for claimed in self._claimed}
        self._claimed.clear()

    async def _do(self, job: JobId, becomes: str, doing: Awaitable[object], **facts: Any) -> None:
        self._steps[job] += 1
        self._note(job, becomes, is_told=False, **facts)
        await self._told(doing)
        self._note(job, becomes, is_told=True, **facts)
        if becomes in {"completed", "failed"} and job in self._short:
            self._expiring.add(job)

    async def _told(self, doing: Awaitable[object]) -> None:
        try:
            await doing
        except StoreError as refusal:
            self.refusals.append(refusal)
            raise

    def _note(self, job: JobId, becomes: str, *, is_told: bool, **facts: Any) -> None:
        self._diary.fact(Step(job, self._steps[job], becomes, is_told, **facts))


async def _together(doings: Iterable[Awaitable[object]]) -> None:
    """All of them to their end, so that each hears what became of it, also where one was refused."""
    refusals = [told for told in await asyncio.gather(*doings, return_exceptions=True) if told is not None]
    for refusal in refusals:
        assert isinstance(refusal, BaseException)
        raise refusal


async def wrongs(path: Path, events: Sequence[Event]) -> list[str]:
    """Open what is left of a store with these events, and say what is wrong with it."""
    store = SqliteUnderTest(path, rng=SeededRng(1 + len(events)), loss_budget=_LOSSES)
    try:
        store.open()
    except StoreRefused as refusal:
        return [str(refusal)]
    try:
        wrong = [*await _missing(store, events), *_damage(store)]
        await store.accept()
    except (StoreError, apsw.Error) as error:
        wrong = [f"{type(error).__name__}: {error}"]
    store.pull_the_plug()
    return [*wrong, *store.fatal]


async def _missing(store: SqliteUnderTest, events: Sequence[Event]) -> list[str]:
    jobs: dict[JobId, list[Step]] = {}
    keys: dict[KeyId, list[KeyStep]] = {}
    for event in events:
        match event:
            case Fact(value=Step(job=job) as step):
                jobs.setdefault(job, []).append(step)
            case Fact(value=KeyStep(key=key) as step):
                keys.setdefault(key, []).append(step)
            case _:
                continue
    wrong = [f"{job}: {found}" for job, steps in jobs.items() if (found := await _wrong(store, job, steps))]
    wrong += [f"{key}: not as told" for key, of in keys.items() if not await _is_as_told(store, key, of)]
    unknown = [row[0] for row in _rows(store, "SELECT id FROM jobs") if id_from_bytes(row[0]) not in jobs]
    return [*wrong, *(f"{job.hex()}: nobody submitted it" for job in unknown)]


async def _wrong(store: SqliteUnderTest, job: JobId, steps: Sequence[Step]) -> str | None:
    """What was told last must be true, or something that was asked for after it."""
    told = max((step.number for step in steps if step.is_told), default=-1)
    possible = {step.becomes: step for step in steps if step.number >= told}
    found = await store.jobs.get(_EVERYBODY, JobRef(job))
    if found is None:
        return None if told < 0 or GONE in possible else f"gone, though told {told}"
    if found.status not in possible:
        return f"{found.status}, not {sorted(possible)}"
    (row,) = _rows(
        store, "SELECT body FROM jobs JOIN job_request ON job = seq WHERE id = ?", id_to_bytes(job)
    )
    if row[0] != steps[0].content:
        return "another body"
    if found.status == "completed" and found.result != possible["completed"].content:
        return "another result"
    if found.status == "failed" and (
        found.error is None or found.error.code.encode() != possible["failed"].content
    ):
        return "another error"
    idempotency = steps[0].idempotency
    if idempotency is not None:
        replayed = await store.jobs.replayed(idempotency)
        if replayed is None or replayed.id != job:
            return "its idempotency key is not known"
    return None


async def _is_as_told(store: SqliteUnderTest, key: KeyId, steps: Sequence[KeyStep]) -> bool:
    """Found by its id and by the digest of its secret as it was told last, or asked for after that."""
    told = max((step.number for step in steps if step.is_told), default=-1)
    found = await store.keys.get(key)
    if found is None:
        return told < 0 or any(step.becomes is None for step in steps if step.number >= told)
    digests = [step.digest for step in steps if step.number >= told and step.becomes == found]
    return any([await store.keys.find(digest) == found for digest in digests])


def _damage(store: SqliteUnderTest) -> list[str]:
    halves = [f"half a job: {row}" for sql in _HALVES for row in _rows(store, sql)]
    return [*halves, *(row[0] for row in _rows(store, "PRAGMA integrity_check") if row[0] != "ok")]


def _rows(store: SqliteUnderTest, sql: str, *bindings: Any) -> list[Any]:
    return store.store._writer._connection.execute(sql, bindings).fetchall()
