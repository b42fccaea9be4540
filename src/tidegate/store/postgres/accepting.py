"""Accept: a batch of requests becomes durable in one statement, each with its place in its lane."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from asyncpg import UniqueViolationError

from tidegate.domain.errors import (
    CommitUnknown,
    Conflict,
    InvalidRequest,
    StoreBusy,
    StoreError,
)
from tidegate.domain.fairness import priority_offset
from tidegate.domain.jobs import Accepted, Idempotency, JobState, NewJob, Status
from tidegate.store.idempotency import job_is_gone, require_same_request
from tidegate.store.postgres.database import Database, Row
from tidegate.store.postgres.rows import (
    MOMENT,
    RESULT_COLUMN,
    STATE_COLUMNS,
    id_from_uuid,
    id_to_uuid,
    state_with_result,
)
from tidegate.store.rows import moment, sql, strings_to_json

TAILS: Final = """
    tails_moved AS (
        INSERT INTO tails AS t (lane, owner, tail, added)
        SELECT lane, owner, coalesce((SELECT virtual_time FROM lanes l WHERE l.lane = m.lane), 0) + added, added
        FROM moves m ORDER BY lane COLLATE "C", owner COLLATE "C"
        ON CONFLICT (lane, owner) DO UPDATE SET
            tail = greatest(t.tail + excluded.added, excluded.tail), added = excluded.added
        RETURNING lane, owner, tail
    )
