"""Jobs as JSON: the seed envelope, and the rich view (contract §4.1, §11.1)."""

import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Final

import msgspec

from tidegate.api.answers import compact
from tidegate.api.errors import encode_job_error
from tidegate.domain.access import key_of_owner
from tidegate.domain.inference import Call, RequestType, Usage
from tidegate.domain.jobs import Attempt, JobDetails, JobState, Status

POLL_PATHS: Final[Mapping[RequestType, str]] = MappingProxyType(
    {
        RequestType.CHAT_COMPLETION: "/v1/async/chat/completions",
    }
)
JOBS_PATH: Final = "/v1/async/jobs"


def timestamp(moment: datetime) -> str:
    """RFC 3339, UTC, three digits."""
    return moment.isoformat(timespec="milliseconds")[:23] + "Z"


def optional_timestamp(moment: datetime | None) -> str | None:
    return None if moment is None else timestamp(moment)


def envelope(job: JobState) -> bytes:
    """Exactly the seed's members, in its order. The result is stored ready to be sent."""
    if not job.status.is_terminal:
        return (
            f'{{"id":"{job.id}","status":"{job.status}","created_at":"{timestamp(job.created_at)}"}}'.encode()
        )
    start = (
        f'{{"id":"{job.id}","status":"{job.status}","expires_at":"{optional_timestamp(job.expires_at)}",'
        f'"created_at":"{timestamp(job.created_at)}","completed_at":"{optional_timestamp(job.completed_at)}",'
        f'"status_code":{job.status_code},'
    )
    return b"".join((start.encode(), *_outcome(job), b"}"))


def _outcome(job: JobState) -> tuple[bytes, bytes]:
    if job.status is Status.COMPLETED:
        return b'"result":', job.result or b"{}"
    return b'"error":', _error(job)


def _error(job: JobState) -> bytes:
    if job.error is None:
        raise ValueError(f"job {job.id} failed without an error")
    return encode_job_error(
        job.error, event_id=job.request_id, model=job.model, request_type=job.request_type
    )


def etag(body: bytes) -> bytes:
    """Strong: a hash of the bytes."""
    return b'"%s"' % hashlib.blake2b(body, digest_size=16).hexdigest().encode()


def poll_path(job: JobState) -> str:
    return f"{POLL_PATHS[job.request_type]}/{job.id}"


def rich_view(
    job: JobDetails, now: datetime, *, for_admin: bool, key_name: str | None, with_result: bool
) -> dict[str, Any]:
    """Everything about one job."""
    state = job.state
    view = _common(job, now, for_admin=for_admin, key_name=key_name)
    view |= compact({
        "result": msgspec.Raw(state.result) if with_result and state.result is not None else None,
        "error": msgspec.Raw(_error(state)) if state.error is not None else None,
        "options": {
            "result_ttl": job.options.result_ttl,
            "timeout": job.options.timeout,
            "max_attempts": job.options.max_attempts,
            "worker_lost": "retry",
            "priority": job.options.priority,
        },
        "queue": _queue(job, now),
        "attempts": [_attempt(attempt) for attempt in job.attempts],
    })  # fmt: skip
    return view


def list_entry(job: JobDetails, now: datetime, *, for_admin: bool, key_name: str | None) -> dict[str, Any]:
    """The rich view without its long parts."""
    return _common(job, now, for_admin=for_admin, key_name=key_name) | compact({"error_code": job.error_code})


def _common(job: JobDetails, now: datetime, *, for_admin: bool, key_name: str | None) -> dict[str, Any]:
    state = job.state
    is_over = state.status.is_terminal
    key_id = key_of_owner(job.owner)
    return compact({
        "id": state.id,
        "object": "job",
        "request_type": state.request_type,
        "status": state.status,
        "outcome": job.outcome,
        "status_code": state.status_code,
        "created_at": timestamp(state.created_at),
        "started_at": optional_timestamp(job.started_at),
        "completed_at": optional_timestamp(state.completed_at),
        "expires_at": optional_timestamp(state.expires_at),
        "next_run_at": optional_timestamp(state.next_run_at),
        "deadline_at": timestamp(job.deadline_at),
        "model": state.model,
        "candidates": job.candidates,
        "attempt": job.attempt,
        "losses": job.losses,
        "virtual_key": compact({"id": key_id, "name": key_name}) if key_id is not None else None,
        "actor": job.actor if for_admin else None,
        "request_id": state.request_id,
        "usage": _usage(job),
        "timings": _timings(job, now),
        "metadata": msgspec.Raw(job.metadata) if job.metadata is not None else None,
        "links": compact({
            "self": f"{JOBS_PATH}/{state.id}",
            "poll": poll_path(state),
            "cancel": None if is_over else f"{JOBS_PATH}/{state.id}/cancel",
        }),
    })  # fmt: skip


def _queue(job: JobDetails, now: datetime) -> dict[str, Any] | None:
    if job.state.status is not Status.PENDING:
        return None
    waits = job.state.next_run_at is not None and job.state.next_run_at > now
    return {"held_by": "retry"} if waits else {}


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return compact({
        "number": attempt.number,
        "started_at": timestamp(attempt.started_at),
        "ended_at": optional_timestamp(attempt.ended_at),
        "end": attempt.end,
        "calls": [_call(call) for call in attempt.calls],
    })  # fmt: skip


def _call(call: Call) -> dict[str, Any]:
    return compact({
        "candidate": call.candidate,
        "provider": call.provider,
        "model": call.model,
        "key": call.key,
        "started_at": optional_timestamp(call.started_at),
        "ended_at": optional_timestamp(call.ended_at),
        "status_code": call.status_code,
        "error_code": call.error_code,
        "message": call.message,
        "retry_after": call.retry_after,
        "usage": call.usage,
        "billing": call.billing,
        "simulated": call.simulated or None,
        "upstream": call.upstream,
    })  # fmt: skip


def _usage(job: JobDetails) -> Usage | None:
    """The sum over all calls that reported any."""
    known = [call.usage for attempt in job.attempts for call in attempt.calls if call.usage is not None]
    if not known:
        return None
    return Usage(
        prompt_tokens=sum(usage.prompt_tokens for usage in known),
        completion_tokens=sum(usage.completion_tokens for usage in known),
        total_tokens=sum(usage.total_tokens for usage in known),
    )


def _timings(job: JobDetails, now: datetime) -> dict[str, int]:
    """Milliseconds: waiting for the first claim, in attempts, in calls."""
    first_claim = job.started_at or job.state.completed_at or now
    calls = [call for attempt in job.attempts for call in attempt.calls]
    return {
        "queue_ms": _ms(first_claim - job.state.created_at),
        "run_ms": sum(_ms((attempt.ended_at or now) - attempt.started_at) for attempt in job.attempts),
        "upstream_ms": sum(
            _ms(call.ended_at - call.started_at)
            for call in calls
            if call.started_at is not None and call.ended_at is not None
        ),
    }


def _ms(duration: timedelta) -> int:
    return max(0, duration // timedelta(milliseconds=1))
