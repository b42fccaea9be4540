"""Many rows, made by the database itself: as they would stand there after days of work."""

from typing import Final

from benchmarks.children.jobs import LANE, OWNER
from tidegate.domain.inference import RequestType
from tidegate.domain.secret import Secret
from tidegate.store.postgres.connection import connect

_AT_ONCE: Final = 250_000
_LONGEST: Final = "10min"
"""A statement may take."""
_PENDING_OF: Final = 5
"""One row in so many waits; the others have ended."""
_FAILED_OF: Final = 1000
_OWNERS: Final = 1000
"""Of the rows that are not the benchmark's own, which has one in two."""

_ROWS: Final = """
    WITH made AS (
        SELECT n, n % $3 = 0 AS is_pending, lpad(to_hex(now_ms() - ($4 - n) * 20 - 60000), 12, '0') AS time,
            gen_random_uuid()::text AS random
        FROM generate_series($1::bigint, $2::bigint) n
    ),
    named AS (
        SELECT *, (substr(time, 1, 8) || '-' || substr(time, 9) || '-7' || substr(random, 16))::uuid AS id,
            now_ms() - ($4 - n) * 20 - 60000 AS ms
        FROM made
    ),
    requests AS (INSERT INTO job_request SELECT id, convert_to(repeat('high water ', 30), 'UTF8') FROM named),
    results AS (
        INSERT INTO job_result SELECT id, convert_to('{"choices":[]}', 'UTF8') FROM named WHERE NOT is_pending
    ),
    past AS (
        INSERT INTO attempts (job, number, started_at, ended_at, "end", lease, is_settled)
        SELECT id, 1, ms, ms + 200, 'succeeded', uuid_send(id), true FROM named WHERE NOT is_pending
    )
    INSERT INTO jobs (
        id, request_type, owner, model, candidates, lane, weight, result_ttl, timeout, max_attempts, priority,
        passes_extra, request_id, created_at, deadline_at, status, rank, attempt, started_at, attempt_started_at,
        completed_at, expires_at, status_code, outcome
    )
    SELECT
        id, $9, CASE WHEN n % 2 = 0 THEN $6 ELSE 'key:' || n % $7 END, 'openai/echo',
        '["openai/echo"]', $5, 1, 604800, 604800, 1, 3, false, 'request', ms, ms + 604800000,
        CASE WHEN is_pending THEN 'pending' WHEN n % $8 = 1 THEN 'failed' ELSE 'completed' END,
        CASE WHEN is_pending THEN n END, CASE WHEN is_pending THEN 0 ELSE 1 END,
        CASE WHEN NOT is_pending THEN ms END, CASE WHEN NOT is_pending THEN ms END,
        CASE WHEN NOT is_pending THEN ms + 200 END, CASE WHEN NOT is_pending THEN ms + 604800000 END,
        CASE WHEN NOT is_pending THEN 200 END, CASE WHEN NOT is_pending THEN 'succeeded' END
    FROM named
"""


async def fill(url: str, count: int) -> None:
    """``count`` rows of fifty a second, the latest a minute old; then the tables are in order."""
    connection = await connect(Secret(url), statement_timeout=_LONGEST)
    try:
        for start in range(1, count + 1, _AT_ONCE):
            end = min(start + _AT_ONCE - 1, count)
            facts = (_PENDING_OF, count, LANE, OWNER, _OWNERS, _FAILED_OF, RequestType.CHAT_COMPLETION)
            await connection.execute(_ROWS, start, end, *facts)
        await connection.execute("VACUUM (ANALYZE)")
    finally:
        await connection.close()
