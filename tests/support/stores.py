"""A store under test, with a clock that can be moved and a way to pull its plug."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from support.fakes import FakeClock, SeededRng
from tidegate.domain.access import ANONYMOUS, KeyId, OwnedBy, Owner, VirtualKey, owner_of_key
from tidegate.domain.ids import uuid7
from tidegate.domain.inference import RequestType
from tidegate.domain.jobs import (
    Claimed,
    Completed,
    Failed,
    Idempotency,
    JobError,
    JobId,
    JobRef,
    JobState,
    Lane,
    NewJob,
    Options,
    Outcome,
    Postponed,
)
from tidegate.ports import Clock, JobStore, KeyStore, Rng
from tidegate.store.postgres.wake_ups import PostgresWakeUps
from tidegate.store.sqlite import SqliteOptions, SqliteStore
from tidegate.store.wake_ups import LocalWakeUps

ALICE: Final = owner_of_key(KeyId("alice"))
BOB: Final = owner_of_key(KeyId("bob"))
OPENAI: Final = Lane("openai")
GROQ: Final = Lane("groq")
BODY: Final = b'{"model":"openai/echo","messages":[{"role":"user","content":"hi"}]}'
RETRY: Final = Postponed(delay=timedelta(seconds=30))
RELEASE: Final = Postponed(is_charged=False)
REFUSED: Final = JobError("upstream_rejected", "provider openai: no", 400, Outcome.PROVIDER_ERROR, "openai")


def new_job(clock: Clock, rng: Rng, **members: Any) -> NewJob:
    """A job of Alice's; ``members`` replace what a test cares about."""
    owner: Owner = members.pop("owner", ALICE)
    lane: Lane = members.pop("lane", OPENAI)
    option_names = ("result_ttl", "timeout", "max_attempts", "priority")
    options = {name: members.pop(name) for name in option_names if name in members}
    facts: dict[str, Any] = {
        "id": JobId(uuid7(clock.now(), rng.secret_bytes(10))),
        "request_type": RequestType.CHAT_COMPLETION,
        "owner": owner,
        "actor": None,
        "model": f"{lane}/echo",
        "candidates": (f"{lane}/echo",),
        "lane": lane,
        "weight": 1.0,
        "options": Options(**options),
        "passes_extra_params": False,
        "request_id": "request-1",
        "created_at": clock.now(),
        "body": BODY,
    }
    return NewJob(**(facts | members))


class StoreUnderTest(ABC):
    """An open store, a clock that can be moved, and the words of its tests."""

    clock: FakeClock
    rng: SeededRng
    wake_ups: LocalWakeUps | PostgresWakeUps
    jobs: JobStore
    keys: KeyStore

    @property
    @abstractmethod
    def rescued(self) -> int:
        """Jobs that the latest start took back from the dead."""

    @abstractmethod
    async def restart_after_crash(self) -> None:
        """As after ``kill -9`` and a start, once the dead are known to be dead."""

    def new_job(self, **members: Any) -> NewJob:
        return new_job(self.clock, self.rng, **members)

    async def accept(self, **members: Any) -> JobId:
        return (await self.jobs.accept(self.new_job(**members))).job.id

    async def claim(self, room: int = 100, lane: Lane = OPENAI) -> list[Claimed]:
        return list(await self.jobs.claim({lane: room}))

    async def claim_one(self, lane: Lane = OPENAI) -> Claimed:
        (claimed,) = await self.claim(1, lane)
        return claimed

    async def state(self, job_id: JobId, owner: Owner = ALICE) -> JobState | None:
        return await self.jobs.get(OwnedBy(owner), JobRef(job_id))

    async def status(self, job_id: JobId) -> str:
        found = await self.state(job_id)
        return "gone" if found is None else str(found.status)

    async def complete(self, claimed: Claimed, result: bytes = b'{"ok":true}') -> bool:
        return await self.jobs.settle(claimed.lease, Completed(result), ())

    async def fail(self, claimed: Claimed, error: JobError = REFUSED) -> bool:
        return await self.jobs.settle(claimed.lease, Failed(error), ())

    def later(self, **duration: float) -> None:
        self.clock.advance(timedelta(**duration))

    def idempotency(
        self, name: str = "one", fingerprint: bytes = b"f" * 32, keep_for: timedelta = timedelta(hours=24)
    ) -> Idempotency:
        return Idempotency(
            scope_digest=name.encode().ljust(32, b"."), fingerprint=fingerprint, keep_for=keep_for
        )

    def key(self, name: str = "a", **members: Any) -> VirtualKey:
        now = self.clock.now()
        facts: dict[str, Any] = {
            "id": KeyId(f"id-{name}"),
            "name": name,
            "created_at": now,
            "updated_at": now,
            "value_hint": "sk-bf-…abcd",
        }
        return VirtualKey(**(facts | members))


@dataclass
class SqliteUnderTest(StoreUnderTest):
    """One database file and the store that is open on it."""

    path: Path
    clock: FakeClock = field(default_factory=FakeClock)
    rng: SeededRng = field(default_factory=SeededRng)
    loss_budget: int = 3
    options: dict[str, Any] = field(default_factory=dict)
    fatal: list[str] = field(default_factory=list)

    def open(self) -> None:
        self.local_wake_ups = self.wake_ups = LocalWakeUps()
        self.store = SqliteStore.open(
            SqliteOptions(self.path, loss_budget=self.loss_budget, min_free_bytes=0, **self.options),
            clock=self.clock,
            rng=self.rng,
            wake_ups=self.local_wake_ups,
            on_fatal=self.fatal.append,
        )
        self.jobs = self.store.jobs
        self.keys = self.store.keys

    def pull_the_plug(self) -> None:
        """As after ``kill -9``: nothing is finished, flushed or noted; only the kernel lets go of the lock."""
        self.store._readers.close()
        self.store._writer._connection.close()
        self.store._lock.release()

    def crash_and_restart(self) -> None:
        self.pull_the_plug()
        self.open()

    @property
    def rescued(self) -> int:
        return self.store.rescued

    async def restart_after_crash(self) -> None:
        self.crash_and_restart()


__all__ = [
    "ALICE", "ANONYMOUS", "BOB", "BODY", "GROQ", "OPENAI", "REFUSED", "RELEASE", "RETRY", "SqliteUnderTest",
    "StoreUnderTest", "new_job",
]  # fmt: skip
