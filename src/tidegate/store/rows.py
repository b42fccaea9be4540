"""Columns of a job and what they mean, whichever database they come from: times are milliseconds, lists JSON."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, LiteralString

import msgspec

from tidegate.domain.access import Owner, key_of_owner
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

Row = Sequence[Any]

_REQUEST_TYPES: Final = {str(kind): kind for kind in RequestType}
_STATUSES: Final = {str(status): status for status in Status}
_strings: Final = msgspec.json.Decoder(tuple[str, ...])
_error: Final = msgspec.json.Decoder(JobError)
_calls: Final = msgspec.json.Decoder(tuple[Call, ...])


def sql(*parts: LiteralString) -> LiteralString:
    """One statement of constant parts; every value is bound, never written into it."""
    return " ".join(parts)


STATE_COLUMNS: Final = (
    "j.request_type, j.model, j.request_id, j.status, j.created_at, j.completed_at, j.expires_at,"
    " CASE WHEN j.status = 'pending' THEN j.run_at END, j.status_code, j.error"
)
STATE_WIDTH: Final = 10
DETAIL_COLUMNS: Final = (
    "j.outcome, j.error_code, j.owner, j.actor, j.candidates, j.result_ttl, j.timeout, j.max_attempts,"
    " j.priority, j.deadline_at, j.started_at, j.attempt, j.losses"
)
DETAIL_WIDTH: Final = 13
ATTEMPT: Final = 11
"""Place of the attempt's number in ``DETAIL_COLUMNS``."""
CLAIMED_COLUMNS: Final = (
    "request_type, owner, model, candidates, lane, result_ttl, timeout, max_attempts, priority, passes_extra,"
    " request_id, created_at, deadline_at, attempt_started_at, attempt, failed_attempts, dead_keys"
)
CLAIMED_WIDTH: Final = 17
ATTEMPT_COLUMNS: Final = 'number, started_at, ended_at, "end", calls'


def moment(value: int) -> datetime:
    return datetime.fromtimestamp(value / 1000, UTC)


def optional_moment(value: int | None) -> datetime | None:
    return None if value is None else moment(value)


def strings_to_json(values: tuple[str, ...]) -> str:
    return msgspec.json.encode(values).decode()


def state_of(job_id: JobId, row: Row, result: bytes | None) -> JobState:
    """``row`` is ``STATE_COLUMNS``."""
    kind, model, request_id, status, created, completed, expires, run_at, code, error = row
    return JobState(
        id=job_id,
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


def details_of(
    row: Row, state: JobState, attempts: tuple[Attempt, ...], metadata: bytes | None
) -> JobDetails:
    """``row`` is ``DETAIL_COLUMNS``."""
    (outcome, error_code, owner, actor, candidates, ttl, timeout, most, priority, deadline, *rest) = row
    started, attempt, losses = rest
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


def attempt_of(row: Row) -> Attempt:
    """``row`` is ``ATTEMPT_COLUMNS``."""
    number, started, ended, end, calls = row
    return Attempt(
        number=number,
        started_at=moment(started),
        ended_at=moment(ended),
        end=end,
        calls=_calls.decode(calls) if calls is not None else (),
    )


def claimed_of(lease: Lease, row: Row, body: bytes) -> Claimed:
    """``row`` is ``CLAIMED_COLUMNS``."""
    (kind, owner, model, candidates, lane, ttl, timeout, most, priority, extra, *rest) = row
    request_id, created, deadline, started, attempt, failed, dead_keys = rest
    return Claimed(
        lease=lease,
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
        body=body,
    )


def encode_calls(calls: Sequence[Call]) -> bytes:
    return msgspec.json.encode(calls)


def encode_error(error: JobError) -> bytes:
    return msgspec.json.encode(error)
