"""Accept: a request becomes a durable job, or turns out to be one already."""

from datetime import timedelta
from typing import Final

from tidegate.domain.jobs import Accepted, Idempotency, JobState, NewJob, Status
from tidegate.store.idempotency import job_is_gone, require_same_request
from tidegate.store.rows import sql, strings_to_json
from tidegate.store.sqlite.damage import digest_of
from tidegate.store.sqlite.reading import Query
from tidegate.store.sqlite.rows import (
    RESULT_COLUMNS,
    STATE_COLUMNS,
    id_to_bytes,
    ms,
    result_from_row,
    state_from_row,
)
from tidegate.store.sqlite.writer import Transaction

_INSERT: Final = """
INSERT INTO jobs (
    id, request_type, owner, actor, model, candidates, lane, weight, result_ttl, timeout, max_attempts,
    priority, passes_extra, request_id, created_at, deadline_at, request_digest, status, rank
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'pending', ?)
"""
_BY_ID: Final = sql(
    "SELECT",
    STATE_COLUMNS,
    RESULT_COLUMNS,
    "FROM jobs j WHERE j.id = ? AND (j.expires_at IS NULL OR j.expires_at > ?)",
)


def accept(tx: Transaction, job: NewJob) -> Accepted:
    """Raises ``InvalidRequest`` or ``Conflict`` when the idempotency key belongs to something else."""
    if job.idempotency is not None:
        earlier = replayed(tx.rows, job.idempotency, tx.now)
        if earlier is not None:
            return Accepted(earlier, is_replay=True)
    options = job.options
    turn = tx.turns.give(lane=job.lane, owner=job.owner, weight=job.weight, priority=options.priority)
    created = ms(job.created_at)
    job_id = id_to_bytes(job.id)
    tx.execute(
        _INSERT,
        (
            job_id,
            str(job.request_type),
            job.owner,
            job.actor,
            job.model,
            strings_to_json(job.candidates),
            job.lane,
            job.weight,
            options.result_ttl,
            options.timeout,
            options.max_attempts,
            options.priority,
            int(job.passes_extra_params),
            job.request_id,
            created,
            created + options.timeout * 1000,
            digest_of(job_id, job.body),
            turn.rank,
        ),
    )
    seq = tx.last_rowid()
    tx.execute("INSERT INTO job_request (job, body) VALUES (?, ?)", (seq, job.body))
    if job.metadata is not None:
        tx.execute("INSERT INTO job_metadata (job, json) VALUES (?, ?)", (seq, job.metadata))
    if job.idempotency is not None:
        tx.execute(
            "INSERT INTO idempotency (scope_digest, fingerprint, job_id, keep_until) VALUES (?, ?, ?, ?)",
            (
                job.idempotency.scope_digest,
                job.idempotency.fingerprint,
                job_id,
                tx.now + job.idempotency.keep_for // timedelta(milliseconds=1),
            ),
        )
    return Accepted(
        JobState(
            id=job.id,
            request_type=job.request_type,
            model=job.model,
            request_id=job.request_id,
            status=Status.PENDING,
            created_at=job.created_at,
        ),
        is_replay=False,
    )


def replayed(query: Query, idempotency: Idempotency, now: int) -> JobState | None:
    """The job an earlier submit with the same key made.

    Raises ``InvalidRequest`` for another request under the same key, ``Conflict`` when the job is gone:
    running it again would cost money nobody meant to spend.
    """
    known = query(
        "SELECT fingerprint, job_id FROM idempotency WHERE scope_digest = ?", (idempotency.scope_digest,)
    )
    if not known:
        return None
    fingerprint, job_id = known[0]
    require_same_request(idempotency, fingerprint)
    rows = query(_BY_ID, (job_id, now))
    if not rows:
        raise job_is_gone()
    return state_from_row(rows[0], result=result_from_row(rows[0]))