"""
"""Start-time fair queueing for many jobs at once: each owner's tail moves on by all of his, in a fixed order of rows,
so that two gateways wait for each other and never for ever. ``moves`` says by how much."""

_ACCEPT: Final = sql(
    "WITH",
    MOMENT,
    """,
    given AS MATERIALIZED (
        SELECT * FROM unnest(
            $1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::float8[],
            $9::int[], $10::int[], $11::int[], $12::int[], $13::bool[], $14::text[], $15::bytea[], $16::bytea[],
            $17::bytea[], $18::bytea[], $19::bigint[], $20::int[], $21::float8[]
        ) AS g (
            id, request_type, owner, actor, model, candidates, lane, weight,
            result_ttl, timeout, max_attempts, priority, passes_extra, request_id, body, metadata,
            scope_digest, fingerprint, keep_for, queue, distance
        )
    ),
    records AS (
        INSERT INTO idempotency (scope_digest, fingerprint, job_id, keep_until)
        SELECT scope_digest, fingerprint, id, ms + keep_for FROM given, moment
        WHERE scope_digest IS NOT NULL ORDER BY scope_digest
        ON CONFLICT (scope_digest) DO NOTHING
        RETURNING job_id
    ),
    fresh AS NOT MATERIALIZED (
        SELECT * FROM given WHERE scope_digest IS NULL OR id IN (SELECT job_id FROM records)
    ),
    moves AS (SELECT * FROM unnest($22::text[], $23::text[], $24::float8[]) AS m (lane, owner, added)),
    """,
    TAILS,
    """,
    queues AS MATERIALIZED (
        SELECT array_agg(tail ORDER BY lane COLLATE "C", owner COLLATE "C") AS tails FROM tails_moved
    ),
    stored AS (
        INSERT INTO jobs (
            id, request_type, owner, actor, model, candidates, lane, weight, result_ttl, timeout, max_attempts,
            priority, passes_extra, request_id, created_at, deadline_at, status, rank
        )
        SELECT id, request_type, owner, actor, model, candidates, lane, weight, result_ttl, timeout, max_attempts,
            priority, passes_extra, request_id, ms, ms + timeout * 1000::bigint, 'pending', tails[queue] + distance
        FROM fresh, queues, moment
        RETURNING id, created_at
    ),
    bodies AS (INSERT INTO job_request (job, body) SELECT id, body FROM fresh),
    notes AS (INSERT INTO job_metadata (job, json) SELECT id, metadata FROM fresh WHERE metadata IS NOT NULL)
    SELECT id, created_at FROM stored
    """,
)
_STORED: Final = "SELECT id, created_at FROM jobs WHERE id = ANY($1::uuid[])"
_RECORD: Final = "SELECT fingerprint, job_id FROM idempotency WHERE scope_digest = $1"
_BY_ID: Final = sql(
    "SELECT",
    STATE_COLUMNS,
    RESULT_COLUMN,
    "FROM jobs j WHERE j.id = $1 AND (j.expires_at IS NULL OR j.expires_at > now_ms())",
)


async def accept(database: Database, jobs: Sequence[NewJob]) -> list[Accepted | StoreError | Exception]:
    """What became of each: accepted, an earlier job of the same idempotency key, or why not."""
    created = await _store(database, jobs)
    outcomes: list[Accepted | StoreError | Exception] = []
    for job in jobs:
        if job.id in created:
            outcomes.append(Accepted(_pending(job, created[job.id]), is_replay=False))
        else:
            outcomes.append(await _earlier(database, job))
    return outcomes


async def _store(database: Database, jobs: Sequence[NewJob]) -> dict[str, int]:
    """Id and time of those that are new. Raises ``StoreError``."""
    try:
        rows = await database.fetch_or_unknown(_ACCEPT, *_columns(jobs))
    except CommitUnknown as unknown:
        try:
            rows = await _store_what_is_missing(database, jobs)
        except (StoreError, UniqueViolationError):
            raise unknown from None
    return {id_from_uuid(job_id): created for job_id, created in rows}


async def _store_what_is_missing(database: Database, jobs: Sequence[NewJob]) -> list[Row]:
    """The line broke, and the server may still be at it: a second try waits for the first one, or makes it fail."""
    rows = await database.fetch_patiently(_STORED, [id_to_uuid(job.id) for job in jobs])
    stored = {id_from_uuid(job_id) for job_id, _ in rows}
    missing = [job for job in jobs if job.id not in stored]
    return rows + (await database.fetch(_ACCEPT, *_columns(missing)) if missing else [])


async def _earlier(database: Database, job: NewJob) -> Accepted | StoreError | Exception:
    if job.idempotency is None:
        return StoreBusy()
    try:
        state = await replayed(database, job.idempotency)
    except (InvalidRequest, Conflict, StoreError) as refusal:
        return refusal
    return Accepted(state, is_replay=True) if state is not None else StoreBusy()


async def replayed(database: Database, idempotency: Idempotency) -> JobState | None:
    """The job an earlier submit with the same key made.

    Raises ``InvalidRequest`` for another request under the same key, ``Conflict`` when the job is gone:
    running it again would cost money nobody meant to spend.
    """
    known = await database.fetch(_RECORD, idempotency.scope_digest)
    if not known:
        return None
    fingerprint, job_id = known[0]
    require_same_request(idempotency, fingerprint)
    rows = await database.fetch(_BY_ID, job_id)
    if not rows:
        raise job_is_gone()
    return state_with_result(rows[0])


def _columns(jobs: Sequence[NewJob]) -> list[Any]:
    records = [job.idempotency for job in jobs]
    return [
        [id_to_uuid(job.id) for job in jobs],
        [str(job.request_type) for job in jobs],
        [job.owner for job in jobs],
        [job.actor for job in jobs],
        [job.model for job in jobs],
        [strings_to_json(job.candidates) for job in jobs],
        [job.lane for job in jobs],
        [job.weight for job in jobs],
        [job.options.result_ttl for job in jobs],
        [job.options.timeout for job in jobs],
        [job.options.max_attempts for job in jobs],
        [job.options.priority for job in jobs],
        [job.passes_extra_params for job in jobs],
        [job.request_id for job in jobs],
        [job.body for job in jobs],
        [job.metadata for job in jobs],
        [record.scope_digest if record is not None else None for record in records],
        [record.fingerprint if record is not None else None for record in records],
        [record.keep_for // timedelta(milliseconds=1) if record is not None else None for record in records],
        *_places(jobs),
    ]


def _places(jobs: Sequence[NewJob]) -> tuple[list[Any], ...]:
    """Of each job its queue, counted from one, and how far from that queue's new tail its place is; then the queues:
    lane, owner, and by how much the tail moves. What turns out to be a replay leaves a gap.
    """
    queue_of = [(job.lane, job.owner) for job in jobs]
    moves = dict.fromkeys(sorted(set(queue_of)), 0.0)
    so_far = []
    for job, queue in zip(jobs, queue_of, strict=True):
        moves[queue] += 1 / job.weight
        so_far.append(moves[queue])
    number = {queue: place for place, queue in enumerate(moves, start=1)}
    return (
        [number[queue] for queue in queue_of],
        [
            distance - moves[queue] + priority_offset(job.options.priority)
            for job, queue, distance in zip(jobs, queue_of, so_far, strict=True)
        ],
        [lane for lane, _ in moves],
        [owner for _, owner in moves],
        list(moves.values()),
    )


def _pending(job: NewJob, created: int) -> JobState:
    return JobState(
        id=job.id,
        request_type=job.request_type,
        model=job.model,
        request_id=job.request_id,
        status=Status.PENDING,
        created_at=moment(created),
    )
