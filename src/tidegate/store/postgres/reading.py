"""Reading jobs: by id for polls, in pages for lists. The reader is part of every query."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final, LiteralString
from uuid import UUID

from tidegate.domain.access import AllOwners, OwnedBy, Reader
from tidegate.domain.jobs import (
    Attempt,
    JobDetails,
    JobFilter,
    JobId,
    JobPage,
    JobRef,
    JobState,
    Lane,
    QueueCounts,
    Status,
)
from tidegate.store import rows
from tidegate.store.postgres.database import Database
from tidegate.store.postgres.rows import (
    DETAIL_COLUMNS,
    RESULT_COLUMN,
    STATE_COLUMNS,
    STATE_WIDTH,
    id_to_uuid,
    state_from_row,
    state_with_result,
)
from tidegate.store.rows import Row, sql

VISIBLE: Final = """
    j.id = $1 AND ($2 OR j.owner IN ($3, 'anonymous')) AND ($4::text IS NULL OR j.request_type = $4)
"""
_UNEXPIRED: Final = "(j.expires_at IS NULL OR j.expires_at > now_ms())"
_GET: Final = sql("SELECT", STATE_COLUMNS, RESULT_COLUMN, "FROM jobs j WHERE", VISIBLE, "AND", _UNEXPIRED)
# The attempts that are over come with the row: one moment of the database.
_INSPECT_COLUMNS: Final = sql(
    STATE_COLUMNS,
    ",",
    DETAIL_COLUMNS,
    ", (SELECT array_agg(a ORDER BY a.number) FROM (SELECT",
    rows.ATTEMPT_COLUMNS,
    "FROM attempts WHERE job = j.id) a)",
)
_INSPECT: Final = sql(
    "SELECT", _INSPECT_COLUMNS, RESULT_COLUMN, "FROM jobs j WHERE", VISIBLE, "AND", _UNEXPIRED
)
# Status by status, each from its place in an index: however few there are among however many others. The order is that
# of the ids, in words that no other index knows: with a limit, the planner would go through the primary key instead.
_EACH_STATUS: Final = """
    WITH page AS MATERIALIZED (
        SELECT found.id FROM unnest($1::text[]) AS s CROSS JOIN LATERAL (SELECT j.id FROM jobs j WHERE
"""
_LISTED: Final = sql(
    ") SELECT", _INSPECT_COLUMNS, "FROM page JOIN jobs j ON j.id = page.id AND", _UNEXPIRED, "ORDER BY j.id"
)
_NEXT_DUE: Final = "SELECT min(run_at) FROM jobs WHERE status = 'pending' AND rank IS NULL"
# Jumps from lane to lane in the index of ready jobs, however many jobs each holds.
_PENDING_LANES: Final = """
WITH RECURSIVE found (lane) AS (
    (SELECT lane FROM jobs WHERE status = 'pending' AND rank IS NOT NULL AND NOT is_suspect ORDER BY lane LIMIT 1)
    UNION ALL
    SELECT (
        SELECT lane FROM jobs
        WHERE status = 'pending' AND rank IS NOT NULL AND NOT is_suspect AND lane > found.lane
        ORDER BY lane LIMIT 1
    )
    FROM found WHERE found.lane IS NOT NULL
)
SELECT lane FROM found WHERE lane IS NOT NULL
UNION SELECT lane FROM jobs WHERE status = 'pending' AND rank IS NULL
UNION SELECT lane FROM jobs WHERE status = 'pending' AND rank IS NOT NULL AND is_suspect
"""
DEADLINE: Final = "(CASE WHEN status IN ('pending', 'processing') THEN deadline_at END)"
"""Of an unfinished job, and as it is indexed."""
_COUNTS: Final = sql(
    "SELECT status, priority, count(*), min(created_at) FROM jobs WHERE",
    DEADLINE,
    "IS NOT NULL GROUP BY status, priority",
)
_ENDED: Final = "SELECT id FROM jobs WHERE id = ANY($1::uuid[]) AND status IN ('completed', 'failed')"

_PLACES: Final[tuple[LiteralString, ...]] = ("", "$1", "$2", "$3", "$4", "$5")


def bindings(reader: Reader, ref: JobRef) -> tuple[UUID, bool, str, str | None]:
    """Values of ``VISIBLE``."""
    sees_all = isinstance(reader, AllOwners)
    owner = reader.owner if isinstance(reader, OwnedBy) else ""
    return (id_to_uuid(ref.id), sees_all, owner, ref.request_type)


async def state(database: Database, reader: Reader, ref: JobRef) -> JobState | None:
    found = await database.fetch(_GET, *bindings(reader, ref))
    return state_with_result(found[0]) if found else None


async def details(database: Database, reader: Reader, ref: JobRef) -> JobDetails | None:
    found = await database.fetch(_INSPECT, *bindings(reader, ref))
    return _details(found[0], found[0][-1]) if found else None


def _details(row: Row, result: bytes | None = None) -> JobDetails:
    """``row`` begins with ``_INSPECT_COLUMNS``."""
    found = state_from_row(row, result)
    end = STATE_WIDTH + rows.DETAIL_WIDTH
    started, metadata, over = row[end : end + 3]
    attempts = [rows.attempt_of(tuple(attempt)) for attempt in over or ()]
    details_row = row[STATE_WIDTH:end]
    if found.status == "processing":
        attempts.append(Attempt(number=details_row[rows.ATTEMPT], started_at=rows.moment(started)))
    return rows.details_of(details_row, found, tuple(attempts), metadata)


async def page(
    database: Database,
    reader: Reader,
    wanted: JobFilter,
    *,
    limit: int,
    newest_first: bool,
    after: JobId | None,
) -> JobPage:
    """One page in the order of ids, which is the order of submission.

    A key sees its own jobs only: a list would hand out the ids that guard anonymous ones.
    """
    values: list[Any] = [list(wanted.statuses or Status)]
    # Of all owners, by an index that no other statement is tempted by (see the schema).
    parts: list[LiteralString] = [
        _EACH_STATUS,
        "j.status = s" if isinstance(reader, OwnedBy) else 'j.status COLLATE "C" = s',
        "AND",
        _UNEXPIRED,
    ]

    def also(condition: LiteralString, value: Any) -> None:
        values.append(value)
        parts.extend(("AND", condition, _PLACES[len(values)]))

    if isinstance(reader, OwnedBy):
        also("j.owner =", reader.owner)
    if wanted.model is not None:
        also("j.model =", wanted.model)
    if after is not None:
        also("uuid_send(j.id) <" if newest_first else "uuid_send(j.id) >", id_to_uuid(after).bytes)
    values.append(limit + 1)
    order: LiteralString = "DESC" if newest_first else "ASC"
    most = ("LIMIT", _PLACES[len(values)])
    parts.extend(
        ("ORDER BY uuid_send(j.id)", order, *most, ") found ORDER BY found.id", order, *most, _LISTED, order)
    )
    found = await database.fetch(sql(*parts), *values)
    jobs = tuple(_details(row) for row in found[:limit])
    return JobPage(jobs, next_after=jobs[-1].state.id if len(found) > limit else None)


async def ended(database: Database, jobs: Iterable[JobId]) -> list[JobId]:
    """Those of ``jobs`` that are terminal."""
    return [JobId(str(row[0])) for row in await database.fetch(_ENDED, [id_to_uuid(job) for job in jobs])]


async def next_due(database: Database) -> datetime | None:
    return rows.optional_moment((await database.fetch(_NEXT_DUE))[0][0])


async def pending_lanes(database: Database) -> list[Lane]:
    return [Lane(row[0]) for row in await database.fetch(_PENDING_LANES)]


async def counts(database: Database) -> QueueCounts:
    found = await database.fetch(_COUNTS)
    pending = [row for row in found if row[0] == "pending"]
    return QueueCounts(
        pending={row[1]: row[2] for row in pending},
        processing={row[1]: row[2] for row in found if row[0] == "processing"},
        oldest_pending={row[1]: rows.moment(row[3]) for row in pending},
    )
