"""The job: one accepted inference request, from the 202 to its end."""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Literal, NewType

from msgspec import Struct

from tidegate.domain.access import KeyId, Owner
from tidegate.domain.inference import Call, RequestType

JobId = NewType("JobId", str)
Lane = NewType("Lane", str)
"""The queue of one provider: the provider of a job's primary candidate."""


class Status(StrEnum):
    """Where a job stands. Waiting for a retry is ``pending`` with a later run time: time is no status."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"

    @property
    def is_terminal(self) -> bool:
        return self in {Status.COMPLETED, Status.FAILED}


class Outcome(StrEnum):
    """How a terminal job ended (contract §11.1)."""

    SUCCEEDED = "succeeded"
    PROVIDER_ERROR = "provider_error"
    """The vendors could not or would not answer."""
    REFUSED = "refused"
    """The virtual key lost its right between submit and dispatch."""
    CANCELLED = "cancelled"
    QUEUE_TIMEOUT = "queue_timeout"
    """The deadline struck before the first claim; no vendor was called."""
    DEADLINE_EXCEEDED = "deadline_exceeded"
    WORKER_LOST = "worker_lost"
    """More workers died under the job than its loss budget allows."""
    INTERNAL_ERROR = "internal_error"


class JobErrorCode(StrEnum):
    """Codes of job errors that no vendor caused (contract §8.4)."""

    REQUEST_CANCELLED = "request_cancelled"
    QUEUE_TIMEOUT = "queue_timeout"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    WORKER_LOST = "worker_lost"
    INTERNAL_ERROR = "internal_error"


class JobError(Struct, frozen=True, omit_defaults=True):
    """Why a job failed, as it is stored. The envelope around it is made when it is shown."""

    code: str
    message: str
    status_code: int
    outcome: Outcome
    provider: str | None = None


CANCELLED: Final = JobError(JobErrorCode.REQUEST_CANCELLED, "job was cancelled", 499, Outcome.CANCELLED)
QUEUE_TIMEOUT: Final = JobError(
    JobErrorCode.QUEUE_TIMEOUT,
    "job was not started in time; no provider was called",
    504,
    Outcome.QUEUE_TIMEOUT,
)
DEADLINE_EXCEEDED: Final = JobError(
    JobErrorCode.DEADLINE_EXCEEDED, "job did not finish before its deadline", 504, Outcome.DEADLINE_EXCEEDED
)
WORKER_LOST: Final = JobError(
    JobErrorCode.WORKER_LOST,
    "the worker running this job was lost; the provider may have been called",
    500,
    Outcome.WORKER_LOST,
)
INTERNAL_ERROR: Final = JobError(JobErrorCode.INTERNAL_ERROR, "internal error", 500, Outcome.INTERNAL_ERROR)


def deadline_error(*, was_started: bool) -> JobError:
    return DEADLINE_EXCEEDED if was_started else QUEUE_TIMEOUT


class Options(Struct, frozen=True):
    """Effective job options (contract §10)."""

    result_ttl: int = 3600
    """Seconds the result stays readable after the end."""
    timeout: int = 3600
    """Seconds until the deadline; covers queueing, attempts and pauses."""
    max_attempts: int = 3
    """Attempts that may end in failure."""
    priority: int = 3
    """1 is claimed first, 5 last."""


class Idempotency(Struct, frozen=True):
    """What makes a repeated submit the same submit."""

    scope_digest: bytes
    """SHA-256 of owner and ``Idempotency-Key``: the key itself is not kept."""
    fingerprint: bytes
    """SHA-256 of path and decompressed body."""
    keep_for: timedelta
    """Counted from the submit, by the store's clock."""


class NewJob(Struct, frozen=True):
    """A request that has passed every check and waits to be made durable."""

    id: JobId
    request_type: RequestType
    owner: Owner
    actor: str | None
    """``sub`` of the JWT that submitted it; shown to admins."""
    model: str
    """The caller's ``model`` string."""
    candidates: tuple[str, ...]
    """``provider/model`` strings, the primary first."""
    lane: Lane
    weight: float
    """Share of the lane when virtual keys compete."""
    options: Options
    passes_extra_params: bool
    """``x-bf-passthrough-extra-params``: unknown members go to the vendor."""
    request_id: str
    created_at: datetime
    body: bytes
    """The request as received, decompressed."""
    metadata: bytes | None = None
    """JSON of the request's ``metadata``: stored apart, so that lists show it without reading bodies."""
    idempotency: Idempotency | None = None


