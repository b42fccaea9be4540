"""The seams of the system on one screen. Everything below implements one of these or is given one."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Protocol

from msgspec import Struct

from tidegate.domain.access import KeyId, Reader, VirtualKey
from tidegate.domain.failures import Failure
from tidegate.domain.fleet import Fleet
from tidegate.domain.inference import (
    Call,
    Completion,
    HttpCall,
    HttpReply,
    InferenceRequest,
    Target,
)
from tidegate.domain.jobs import (
    Accepted,
    Cancellation,
    Claimed,
    Ending,
    Idempotency,
    JobDetails,
    JobFilter,
    JobId,
    JobPage,
    JobRef,
    JobState,
    Lane,
    Lease,
    NewJob,
    QueueCounts,
)


class Clock(Protocol):
    """Time, injected: nothing else in the program asks what time it is."""

    def now(self) -> datetime:
        """Wall clock: aware, UTC, whole milliseconds, as everything we store and show."""

    def monotonic(self) -> float:
        """Seconds that never jump, for measuring and timers."""

    async def sleep(self, duration: timedelta) -> None: ...


class Rng(Protocol):
    """Chance, injected."""

    def chance(self) -> float:
        """Uniform in [0, 1)."""

    def secret_bytes(self, count: int) -> bytes:
        """From a cryptographic source."""


class JobStore(Protocol):
    """Durable jobs. Every method is one transaction, named for the fact it makes true when it returns.

    Whoever asks comes first: there is no way to read a job without saying who reads it.
    Raises ``StoreError`` when the fact could not be made true, or cannot be known to be.
    """

    async def accept(self, job: NewJob) -> Accepted:
        """The job is durable; or the job of the same idempotency key is, and nothing else was stored."""

    async def replayed(self, idempotency: Idempotency) -> JobState | None:
        """The job an earlier submit with the same key made, if any. Raises like ``accept``."""

    async def get(self, reader: Reader, ref: JobRef) -> JobState | None: ...

    async def inspect(self, reader: Reader, ref: JobRef) -> JobDetails | None: ...

    async def list(
        self, reader: Reader, wanted: JobFilter, *, limit: int, newest_first: bool, after: JobId | None
    ) -> JobPage: ...

    async def claim(
        self, lanes: Mapping[Lane, int], *, fleet: Mapping[Lane, int] | None = None
    ) -> Sequence[Claimed]:
        """At most the given number of due jobs per lane are ours, fairest first.

        With ``fleet`` never more of a lane than it says run in all processes together.
        """

    async def renew(self, leases: Sequence[Lease]) -> Sequence[Lease]:
        """Those that are still ours; where the store is shared, this worker lives."""

    def fleet(self) -> Fleet:
        """The live workers as of the last renewal."""

    async def settle(self, lease: Lease, ending: Ending, calls: Sequence[Call]) -> bool:
        """The attempt is over; ``False`` when the lease was lost, and then nothing was written."""

    async def cancel(self, reader: Reader, ref: JobRef) -> Cancellation | None:
        """The job is cancelled; ``None`` when the reader sees no such job. Raises ``Conflict`` when it ended otherwise."""

    async def rescue(self) -> int:
        """Jobs of dead workers are back in the queue, or failed where their loss budget is spent."""

    async def expire(self, *, limit: int) -> int:
        """Unfinished jobs past their deadline are failed."""

    async def prune(self, *, limit: int) -> int:
        """Expired jobs and idempotency records are erased, oldest first; how many were looked at."""

    async def next_due(self) -> datetime | None:
        """When the next waiting job becomes due."""

    async def pending_lanes(self) -> Sequence[Lane]:
        """Lanes that hold unfinished jobs, configured or not."""

    async def counts(self) -> QueueCounts: ...

    async def check(self) -> None:
        """Raises ``StoreError`` unless a write is possible right now."""


class KeyStore(Protocol):
    """Virtual keys. Secrets come in and go out as SHA-256 digests."""

    async def find(self, digest: bytes) -> VirtualKey | None: ...

    async def get(self, key_id: KeyId) -> VirtualKey | None: ...

    async def get_by_name(self, name: str) -> VirtualKey | None: ...

    async def list(self, *, limit: int, offset: int, name_prefix: str) -> tuple[Sequence[VirtualKey], int]:
        """One page, ordered by name, and how many there are in all."""

    async def create(self, key: VirtualKey, digest: bytes) -> None:
        """Raises ``Conflict`` when the name or the secret is taken."""

    async def update(self, key: VirtualKey, digest: bytes | None = None) -> bool:
        """Write all members, and a new secret if one is given; ``False`` when there is no such key."""

    async def delete(self, key_id: KeyId, *, cancels_jobs: bool) -> bool: ...


class TokenClaims(Struct, frozen=True):
    """What a verified JWT says (contract §5.3)."""

    issuer: str
    subject: str
    virtual_key: str | None
    """Key id, or the name of a key from the configuration; ``None`` in an admin token."""


class TokenVerifier(Protocol):
    async def verify(self, token: str) -> TokenClaims:
        """Raises ``Unauthenticated`` for whatever is wrong with the token."""


class Watch(Protocol):
    async def wait(self, time_limit: timedelta) -> None:
        """Until the job ends, everybody is told to go home, or ``time_limit`` is over."""


class WakeUps(Protocol):
    """Hints that work or a result exists; polling the store stays the truth."""

    def work_arrived(self) -> None: ...

    def ended(self, job_id: JobId) -> None:
        """The job is terminal."""

    def on_ended(self, listener: Callable[[JobId], None]) -> None:
        """Call ``listener`` with every job that ends, whoever ended it."""

    def watch(self, job_id: JobId) -> AbstractContextManager[Watch]:
        """Hear of the job's end from now on: enter first, then read the store, then wait."""

    async def wait_for_work(self, time_limit: timedelta) -> None: ...


class Provider(Protocol):
    """One vendor's dialect: translates, never sends. No client, no clock, no retry."""

    def build(self, request: InferenceRequest, target: Target) -> HttpCall | Failure: ...

    def parse(self, request: InferenceRequest, reply: HttpReply) -> Completion | Failure:
        """Read a 2xx reply."""

    def explain(self, reply: HttpReply) -> Failure:
        """Classify any other reply."""


class Transport(Protocol):
    """Sends calls to vendors: the only way out of the process."""

    async def send(self, call: HttpCall, *, time_limit: timedelta) -> HttpReply | Failure:
        """The complete reply, or why there is none. ``time_limit`` counts from connect to the last byte.

        Cancelling it closes the connection at once.
        """


class Observer(Protocol):
    """Hears of everything worth a log line or a metric; must not raise and must not wait."""

    def job_accepted(self, job: NewJob, *, is_replay: bool) -> None: ...

    def job_ended(
        self, job: Claimed, ending: Ending, calls: Sequence[Call], *, duration: timedelta, was_ours: bool
    ) -> None: ...

    def job_cancelled(self, job: JobDetails) -> None: ...

    def key_changed(self, action: str, key: VirtualKey, actor: str) -> None: ...

    def jobs_rescued(self, count: int) -> None: ...

    def jobs_expired(self, count: int) -> None: ...

    def problem(self, event: str, **facts: object) -> None:
        """Something an operator should know of: an event of the documented list."""
