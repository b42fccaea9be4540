"""Claim and settle: a worker's right to a job, from its beginning to its end.

A lease is a token in the job's row, as long as its worker lives (``workers``). Whoever brings another token ends nothing.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from msgspec import Struct

from tidegate import fault_points
from tidegate.domain.errors import CommitUnknown
from tidegate.domain.fairness import TURNS_PER_PRIORITY_LEVEL
from tidegate.domain.inference import Call
from tidegate.domain.jobs import (
    AttemptEnd,
    Claimed,
    Completed,
    Ending,
    Failed,
    JobError,
    Lane,
    Lease,
    Postponed,
)
from tidegate.store.postgres.accepting import TAILS
from tidegate.store.postgres.database import Database
from tidegate.store.postgres.rows import CLAIMED_COLUMNS, MOMENT, claimed_from_row, id_to_uuid
from tidegate.store.rows import encode_calls, encode_error, sql, strings_to_json

_MOST_RANKED_AT_ONCE: Final = 256

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
