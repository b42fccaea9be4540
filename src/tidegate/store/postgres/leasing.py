"""Claim, renew, settle, rescue: a worker's right to a job, from its beginning to its end.

A lease is a token in the job's row and a worker that was seen lately. It ends by a committed write, never by the
clock alone: a worker that was away for too long still owns its jobs until somebody has rescued them.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from msgspec import Struct

from tidegate import fault_points
from tidegate.domain.errors import CommitUnknown
from tidegate.domain.fairness import TURNS_PER_PRIORITY_LEVEL
from tidegate.domain.fleet import Fleet
from tidegate.domain.inference import Call
from tidegate.domain.jobs import (
    WORKER_LOST,
    AttemptEnd,
    Claimed,
    Completed,
    Ending,
    Failed,
    JobError,
    JobId,
    Lane,
    Lease,
    Postponed,
)
from tidegate.store.postgres.accepting import TAILS
from tidegate.store.postgres.database import Database
from tidegate.store.postgres.rows import CLAIMED_COLUMNS, MOMENT, claimed_from_row, id_from_uuid, id_to_uuid
from tidegate.store.rows import encode_calls, encode_error, sql, strings_to_json

LEASE: Final = timedelta(seconds=12)
_LONGEST_GAP: Final = timedelta(seconds=5)
"""A renewal that was due during it comes right after it, and nobody's lease is over by then."""
_STEADY_FOR: Final = timedelta(seconds=5)
"""Everybody's next renewal, and a second."""
_MOST_RANKED_AT_ONCE: Final = 256
_MOST_RESCUED_AT_ONCE: Final = 500

