"""Reading jobs: by id for polls, in pages for lists. The reader is part of every query."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final

from tidegate.domain.access import AllOwners, OwnedBy, Reader
from tidegate.domain.jobs import Attempt, JobDetails, JobFilter, JobId, JobPage, JobRef, JobState, QueueCounts
from tidegate.store.rows import (
    ATTEMPT,
    ATTEMPT_COLUMNS,
    DETAIL_WIDTH,
    moment,
    optional_moment,
    sql,
    strings_to_json,
)
from tidegate.store.sqlite.damage import understood
from tidegate.store.sqlite.rows import (
    DETAIL_COLUMNS,
    RESULT_COLUMNS,
    STATE_COLUMNS,
    STATE_WIDTH,
    attempt_from_row,
    details_from_row,
    id_to_bytes,
    result_from_row,
    state_from_row,
)

Query = Callable[[str, Sequence[Any]], list[Any]]

_VISIBLE: Final = """
    FROM jobs j
    WHERE j.id = ?1 AND (?2 OR j.owner IN (?3, 'anonymous')) AND (?4 IS NULL OR j.request_type = ?4)
        AND (j.expires_at IS NULL OR j.expires_at > ?5)
"""
# The result lies in a table of its own, read in the same query: a poll sees one moment of the database.
_GET: Final = sql("SELECT", STATE_COLUMNS, RESULT_COLUMNS, _VISIBLE)
_INSPECT: Final = sql("SELECT", STATE_COLUMNS, ",", DETAIL_COLUMNS, RESULT_COLUMNS, _VISIBLE)
_ATTEMPTS: Final = sql(
    "SELECT", ATTEMPT_COLUMNS, "FROM attempts WHERE job = ? AND number <= ? ORDER BY number"
)
_LIST: Final = sql(
    "SELECT",
    STATE_COLUMNS,
    ",",
    DETAIL_COLUMNS,
    "FROM jobs j WHERE (j.expires_at IS NULL OR j.expires_at > ?)",
)


def _bindings(reader: Reader, ref: JobRef, now: int) -> tuple[Any, ...]:
    sees_all = isinstance(reader, AllOwners)
    owner = reader.owner if isinstance(reader, OwnedBy) else ""
    return (id_to_bytes(ref.id), sees_all, owner, ref.request_type, now)


def state(query: Query, reader: Reader, ref: JobRef, now: int) -> JobState | None:
    rows = query(_GET, _bindings(reader, ref, now))
    return state_from_row(rows[0], result=result_from_row(rows[0])) if rows else None


def details(query: Query, reader: Reader, ref: JobRef, now: int) -> JobDetails | None:
    rows = query(_INSPECT, _bindings(reader, ref, now))
    if not rows:
        return None
    *columns, _, _ = rows[0]
    return _details(query, columns, result_from_row(rows[0]))


def _details(query: Query, row: Any, result: bytes | None = None) -> JobDetails:
    state = state_from_row(row, result=result)
    rest = row[STATE_WIDTH:]
    return details_from_row(rest, state, _attempts(query, rest, state))


@understood
def _attempts(query: Query, row: Any, found: JobState) -> tuple[Attempt, ...]:
    number, (seq, started, *_) = row[ATTEMPT], row[DETAIL_WIDTH:]
    is_running = found.status == "processing"
    # The row was read first: what has ended since is not over as far as this answer goes.
    over = query(_ATTEMPTS, (seq, number - is_running))
    attempts = [attempt_from_row(attempt) for attempt in over]
    if is_running:
        attempts.append(Attempt(number=number, started_at=moment(started)))
    return tuple(attempts)


def page(
    query: Query,
    reader: Reader,
    wanted: JobFilter,
    now: int,
    *,
    limit: int,
    newest_first: bool,
    after: JobId | None,
) -> JobPage:
    """One page in the order of ids, which is the order of submission.

    A key sees its own jobs only: a list would hand out the ids that guard anonymous ones.
    """
    parts = [_LIST]
    bindings: list[Any] = [now]
    if isinstance(reader, OwnedBy):
        parts.append("AND j.owner = ?")
        bindings.append(reader.owner)
    if wanted.statuses:
        parts.append("AND j.status IN (SELECT value FROM json_each(?))")
        bindings.append(strings_to_json(wanted.statuses))
    if wanted.model is not None:
        parts.append("AND j.model = ?")
        bindings.append(wanted.model)
    if after is not None:
        parts.append("AND j.id < ?" if newest_first else "AND j.id > ?")
        bindings.append(id_to_bytes(after))
    parts.append("ORDER BY j.id DESC LIMIT ?" if newest_first else "ORDER BY j.id LIMIT ?")
    rows = query(sql(*parts), (*bindings, limit + 1))
    jobs = tuple(_details(query, row) for row in rows[:limit])
    return JobPage(jobs, next_after=jobs[-1].state.id if len(rows) > limit else None)


_NEXT_DUE: Final = "SELECT min(run_at) FROM jobs WHERE status = 'pending' AND rank IS NULL"
# Jumps from lane to lane in the index of ready jobs, however many jobs each holds.
PENDING_LANES: Final = """
WITH RECURSIVE found (lane) AS (
    SELECT min(lane) FROM jobs WHERE status = 'pending' AND rank IS NOT NULL AND is_suspect = 0
    UNION ALL
    SELECT (
        SELECT min(lane) FROM jobs
        WHERE status = 'pending' AND rank IS NOT NULL AND is_suspect = 0 AND lane > found.lane
    )
    FROM found WHERE found.lane IS NOT NULL
)
SELECT lane FROM found WHERE lane IS NOT NULL
UNION SELECT lane FROM jobs WHERE status = 'pending' AND (rank IS NULL OR is_suspect = 1)
"""


@understood
def next_due(query: Query) -> datetime | None:
    return optional_moment(query(_NEXT_DUE, ())[0][0])


@understood
def counts(query: Query) -> QueueCounts:
    rows = query(
        "SELECT status, priority, count(*), min(created_at) FROM jobs"
        " WHERE status IN ('pending', 'processing') GROUP BY status, priority",
        (),
    )
    pending = [row for row in rows if row[0] == "pending"]
    return QueueCounts(
        pending={row[1]: row[2] for row in pending},
        processing={row[1]: row[2] for row in rows if row[0] == "processing"},
        oldest_pending={row[1]: moment(row[3]) for row in pending},
    )
