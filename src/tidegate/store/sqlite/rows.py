"""Between rows and values in SQLite: ids are 16 bytes, and whatever makes no sense is damage."""

from datetime import datetime
from typing import Any, Final

from tidegate.domain.ids import epoch_ms
from tidegate.domain.jobs import Attempt, Claimed, JobDetails, JobId, JobState, Lease, Status
from tidegate.store import rows
from tidegate.store.rows import sql
from tidegate.store.sqlite.damage import intact, understood

STATE_COLUMNS: Final = sql("j.id,", rows.STATE_COLUMNS)
STATE_WIDTH: Final = 1 + rows.STATE_WIDTH
RESULT_COLUMNS: Final = ", j.result_digest, (SELECT body FROM job_result WHERE job = j.seq)"
DETAIL_COLUMNS: Final = sql(
    rows.DETAIL_COLUMNS, ", j.seq, j.attempt_started_at, (SELECT json FROM job_metadata WHERE job = j.seq)"
)
CLAIMED_COLUMNS: Final = sql(
    "id, lease,",
    rows.CLAIMED_COLUMNS,
    ", rank, request_digest, (SELECT body FROM job_request WHERE job = seq)",
)


def id_to_bytes(job_id: JobId) -> bytes:
    return bytes.fromhex(job_id.replace("-", ""))


def id_from_bytes(value: bytes) -> JobId:
    digits = value.hex()
    return JobId(f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}")


def ms(moment: datetime) -> int:
    return epoch_ms(moment)


def result_from_row(row: Any) -> bytes | None:
    """``row`` begins with ``STATE_COLUMNS`` and ends with ``RESULT_COLUMNS``."""
    return intact(row[0], row[-1], row[-2]) if row[4] == Status.COMPLETED else None


@understood
def state_from_row(row: Any, result: bytes | None = None) -> JobState:
    """``row`` begins with ``STATE_COLUMNS``."""
    return rows.state_of(id_from_bytes(row[0]), row[1:STATE_WIDTH], result)


@understood
def details_from_row(row: Any, state: JobState, attempts: tuple[Attempt, ...]) -> JobDetails:
    """``row`` is ``DETAIL_COLUMNS``."""
    return rows.details_of(row[: rows.DETAIL_WIDTH], state, attempts, row[-1])


@understood
def attempt_from_row(row: Any) -> Attempt:
    return rows.attempt_of(row)


@understood
def claimed_from_row(row: Any) -> Claimed:
    """``row`` is ``CLAIMED_COLUMNS``."""
    lease = Lease(job_id=id_from_bytes(row[0]), token=row[1])
    *columns, _, digest, body = row[2:]
    return rows.claimed_of(lease, columns, intact(row[0], body, digest))
