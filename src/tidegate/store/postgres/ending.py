"""Ends that no worker brings about: cancel, deadline, and erasing what has expired."""

from typing import Final

from tidegate import fault_points
from tidegate.domain.access import KeyId, Reader, owner_of_key
from tidegate.domain.errors import Conflict, ErrorCode
from tidegate.domain.jobs import (
    CANCELLED,
    DEADLINE_EXCEEDED,
    QUEUE_TIMEOUT,
    Cancellation,
    JobId,
    JobRef,
    Outcome,
)
from tidegate.store.postgres import reading
from tidegate.store.postgres.database import Database
from tidegate.store.postgres.leasing import error_values
from tidegate.store.postgres.rows import MOMENT, id_from_uuid
from tidegate.store.rows import sql

_UNFINISHED: Final = "status IN ('pending', 'processing')"
_TARGET: Final = """,
    target AS MATERIALIZED (
        SELECT j.id, j.status, j.attempt, j.attempt_started_at, j.lease, j.started_at FROM jobs j, moment WHERE
"""
_PAST: Final = """
    ),
    past AS (
        INSERT INTO attempts (job, number, started_at, ended_at, "end", lease)
        SELECT id, attempt, attempt_started_at, ms,
"""
_FAIL: Final = """
        , lease FROM target, moment WHERE status = 'processing'
    )
    UPDATE jobs j SET
        status = 'failed', completed_at = ms, expires_at = ms + j.result_ttl * 1000::bigint, worker = NULL, lease = NULL,
"""
_CANCEL: Final = sql("FOR UPDATE OF j", _PAST, "'cancelled'", _FAIL)
_ERROR_5: Final = "status_code = $5, outcome = $6, error_code = $7, error = $8"
_ERROR_2: Final = "status_code = $2, outcome = $3, error_code = $4, error = $5"
_DONE: Final = "FROM target t, moment WHERE j.id = t.id RETURNING j.id"
_CANCEL_ONE: Final = sql(
    "WITH", MOMENT, _TARGET, reading.VISIBLE, "AND", _UNFINISHED, _CANCEL, _ERROR_5, _DONE
)
_CANCEL_ALL: Final = sql("WITH", MOMENT, _TARGET, "owner = $1 AND", _UNFINISHED, _CANCEL, _ERROR_2, _DONE)
DELETE_KEY: Final = "DELETE FROM virtual_keys WHERE id = $1 RETURNING id"
_EXPIRE: Final = sql(
    "WITH",
    MOMENT,
    _TARGET,
    reading.DEADLINE,
    "<= (SELECT ms FROM moment) ORDER BY",
    reading.DEADLINE,
    "LIMIT $1 FOR UPDATE OF j SKIP LOCKED",
    _PAST,
    "'failed'",
    _FAIL,
    """
        status_code = CASE WHEN t.started_at IS NULL THEN $2::int ELSE $6::int END,
        outcome = CASE WHEN t.started_at IS NULL THEN $3::text ELSE $7::text END,
        error_code = CASE WHEN t.started_at IS NULL THEN $4::text ELSE $8::text END,
        error = CASE WHEN t.started_at IS NULL THEN $5::bytea ELSE $9::bytea END
    """,
    _DONE,
)
_PRUNE: Final = sql(
    "WITH",
    MOMENT,
    """,
    gone AS MATERIALIZED (
        DELETE FROM jobs WHERE id = ANY(ARRAY(
            SELECT id FROM jobs WHERE expires_at <= (SELECT ms FROM moment) ORDER BY expires_at LIMIT $1
            FOR UPDATE SKIP LOCKED
        )) RETURNING id
    ),
    attempts_gone AS (DELETE FROM attempts WHERE job IN (SELECT id FROM gone)),
    requests_gone AS (DELETE FROM job_request WHERE job IN (SELECT id FROM gone)),
    results_gone AS (DELETE FROM job_result WHERE job IN (SELECT id FROM gone)),
    notes_gone AS (DELETE FROM job_metadata WHERE job IN (SELECT id FROM gone))
    SELECT count(*) FROM gone
    """,
)
# A record outlives its day while its job is there: a replay must find the job. It is looked at again when the job is over.
_PRUNE_RECORDS: Final = sql(
    "WITH",
    MOMENT,
    """,
    due AS MATERIALIZED (
        SELECT i.scope_digest, (
            SELECT greatest(coalesce(j.expires_at, j.deadline_at), ms + 1000) FROM jobs j
            WHERE j.id = i.job_id AND (j.expires_at IS NULL OR j.expires_at > ms)
        ) AS until
        FROM idempotency i, moment WHERE keep_until <= (SELECT ms FROM moment) ORDER BY keep_until LIMIT $1 FOR UPDATE OF i SKIP LOCKED
    ),
    kept AS (
        UPDATE idempotency i SET keep_until = due.until FROM due
        WHERE i.scope_digest = due.scope_digest AND due.until IS NOT NULL
    ),
    forgotten AS (
        DELETE FROM idempotency WHERE scope_digest IN (SELECT scope_digest FROM due WHERE until IS NULL)
    )
    SELECT count(*) FROM due
    """,
)


async def cancel(database: Database, reader: Reader, ref: JobRef) -> Cancellation | None:
    """``None`` where the reader sees no such job. Raises ``Conflict`` if it had ended otherwise."""
    ended = await database.fetch(_CANCEL_ONE, *reading.bindings(reader, ref), *error_values(CANCELLED))
    found = await reading.details(database, reader, ref)
    if found is None:
        return None
    if not ended and found.outcome is not Outcome.CANCELLED:
        raise Conflict(ErrorCode.JOB_NOT_CANCELLABLE, "job has already ended")
    return Cancellation(found, ended_now=bool(ended))


async def delete_key_and_jobs(database: Database, key_id: KeyId) -> list[JobId]:
    """The virtual key is gone, and with it every unfinished job of its own."""
    rows = await database.fetch_last(
        [(DELETE_KEY, (key_id,)), (_CANCEL_ALL, (owner_of_key(key_id), *error_values(CANCELLED)))]
    )
    return [id_from_uuid(row[0]) for row in rows]


async def expire(database: Database, limit: int) -> list[JobId]:
    """Unfinished jobs past their deadline are failed."""
    values = (*error_values(QUEUE_TIMEOUT), *error_values(DEADLINE_EXCEEDED))
    return [id_from_uuid(row[0]) for row in await database.fetch(_EXPIRE, limit, *values)]


async def prune(database: Database, limit: int) -> int:
    """Erase jobs past their expiry, and idempotency records that nobody can need any more."""
    jobs = await database.fetch(_PRUNE, limit)
    fault_points.reached("in_prune")
    records = await database.fetch(_PRUNE_RECORDS, limit)
    return int(jobs[0][0]) + int(records[0][0])


async def probe(database: Database) -> None:
    """A real, small write: shows whether one is possible."""
    await database.fetch("UPDATE probe SET probed_at = now_ms()")