class Accepted(Struct, frozen=True):
    """The receipt: the job is durable. ``is_replay`` when an earlier submit had made it."""

    job: "JobState"
    is_replay: bool


class JobRef(Struct, frozen=True):
    """A job id as a caller names it; with a request type where the route fixes one."""

    id: JobId
    request_type: RequestType | None = None


class JobState(Struct, frozen=True):
    """What the seed envelope shows (contract §4.1)."""

    id: JobId
    request_type: RequestType
    model: str
    request_id: str
    status: Status
    created_at: datetime
    completed_at: datetime | None = None
    expires_at: datetime | None = None
    next_run_at: datetime | None = None
    """When a waiting job may be claimed again."""
    status_code: int | None = None
    result: bytes | None = None
    """JSON, ready to be sent."""
    error: JobError | None = None


AttemptEnd = Literal["succeeded", "failed", "requeued", "released", "worker_lost", "cancelled"]


class Attempt(Struct, frozen=True, omit_defaults=True):
    """One execution of a job under one lease."""

    number: int
    started_at: datetime
    ended_at: datetime | None = None
    end: AttemptEnd | None = None
    calls: tuple[Call, ...] = ()


class JobDetails(Struct, frozen=True):
    """The rich view (contract §11.1)."""

    state: JobState
    outcome: Outcome | None
    error_code: str | None
    owner: Owner
    actor: str | None
    candidates: tuple[str, ...]
    options: Options
    deadline_at: datetime
    started_at: datetime | None
    attempt: int
    losses: int
    attempts: tuple[Attempt, ...] = ()
    metadata: bytes | None = None
    """JSON."""


class Cancellation(Struct, frozen=True):
    """What a cancel did: the job as it is now, and whether this very cancel ended it."""

    job: JobDetails
    ended_now: bool


class JobFilter(Struct, frozen=True):
    """Which jobs a list shows; empty members do not filter."""

    statuses: tuple[Status, ...] = ()
    model: str | None = None


class JobPage(Struct, frozen=True):
    """One page of a list. ``next_after`` is the id to continue behind; ``None`` on the last page."""

    jobs: tuple[JobDetails, ...]
    next_after: JobId | None


class QueueCounts(Struct, frozen=True):
    """How much waits and runs, by priority."""

    pending: dict[int, int]
    processing: dict[int, int]
    oldest_pending: dict[int, datetime]
    """When the job that has waited longest was accepted."""


class Lease(Struct, frozen=True):
    """A worker's right to one job, fenced by its token in every write."""

    job_id: JobId
    token: bytes


class Claimed(Struct, frozen=True):
    """A job under lease, with all that running it takes."""

    lease: Lease
    request_type: RequestType
    owner: Owner
    key_id: KeyId | None
    model: str
    candidates: tuple[str, ...]
    lane: Lane
    options: Options
    passes_extra_params: bool
    request_id: str
    created_at: datetime
    deadline_at: datetime
    started_at: datetime
    """When this attempt began."""
    attempt: int
    failed_attempts: int
    """Attempts that ended in failure before this one."""
    dead_keys: tuple[str, ...]
    """``provider/id`` of the provider keys that were refused in an earlier attempt."""
    body: bytes

    @property
    def id(self) -> JobId:
        return self.lease.job_id


class Completed(Struct, frozen=True, tag=True):
    """The attempt produced the result."""

    result: bytes


class Failed(Struct, frozen=True, tag=True):
    """The attempt ended the job without a result."""

    error: JobError


class Postponed(Struct, frozen=True, tag=True):
    """The job goes back to the queue: to be retried after ``delay``, or released at shutdown, uncharged."""

    delay: timedelta = timedelta(0)
    is_charged: bool = True
    """``False``: an orderly release, which counts neither as failure nor as loss."""
    dead_keys: tuple[str, ...] = ()


Ending = Completed | Failed | Postponed