_WAITS: Final = sql(
    "WITH",
    MOMENT,
    """
    SELECT
        EXISTS (SELECT FROM jobs WHERE status = 'pending' AND rank IS NULL AND run_at <= (SELECT ms FROM moment)),
        EXISTS (SELECT FROM jobs WHERE status = 'pending' AND rank IS NOT NULL AND is_suspect)
    """,
)
_RANK_DUE: Final = sql(
    "WITH",
    MOMENT,
    """,
    due AS MATERIALIZED (
        SELECT id, lane, owner, weight, priority, run_at FROM jobs
        WHERE status = 'pending' AND rank IS NULL AND run_at <= (SELECT ms FROM moment)
        ORDER BY run_at LIMIT $1 FOR UPDATE SKIP LOCKED
    ),
    placed AS MATERIALIZED (
        SELECT id, lane, owner, priority,
            sum(1 / weight) OVER (PARTITION BY lane, owner ORDER BY run_at, id) AS so_far,
            sum(1 / weight) OVER (PARTITION BY lane, owner) AS added
        FROM due
    ),
    moves AS (SELECT DISTINCT lane, owner, added FROM placed),
    """,
    TAILS,
    """
    UPDATE jobs SET rank = tail - added + so_far + $2::float8 * (placed.priority - 1), run_at = NULL
    FROM placed JOIN tails_moved USING (lane, owner) WHERE jobs.id = placed.id
    """,
)
# A lease must differ from every earlier one of its job. One random number does for all jobs of a claim, with what is
# random in each job's id: drawing one for each took a fifth of the statement's time.
_TAKEN: Final = sql(
    """
    draw AS MATERIALIZED (SELECT substring(uuid_send(gen_random_uuid()) FOR 8) AS number),
    taken AS (
        UPDATE jobs SET
            status = 'processing', worker = $1, lease = number || substring(uuid_send(id) FROM 9),
            attempt = attempt + 1, attempt_started_at = ms, started_at = coalesce(started_at, ms)
        FROM picked, moment, draw WHERE id = job
        RETURNING rank,""",
    CLAIMED_COLUMNS,
    """
    ),
    progress AS (
        INSERT INTO lanes AS l (lane, virtual_time)
        SELECT lane, max(rank - $2::float8 * (priority - 1)) FROM taken GROUP BY lane ORDER BY lane
        ON CONFLICT (lane) DO UPDATE SET virtual_time = greatest(l.virtual_time, excluded.virtual_time)
    )
    SELECT""",
    CLAIMED_COLUMNS,
    ", (SELECT body FROM job_request WHERE job = id) FROM taken ORDER BY rank",
)
# One claim of a lane after the other, so that each counts what the one before it took. Read committed, the count comes
# after the lock: it must be a statement of its own.
LOCK_LANES: Final = """
    INSERT INTO lanes (lane, virtual_time) SELECT unnest($1::text[]), 0 ORDER BY 1
    ON CONFLICT (lane) DO UPDATE SET virtual_time = lanes.virtual_time
"""
_CLAIM: Final = sql(
    "WITH",
    MOMENT,
    """,
    wanted AS MATERIALIZED (
        SELECT lane, least(room, coalesce(
            most - (SELECT count(*) FROM jobs j WHERE j.lane = w.lane AND j.lease IS NOT NULL), room
        ))::int AS room
        FROM unnest($3::text[], $4::int[], $5::int[]) AS w (lane, room, most)
    ),
    picked AS MATERIALIZED (
        SELECT found.id AS job FROM wanted CROSS JOIN LATERAL (
            SELECT id FROM jobs, moment
            WHERE lane = wanted.lane AND status = 'pending' AND rank IS NOT NULL AND NOT is_suspect
                AND deadline_at > ms
            ORDER BY rank LIMIT greatest(wanted.room, 0) FOR UPDATE OF jobs SKIP LOCKED
        ) found
        WHERE EXISTS (SELECT FROM workers WHERE id = $1)
    ),
    """,
    _TAKEN,
)
_CLAIM_SUSPECT: Final = sql(
    "WITH",
    MOMENT,
    """,
    picked AS MATERIALIZED (
        SELECT id AS job FROM jobs, moment
        WHERE status = 'pending' AND rank IS NOT NULL AND is_suspect AND deadline_at > ms
            AND lane = ANY($3::text[]) AND EXISTS (SELECT FROM workers WHERE id = $1)
        ORDER BY rank LIMIT 1 FOR UPDATE OF jobs SKIP LOCKED
    ),
    """,
    _TAKEN,
)
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
_SETTLE: Final = sql(
    "WITH",
    MOMENT,
    """,
    given AS MATERIALIZED (
        SELECT * FROM unnest(
            $1::uuid[], $2::bytea[], $3::text[], $4::text[], $5::bytea[], $6::int[], $7::text[], $8::text[],
            $9::bytea[], $10::bigint[], $11::text[], $12::bytea[]
        ) AS g (
            id, lease, status, ended, result, status_code, outcome, error_code, error, delay, dead_keys, calls
        )
    ),
    settled AS (
        UPDATE jobs j SET
            status = g.status,
            completed_at = CASE WHEN g.status <> 'pending' THEN ms END,
            expires_at = CASE WHEN g.status <> 'pending' THEN ms + j.result_ttl * 1000::bigint END,
            status_code = g.status_code, outcome = g.outcome, error_code = g.error_code, error = g.error,
            failed_attempts = j.failed_attempts + (g.ended IN ('failed', 'requeued'))::int,
            rank = CASE WHEN g.ended <> 'requeued' THEN j.rank END,
            run_at = CASE WHEN g.ended = 'requeued' THEN ms + g.delay END,
            dead_keys = CASE WHEN g.status = 'pending' THEN g.dead_keys ELSE j.dead_keys END,
            worker = NULL, lease = NULL
        FROM given g, moment
        WHERE j.id = g.id AND j.lease = g.lease
        RETURNING j.id, j.attempt, j.attempt_started_at, g.ended, g.lease, g.result, g.calls
    ),
    results AS (INSERT INTO job_result (job, body) SELECT id, result FROM settled WHERE result IS NOT NULL),
    past AS (
        INSERT INTO attempts (job, number, started_at, ended_at, "end", calls, lease, is_settled)
        SELECT id, attempt, attempt_started_at, ms, ended, calls, lease, true FROM settled, moment
    )
    SELECT lease FROM settled
    """,
)
_SETTLED: Final = """
    SELECT lease FROM attempts WHERE job = ANY($1::uuid[]) AND lease = ANY($2::bytea[]) AND is_settled
"""
_BOOK_LATE: Final = """
    UPDATE attempts SET calls = g.calls FROM unnest($1::uuid[], $2::bytea[], $3::bytea[]) AS g (job, lease, calls)
    WHERE attempts.job = g.job AND attempts.lease = g.lease AND attempts.calls IS NULL
"""
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


class Settlement(Struct, frozen=True):
    """One ending on its way into the store."""

    lease: Lease
    ending: Ending
    calls: Sequence[Call]


