"""Between rows and values: times are integers, ids are 16 bytes, lists are JSON."""

from datetime import UTC, datetime
from typing import Any, Final, LiteralString

import msgspec

from tidegate.domain.access import Owner, key_of_owner
from tidegate.domain.ids import epoch_ms
from tidegate.domain.inference import Call, RequestType
from tidegate.domain.jobs import (
    Attempt,
    Claimed,
    JobDetails,
    JobError,
    JobId,
    JobState,
    Lane,
    Lease,
    Options,
    Outcome,
    Status,
)
from tidegate.store.sqlite.damage import intact, understood

_REQUEST_TYPES: Final = {str(kind): kind for kind in RequestType}
_STATUSES: Final = {str(status): status for status in Status}
_strings: Final = msgspec.json.Decoder(tuple[str, ...])
_error: Final = msgspec.json.Decoder(JobError)
_calls: Final = msgspec.json.Decoder(tuple[Call, ...])


def sql(*parts: LiteralString) -> str:
    """One statement of constant parts; every value is bound, never written into it."""
    return " ".join(parts)


STATE_COLUMNS: Final = (
    "j.id, j.request_type, j.model, j.request_id, j.status, j.created_at, j.completed_at, j.expires_at,"
    " CASE WHEN j.status = 'pending' THEN j.run_at END, j.status_code, j.error"
)
STATE_WIDTH: Final = 11
RESULT_COLUMNS: Final = ", j.result_digest, (SELECT body FROM job_result WHERE job = j.seq)"
DETAIL_COLUMNS: Final = (
    "j.seq, j.outcome, j.error_code, j.owner, j.actor, j.candidates, j.result_ttl, j.timeout, j.max_attempts,"
    " j.priority, j.deadline_at, j.started_at, j.attempt, j.losses, j.attempt_started_at,"
    " (SELECT json FROM job_metadata WHERE job = j.seq)"
)
CLAIMED_COLUMNS: Final = (
    "id, lease, request_type, owner, model, candidates, lane, result_ttl, timeout, max_attempts, priority,"
    " passes_extra, request_id, created_at, deadline_at, attempt_started_at, attempt, failed_attempts,"
    " dead_keys, rank, request_digest, (SELECT body FROM job_request WHERE job = seq)"
)


def id_to_bytes(job_id: JobId) -> bytes:
    return bytes.fromhex(job_id.replace("-", ""))


def id_from_bytes(value: bytes) -> JobId:
    digits = value.hex()
    return JobId(f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}")


def ms(moment: datetime) -> int:
    return epoch_ms(moment)


def moment(value: int) -> datetime:
    return datetime.fromtimestamp(value / 1000, UTC)


def optional_moment(value: int | None) -> datetime | None:
    return None if value is None else moment(value)


def strings_to_json(values: tuple[str, ...]) -> str:
    return msgspec.json.encode(values).decode()


def result_from_row(row: Any) -> bytes | None:
    """``row`` begins with ``STATE_COLUMNS`` and ends with ``RESULT_COLUMNS``."""
    return intact(row[0], row[-1], row[-2]) if row[4] == Status.COMPLETED else None


@understood
def state_from_row(row: Any, result: bytes | None = None) -> JobState:
    """``row`` begins with ``STATE_COLUMNS``."""
    (job_id, kind, model, request_id, status, created, completed, expires, run_at, code, error, *_) = row
    return JobState(
        id=id_from_bytes(job_id),
        request_type=_REQUEST_TYPES[kind],
        model=model,
        request_id=request_id,
        status=_STATUSES[status],
        created_at=moment(created),
        completed_at=optional_moment(completed),
        expires_at=optional_moment(expires),
        next_run_at=optional_moment(run_at),
        status_code=code,
        result=result,
        error=_error.decode(error) if error is not None else None,
    )


@understood
def details_from_row(row: Any, state: JobState, attempts: tuple[Attempt, ...]) -> JobDetails:
    """``row`` is ``DETAIL_COLUMNS``."""
    (_, outcome, error_code, owner, actor, candidates, ttl, timeout, most, priority, deadline, *rest) = row
    started, attempt, losses, _, metadata = rest
    return JobDetails(
        state=state,
        outcome=Outcome(outcome) if outcome is not None else None,
        error_code=error_code,
        owner=Owner(owner),
        actor=actor,
        candidates=_strings.decode(candidates),
        options=Options(result_ttl=ttl, timeout=timeout, max_attempts=most, priority=priority),
        deadline_at=moment(deadline),
        started_at=optional_moment(started),
        attempt=attempt,
        losses=losses,
        attempts=attempts,
        metadata=metadata,
    )


@understood
def attempt_from_row(row: Any) -> Attempt:
    number, started, ended, end, calls = row
    return Attempt(
        number=number,
        started_at=moment(started),
        ended_at=moment(ended),
        end=end,
        calls=_calls.decode(calls) if calls is not None else (),
    )


@understood
def claimed_from_row(row: Any) -> Claimed:
    """``row`` is ``CLAIMED_COLUMNS``."""
    (job_id, lease, kind, owner, model, candidates, lane, ttl, timeout, most, priority, extra, *rest) = row
    request_id, created, deadline, started, attempt, failed, dead_keys, _, digest, body = rest
    return Claimed(
        lease=Lease(job_id=id_from_bytes(job_id), token=lease),
        request_type=_REQUEST_TYPES[kind],
        owner=Owner(owner),
        key_id=key_of_owner(Owner(owner)),
        model=model,
        candidates=_strings.decode(candidates),
        lane=Lane(lane),
        options=Options(result_ttl=ttl, timeout=timeout, max_attempts=most, priority=priority),
        passes_extra_params=bool(extra),
        request_id=request_id,
        created_at=moment(created),
        deadline_at=moment(deadline),
        started_at=moment(started),
        attempt=attempt,
        failed_attempts=failed,
        dead_keys=_strings.decode(dead_keys) if dead_keys is not None else (),
        body=intact(job_id, body, digest),
    )
