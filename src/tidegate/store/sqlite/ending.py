"""Ends that no worker brings about: cancel, deadline, and erasing what has expired."""

from typing import Any, Final

from tidegate import fault_points
from tidegate.domain.access import KeyId, Reader, owner_of_key
from tidegate.domain.errors import Conflict, ErrorCode
from tidegate.domain.jobs import (
    CANCELLED,
    AttemptEnd,
    Cancellation,
    JobError,
    JobId,
    JobRef,
    Outcome,
    deadline_error,
)
from tidegate.store.rows import sql
from tidegate.store.sqlite.leasing import fail_unheld, record_attempt
from tidegate.store.sqlite.reading import Query, details
from tidegate.store.sqlite.rows import id_from_bytes, id_to_bytes
from tidegate.store.sqlite.writer import Transaction

_TO_END: Final = "SELECT seq, id, status, attempt, attempt_started_at, lease, started_at FROM jobs"
_BY_ID: Final = sql(_TO_END, "WHERE id = ?")
_UNFINISHED_OF: Final = sql(_TO_END, "WHERE owner = ? AND status IN ('pending', 'processing')")
_OVERDUE: Final = sql(
    _TO_END,
    "WHERE deadline_at <= ? AND status IN ('pending', 'processing') ORDER BY deadline_at LIMIT ?",
)
_RECORDS_DUE: Final = """
SELECT scope_digest, (
    SELECT max(coalesce(expires_at, deadline_at), ?1 + 1000) FROM jobs
    WHERE id = i.job_id AND (expires_at IS NULL OR expires_at > ?1)
)
FROM idempotency i WHERE keep_until <= ?1 ORDER BY keep_until LIMIT ?2
"""


def cancel(tx: Transaction, reader: Reader, ref: JobRef) -> Cancellation | None:
    """``None`` where the reader sees no such job. Raises ``Conflict`` if it had ended otherwise."""
    found = details(tx.rows, reader, ref, tx.now)
    if found is None:
        return None
    if found.state.status.is_terminal:
        if found.outcome is Outcome.CANCELLED:
            return Cancellation(found, ended_now=False)
        raise Conflict(ErrorCode.JOB_NOT_CANCELLABLE, "job has already ended")
    _end(tx, tx.row(_BY_ID, (id_to_bytes(ref.id),)), CANCELLED, "cancelled")
    ended = details(tx.rows, reader, ref, tx.now)
    return Cancellation(ended or found, ended_now=True)


def cancel_all(tx: Transaction, key_id: KeyId) -> list[JobId]:
    """Every unfinished job of a virtual key is cancelled."""
    rows = tx.rows(_UNFINISHED_OF, (owner_of_key(key_id),))
    return [_end(tx, row, CANCELLED, "cancelled") for row in rows]


def expire(tx: Transaction, limit: int) -> list[JobId]:
    """Unfinished jobs past their deadline are failed."""
    return [
        _end(tx, row, deadline_error(was_started=row[-1] is not None), "failed")
        for row in tx.rows(_OVERDUE, (tx.now, limit))
    ]


def _end(tx: Transaction, row: Any, error: JobError, end: AttemptEnd) -> JobId:
    """Fail one unfinished job and void the lease it may be under."""
    seq, job_id, status, number, started_at, lease, _ = row
    if status == "processing":
        record_attempt(tx, seq=seq, number=number, started_at=started_at, end=end, lease=lease)
    fail_unheld(tx, seq, error)
    return id_from_bytes(job_id)


def probe(tx: Transaction) -> None:
    """A real, small write: shows whether one is possible."""
    tx.execute("UPDATE boots SET probed_at = ? WHERE id = ?", (tx.now, tx.boot_id))


def is_anything_overdue(query: Query, now: int) -> bool:
    return bool(
        query(
            "SELECT 1 FROM jobs WHERE deadline_at <= ? AND status IN ('pending', 'processing') LIMIT 1",
            (now,),
        )
    )


def is_anything_expired(query: Query, now: int) -> bool:
    return bool(
        query("SELECT 1 FROM jobs WHERE expires_at <= ?1 LIMIT 1", (now,))
        or query("SELECT 1 FROM idempotency WHERE keep_until <= ? LIMIT 1", (now,))
    )


def prune(tx: Transaction, limit: int) -> int:
    """Erase jobs past their expiry, and idempotency records that nobody can need any more."""
    expired = [
        row[0]
        for row in tx.rows(
            "SELECT seq FROM jobs WHERE expires_at <= ? ORDER BY expires_at LIMIT ?", (tx.now, limit)
        )
    ]
    for seq in expired:
        tx.execute("DELETE FROM attempts WHERE job = ?", (seq,))
        tx.execute("DELETE FROM job_request WHERE job = ?", (seq,))
        tx.execute("DELETE FROM job_result WHERE job = ?", (seq,))
        tx.execute("DELETE FROM job_metadata WHERE job = ?", (seq,))
        tx.execute("DELETE FROM jobs WHERE seq = ?", (seq,))
    fault_points.reached("in_prune")
    return len(expired) + _prune_records(tx, limit)


def _prune_records(tx: Transaction, limit: int) -> int:
    """A record outlives its day while its job is there: a replay must find the job.

    It is then looked at again when the job is over. Looking at all of them each time would hold up the writer.
    """
    due = tx.rows(_RECORDS_DUE, (tx.now, limit))
    for scope, until in due:
        if until is None:
            tx.execute("DELETE FROM idempotency WHERE scope_digest = ?", (scope,))
        else:
            tx.execute("UPDATE idempotency SET keep_until = ? WHERE scope_digest = ?", (until, scope))
    return len(due)