async def claim(
    database: Database, worker: UUID, lanes: Mapping[Lane, int], fleet: Mapping[Lane, int] | None
) -> list[Claimed]:
    """Due jobs of each lane, fairest first."""
    wanted = {lane: room for lane, room in lanes.items() if room > 0}
    if not wanted:
        return []
    most = [None if fleet is None else fleet.get(lane) for lane in wanted]
    lock = () if fleet is None else ((LOCK_LANES, (list(wanted),)),)
    values = (worker, float(TURNS_PER_PRIORITY_LEVEL), list(wanted), list(wanted.values()), most)
    rows = await database.fetch_last((*lock, (_CLAIM, values)))
    return [claimed_from_row(row) for row in rows]


async def claim_suspect(database: Database, worker: UUID, lanes: Mapping[Lane, int]) -> list[Claimed]:
    """At most one of the jobs that are suspected of killing their workers."""
    wanted = [lane for lane, room in lanes.items() if room > 0]
    rows = await database.fetch(_CLAIM_SUSPECT, worker, float(TURNS_PER_PRIORITY_LEVEL), wanted)
    return [claimed_from_row(row) for row in rows]


async def what_waits(database: Database) -> tuple[bool, bool]:
    """Whether a job that had to wait has come due, and whether one is under suspicion: hardly ever, and asking is cheap."""
    is_due, is_suspected = (await database.fetch(_WAITS))[0]
    return is_due, is_suspected


async def rank_what_is_due(database: Database) -> None:
    """A job that had to wait gets its place now, behind its owner's other jobs."""
    await database.fetch(_RANK_DUE, _MOST_RANKED_AT_ONCE, float(TURNS_PER_PRIORITY_LEVEL))


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


async def settle(database: Database, settlements: Sequence[Settlement], unanswered: set[bytes]) -> list[bool]:
    """End, postpone or release each job; ``False`` where the lease was lost and only calls were booked.

    ``unanswered`` remembers tokens between tries: of endings that were sent, and may have been written.
    """
    ours = await _settle(database, settlements, unanswered)
    fault_points.reached(
        "in_release" if all(_is_release(found.ending) for found in settlements) else "in_settle"
    )
    late = [found for found in settlements if found.lease.token not in ours and found.calls]
    if late:
        calls = [encode_calls(found.calls) for found in late]
        await database.fetch(_BOOK_LATE, *_leases(late), calls)
    return [found.lease.token in ours for found in settlements]


async def _settle(
    database: Database, settlements: Sequence[Settlement], unanswered: set[bytes]
) -> set[bytes]:
    """Tokens of those that were ours to end."""
    tokens = {found.lease.token for found in settlements}
    try:
        rows = await database.fetch_or_unknown(_SETTLE, *_columns(settlements))
    except CommitUnknown:
        unanswered |= tokens
        rows = await database.fetch_patiently(_SETTLE, *_columns(settlements))
    ours = {row[0] for row in rows}
    earlier = [found for found in settlements if found.lease.token in unanswered - ours]
    if earlier:
        ours |= {row[0] for row in await database.fetch(_SETTLED, *_leases(earlier))}
    unanswered -= tokens
    return ours


def _is_release(ending: Ending) -> bool:
    return isinstance(ending, Postponed) and not ending.is_charged


def _leases(settlements: Sequence[Settlement]) -> tuple[list[UUID], list[bytes]]:
    return (
        [id_to_uuid(found.lease.job_id) for found in settlements],
        [found.lease.token for found in settlements],
    )


def _columns(settlements: Sequence[Settlement]) -> list[list[Any]]:
    rows = [_row(settlement) for settlement in settlements]
    return [list(column) for column in zip(*rows, strict=True)]


def _row(settlement: Settlement) -> tuple[Any, ...]:
    job_id, token = id_to_uuid(settlement.lease.job_id), settlement.lease.token
    calls = encode_calls(settlement.calls) if settlement.calls else None
    end: AttemptEnd
    match settlement.ending:
        case Completed(result=result):
            return (
                job_id, token, "completed", "succeeded", result, 200, "succeeded", None, None, None, None, calls
            )  # fmt: skip
        case Failed(error=error):
            return (job_id, token, "failed", "failed", None, *error_values(error), None, None, calls)
        case Postponed(delay=delay, is_charged=is_charged, dead_keys=keys):
            end = "requeued" if is_charged else "released"
            pause = delay // timedelta(milliseconds=1)
            dead_keys = strings_to_json(keys) if keys else None
            return (job_id, token, "pending", end, None, None, None, None, None, pause, dead_keys, calls)


def error_values(error: JobError) -> tuple[int, str, str, bytes]:
    """Status code, outcome, code and JSON, as they are stored."""
    return error.status_code, str(error.outcome), error.code, encode_error(error)


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
