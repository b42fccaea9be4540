"""Renew, leave, rescue: which workers live, and what becomes of the jobs of the dead.

A lease ends by a committed write, never by the clock alone: a worker that was away for too long still owns its jobs
until somebody has rescued them.
"""

from datetime import timedelta
from typing import Final
from uuid import UUID

from msgspec import Struct

from tidegate import fault_points
from tidegate.domain.fleet import Fleet
from tidegate.domain.jobs import WORKER_LOST, JobId, Lease
from tidegate.store.postgres.database import Database
from tidegate.store.postgres.leasing import error_values
from tidegate.store.postgres.rows import MOMENT, id_from_uuid
from tidegate.store.rows import sql

LEASE: Final = timedelta(seconds=12)
_LONGEST_GAP: Final = timedelta(seconds=5)
"""A renewal that was due during it comes right after it, and nobody's lease is over by then."""
_STEADY_FOR: Final = timedelta(seconds=5)
"""Everybody's next renewal, and a second."""
_MOST_RESCUED_AT_ONCE: Final = 500

_RENEW: Final = sql(
    "WITH",
    MOMENT,
    """,
    seen AS (
        INSERT INTO workers (id, host, pid, providers, settings, started_at, seen_at)
        SELECT $1, $2, $3, $4, $5, ms, ms FROM moment
        ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at
    )
    SELECT ms, jobs.id, lease FROM moment LEFT JOIN jobs ON worker = $1
    """,
)
_FLEET: Final = sql(
    "WITH",
    MOMENT,
    "SELECT id, providers, started_at, seen_at FROM workers, moment WHERE seen_at >= ms - $1 ORDER BY id",
)
# Of two who look at once one waits for the other, and then comes with the older time: no step of the clock.
_RESCUE: Final = sql(
    "WITH",
    MOMENT,
    """,
    steady AS MATERIALIZED (
        UPDATE watch SET
            steady_since = CASE WHEN abs(ms - looked_at) <= $8::bigint THEN steady_since ELSE ms END,
            looked_at = ms
        FROM moment RETURNING ms - steady_since >= $9 AS long_enough
    ),
    dead AS MATERIALIZED (
        SELECT id FROM workers, moment WHERE seen_at < ms - $1 AND (SELECT long_enough FROM steady)
        FOR UPDATE OF workers SKIP LOCKED
    ),
    orphans AS MATERIALIZED (
        SELECT id, attempt, attempt_started_at, lease, losses + 1 AS losses FROM jobs
        WHERE worker IS NOT NULL AND (SELECT long_enough FROM steady)
            AND (worker IN (SELECT id FROM dead) OR NOT EXISTS (SELECT FROM workers w WHERE w.id = jobs.worker))
        LIMIT $2 FOR UPDATE OF jobs SKIP LOCKED
    ),
    past AS (
        INSERT INTO attempts (job, number, started_at, ended_at, "end", lease)
        SELECT id, attempt, attempt_started_at, ms, 'worker_lost', lease FROM orphans, moment
    ),
    buried AS (DELETE FROM workers WHERE id IN (SELECT id FROM dead))
    UPDATE jobs j SET
        status = CASE WHEN o.losses >= $3 THEN 'failed' ELSE 'pending' END,
        losses = o.losses, is_suspect = o.losses >= $3 - 1, worker = NULL, lease = NULL,
        completed_at = CASE WHEN o.losses >= $3 THEN ms END,
        expires_at = CASE WHEN o.losses >= $3 THEN ms + j.result_ttl * 1000::bigint END,
        status_code = CASE WHEN o.losses >= $3 THEN $4::int END,
        outcome = CASE WHEN o.losses >= $3 THEN $5::text END,
        error_code = CASE WHEN o.losses >= $3 THEN $6::text END,
        error = CASE WHEN o.losses >= $3 THEN $7::bytea END
    FROM orphans o, moment WHERE j.id = o.id
    RETURNING j.id, j.status
    """,
)


class Worker(Struct, frozen=True):
    """A process that runs jobs, as it stands in the database."""

    id: UUID
    host: str
    pid: int
    providers: tuple[str, ...]
    """Those it serves; empty: all."""
    settings: str
    """JSON of what all workers have to agree on."""


async def renew(database: Database, worker: Worker) -> tuple[set[Lease], int]:
    """The worker lives: the leases it has by the store's books, and the database's time in milliseconds."""
    rows = await database.fetch(
        _RENEW, worker.id, worker.host, worker.pid, list(worker.providers), worker.settings
    )
    leases = {Lease(id_from_uuid(job_id), token) for _, job_id, token in rows if token is not None}
    return leases, rows[0][0]


async def fleet(database: Database, worker: UUID) -> Fleet:
    """The live workers; ``worker`` has been settled among them once each of the others was seen after its start."""
    rows = await database.fetch(_FLEET, LEASE // timedelta(milliseconds=1))
    places = [row[0] for row in rows]
    if worker not in places:
        return Fleet(members=((),), is_settled=False)
    place = places.index(worker)
    began = rows[place][2]
    is_settled = all(row[3] > began for row in rows if row[0] != worker)
    return Fleet(tuple(tuple(row[1]) for row in rows), place, is_settled)


async def leave(database: Database, worker: UUID) -> None:
    """The worker goes in good order; what it still holds is free at once."""
    await database.fetch("DELETE FROM workers WHERE id = $1", worker)


async def rescue(database: Database, loss_budget: int) -> tuple[int, list[JobId]]:
    """Free the leases of the dead: how many, and the jobs that this was one loss too many for."""
    rows = await database.fetch(
        _RESCUE,
        LEASE // timedelta(milliseconds=1),
        _MOST_RESCUED_AT_ONCE,
        loss_budget,
        *error_values(WORKER_LOST),
        _LONGEST_GAP // timedelta(milliseconds=1),
        _STEADY_FOR // timedelta(milliseconds=1),
    )
    if rows:
        fault_points.reached("in_rescue")
    return len(rows), [id_from_uuid(row[0]) for row in rows if row[1] == "failed"]
