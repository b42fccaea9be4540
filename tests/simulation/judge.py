"""What must be true when everything is over, whatever went wrong on the way: I1 to I5 of the promises."""

from collections import Counter
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from simulation.clients import Client
from simulation.simulation import Simulation
from tidegate.domain.access import AllOwners
from tidegate.domain.ids import epoch_ms
from tidegate.domain.jobs import Attempt, JobDetails, JobRef, JobState, Outcome
from tidegate.store.sqlite.rows import id_from_bytes

_FINAL: Final = {"succeeded", "failed", "cancelled"}
_LET_GO: Final = {"requeued", "released", "worker_lost"}
_SILENT: Final = {"worker_lost", "failed", "cancelled"}
"""Attempts that the store may have ended, so that what their worker did may not be on record."""
_EARLY: Final = timedelta(milliseconds=20)
"""So long before a deadline an attempt may give up: no call is begun any more."""
_JOBS: Final = "SELECT jobs.id, body FROM jobs JOIN job_request ON job = seq"


async def judge(world: Simulation) -> None:
    jobs: dict[str, list[JobDetails]] = {}
    for job_id, body in world._rows(_JOBS):
        found = await world.store.jobs.inspect(AllOwners(), JobRef(id_from_bytes(job_id)))
        label = msgspec.json.decode(body)["messages"][0]["content"]
        if found is not None:  # else it has expired, and nobody may see it
            jobs.setdefault(label, []).append(found)
    for client in world.clients:
        made = jobs.get(client.label, [])
        assert len(made) <= 1, "one request, several jobs"
        if made:
            _judge_job(world, client, made[0])
        else:
            _judge_absence(world, client)
    assert len(set(world.announced)) == len(world.announced), "an end was announced twice"
    assert not [problem for problem in world.problems if problem.endswith(("broken", "stuck"))]


def _judge_absence(world: Simulation, client: Client) -> None:
    """I1: what was acknowledged is there until its time is over."""
    if client.acknowledged_at is None:
        return
    ttl = timedelta(seconds=client.options.result_ttl or 0)
    world.now()
    assert world.passed - client.acknowledged_at >= ttl, f"{client.label} was acknowledged and is lost"


def _judge_job(world: Simulation, client: Client, job: JobDetails) -> None:
    assert client.job in {None, job.state.id}
    assert job.state.status.is_terminal
    ends = [attempt.end for attempt in job.attempts]
    last = ends[-1:] if set(ends[-1:]) & _FINAL else []
    assert set(ends[: len(ends) - len(last)]) <= _LET_GO, f"{client.label} ended more than once: {ends}"
    assert job.losses == ends.count("worker_lost")
    assert client.end in {None, job.state}, "what a client saw is not what is stored"
    _judge_outcome(world, client, job, last)
    _judge_calls(world, client.label, job)


def _judge_outcome(world: Simulation, client: Client, job: JobDetails, last: list[Any]) -> None:
    match job.outcome:
        case Outcome.SUCCEEDED:
            assert last == ["succeeded"]
            assert _text_of(job.state) == client.label
            assert client.label in world.vendors.answered
        case Outcome.CANCELLED:
            assert client.wants_cancel
            assert last in ([], ["cancelled"])
        case Outcome.WORKER_LOST:
            assert (job.losses, last) == (world.store.loss_budget, [])
        case Outcome.QUEUE_TIMEOUT | Outcome.DEADLINE_EXCEEDED:
            assert job.state.completed_at is not None
            assert job.state.completed_at >= job.deadline_at - _EARLY
        case Outcome.PROVIDER_ERROR:
            assert last == ["failed"]
            charged = sum(end in {"requeued", "failed"} for end in (attempt.end for attempt in job.attempts))
            assert charged <= (client.options.max_attempts or 0)
        case _:
            raise AssertionError(job.outcome)


def _text_of(state: JobState) -> Any:
    assert state.result is not None
    return msgspec.json.decode(state.result)["choices"][0]["message"]["content"]


def _judge_calls(world: Simulation, label: str, job: JobDetails) -> None:
    """I5: every recorded call was made; one that is not on record belongs to an attempt that lost its worker."""
    recorded = Counter(
        _ms(call.started_at) for attempt in job.attempts for call in attempt.calls if call.started_at
    )
    made = Counter(_ms(sent.at) for sent in world.vendors.journal if sent.label == label)
    assert not recorded - made, "a call is on record that was never made"
    silent = [attempt for attempt in job.attempts if attempt.end in _SILENT and not attempt.calls]
    for at in (made - recorded).elements():
        assert any(_holds(attempt, at) for attempt in silent), f"a call of {label} is not on record"


def _holds(attempt: Attempt, at: int) -> bool:
    """Of a lost one the end is the next start, and that may bring an earlier time with it."""
    if attempt.ended_at is None or at < _ms(attempt.started_at):
        return False
    return attempt.end == "worker_lost" or at <= _ms(attempt.ended_at)


def _ms(moment: datetime) -> int:
    return epoch_ms(moment)
