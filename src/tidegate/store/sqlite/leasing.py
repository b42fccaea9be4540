"""Claim, renew, settle, rescue: a worker's right to a job, from its beginning to its end."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from operator import itemgetter
from typing import Any, Final

import apsw
from msgspec import Struct

from tidegate import fault_points
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
from tidegate.store.rows import encode_calls, encode_error, sql, strings_to_json
from tidegate.store.sqlite.damage import DamageFound, digest_of, understood
from tidegate.store.sqlite.reading import Query
from tidegate.store.sqlite.rows import CLAIMED_COLUMNS, claimed_from_row, id_from_bytes, id_to_bytes
from tidegate.store.sqlite.writer import Transaction

_MOST_RANKED_AT_ONCE: Final = 256

_TAKE: Final = """
UPDATE jobs SET
    status = 'processing', boot_id = ?1, lease = randomblob(16), attempt = attempt + 1,
    attempt_started_at = ?2, started_at = coalesce(started_at, ?2)
"""
_CLAIM: Final = sql(
    _TAKE,
    """
    WHERE seq IN (
        SELECT seq FROM jobs
        WHERE lane = ?3 AND status = 'pending' AND rank IS NOT NULL AND is_suspect = 0 AND deadline_at > ?2
        ORDER BY rank LIMIT ?4
    )
    RETURNING""",
    CLAIMED_COLUMNS,
)
_CLAIM_SUSPECT: Final = sql(
    _TAKE,
    """
    WHERE seq = (
        SELECT seq FROM jobs
        WHERE status = 'pending' AND rank IS NOT NULL AND is_suspect = 1 AND deadline_at > ?2
            AND lane IN (SELECT value FROM json_each(?3))
        ORDER BY rank LIMIT 1
    )
    RETURNING""",
    CLAIMED_COLUMNS,
)
_RANK: Final = 19
_LANE: Final = 6
_PRIORITY: Final = 10

_HELD: Final = "WHERE id = ? AND lease = ? AND status = 'processing'"
_HELD_BY_BOOT: Final = "SELECT lease FROM jobs WHERE boot_id = ? AND status = 'processing'"
_ENDED_ATTEMPT: Final = "RETURNING seq, attempt, attempt_started_at"
_COMPLETE: Final = sql(
    """
    UPDATE jobs SET
        status = 'completed', completed_at = ?, expires_at = ? + result_ttl * 1000, status_code = 200,
        outcome = 'succeeded', result_digest = ?, boot_id = NULL, lease = NULL""",
    _HELD,
    _ENDED_ATTEMPT,
)
_FAILED_COLUMNS: Final = """
    status = 'failed', completed_at = ?, expires_at = ? + result_ttl * 1000, status_code = ?, outcome = ?,
    error_code = ?, error = ?, boot_id = NULL, lease = NULL
"""
_FAIL: Final = sql(
    "UPDATE jobs SET failed_attempts = failed_attempts + 1,", _FAILED_COLUMNS, _HELD, _ENDED_ATTEMPT
)
_FAIL_UNHELD: Final = sql("UPDATE jobs SET", _FAILED_COLUMNS, "WHERE seq = ?")
# A released job keeps its place; one that has to wait gets a new one when it is due.
_POSTPONE: Final = sql(
    """
    UPDATE jobs SET
        status = 'pending', rank = NULL, run_at = ?, failed_attempts = failed_attempts + 1, dead_keys = ?,
        boot_id = NULL, lease = NULL""",
    _HELD,
    _ENDED_ATTEMPT,
)
_RELEASE: Final = sql(
    "UPDATE jobs SET status = 'pending', dead_keys = ?, boot_id = NULL, lease = NULL", _HELD, _ENDED_ATTEMPT
)


_RECORD: Final = """
    INSERT INTO attempts (job, number, started_at, ended_at, end, calls, lease) VALUES (?, ?, ?, ?, ?, ?, ?)
"""


class Claim(Struct, frozen=True):
    """What one claim brought."""

    jobs: tuple[Claimed, ...]
    took_suspect: bool


def claim(tx: Transaction, lanes: Mapping[Lane, int], *, with_suspect: bool) -> Claim:
    """Due jobs of each lane, fairest first; at most one that is suspected of killing its workers."""
    _rank_what_is_due(tx)
    rows: list[Any] = []
    if with_suspect:
        open_lanes = strings_to_json(tuple(lane for lane, room in lanes.items() if room > 0))
        rows += tx.rows(_CLAIM_SUSPECT, (tx.boot_id, tx.now, open_lanes))
    took_suspect = bool(rows)
    for lane, room in lanes.items():
        room_left = room - sum(row[_LANE] == lane for row in rows)
        if room_left > 0:
            rows += tx.rows(_CLAIM, (tx.boot_id, tx.now, lane, room_left))
    _note_turns(tx, rows)
    return Claim(tuple(claimed_from_row(row) for row in rows), took_suspect)


@understood
def _note_turns(tx: Transaction, rows: list[Any]) -> None:
    rows.sort(key=itemgetter(_RANK))
    for row in rows:
        tx.turns.claimed(lane=row[_LANE], rank=row[_RANK], priority=row[_PRIORITY])


def _rank_what_is_due(tx: Transaction) -> None:
    """A job that had to wait gets its place now, behind its owner's other jobs."""
    due = tx.rows(
        "SELECT seq, lane, owner, weight, priority FROM jobs"
        " WHERE status = 'pending' AND rank IS NULL AND run_at <= ? ORDER BY run_at LIMIT ?",
        (tx.now, _MOST_RANKED_AT_ONCE),
    )
    for seq, lane, owner, weight, priority in due:
        turn = tx.turns.give(lane=lane, owner=owner, weight=weight, priority=priority)
        tx.execute("UPDATE jobs SET rank = ?, run_at = NULL WHERE seq = ?", (turn.rank, seq))


def renew(query: Query, boot_id: str, leases: Sequence[Lease]) -> Sequence[Lease]:
    """A lease of this process has no expiry; what is asked is which were not taken away."""
    held = {row[0] for row in query(_HELD_BY_BOOT, (boot_id,))}
    return [lease for lease in leases if lease.token in held]


def settle(tx: Transaction, lease: Lease, ending: Ending, calls: Sequence[Call]) -> bool:
    """End, postpone or release the job; ``False`` when the lease was lost and only calls were booked."""
    match ending:
        case Completed(result=result):
            job_id, token = _hold(lease)
            held = tx.row(_COMPLETE, (tx.now, tx.now, digest_of(job_id, result), job_id, token))
            if held is not None:
                tx.execute("INSERT INTO job_result (job, body) VALUES (?, ?)", (held[0], result))
            end: AttemptEnd = "succeeded"
        case Failed(error=error):
            held = tx.row(_FAIL, (*_failed_values(tx.now, error), *_hold(lease)))
            end = "failed"
        case Postponed():
            held = _postpone(tx, lease, ending)
            end = "requeued" if ending.is_charged else "released"
    if held is None:
        _book_late(tx, lease, calls)
        return False
    seq, number, started_at = held
    fault_points.reached("in_release" if end == "released" else "in_settle")
    record_attempt(tx, seq=seq, number=number, started_at=started_at, end=end, calls=calls)
    return True


def _hold(lease: Lease) -> tuple[bytes, bytes]:
    return id_to_bytes(lease.job_id), lease.token


def _postpone(tx: Transaction, lease: Lease, ending: Postponed) -> Any:
    dead_keys = strings_to_json(ending.dead_keys) if ending.dead_keys else None
    if not ending.is_charged:
        return tx.row(_RELEASE, (dead_keys, *_hold(lease)))
    run_at = tx.now + ending.delay // timedelta(milliseconds=1)
    return tx.row(_POSTPONE, (run_at, dead_keys, *_hold(lease)))


def fail_unheld(tx: Transaction, seq: int, error: JobError) -> None:
    """Fail a job on the store's own account; a lease it was under is void."""
    tx.execute(_FAIL_UNHELD, (*_failed_values(tx.now, error), seq))


def _failed_values(now: int, error: JobError) -> tuple[Any, ...]:
    encoded = encode_error(error).decode()
    return (now, now, error.status_code, str(error.outcome), error.code, encoded)


def _book_late(tx: Transaction, lease: Lease, calls: Sequence[Call]) -> None:
    """The store ended the attempt; what its worker did until it heard of that is still on record."""
    tx.execute(
        "UPDATE attempts SET calls = ? WHERE lease = ? AND calls IS NULL"
        " AND job = (SELECT seq FROM jobs WHERE id = ?)",
        (encode_calls(calls).decode(), lease.token, id_to_bytes(lease.job_id)),
    )


def record_attempt(
    tx: Transaction,
    *,
    seq: int,
    number: int,
    started_at: int,
    end: AttemptEnd,
    calls: Sequence[Call] = (),
    lease: bytes | None = None,
) -> None:
    """Write an attempt that is over. ``lease`` is given where the store ended it, not its worker."""
    values = (seq, number, started_at, tx.now, end, encode_calls(calls).decode() if calls else None, lease)
    try:
        tx.execute(_RECORD, values)
    except apsw.ConstraintError as exc:
        raise DamageFound("the attempts of a job make no sense") from exc


def rescue(tx: Transaction) -> tuple[int, list[JobId]]:
    """Free the leases of processes that are gone: how many, and the jobs that this was one loss too many for."""
    orphans = tx.rows(
        "SELECT seq, id, attempt, attempt_started_at, losses + 1 FROM jobs"
        " WHERE status = 'processing' AND boot_id <> ?",
        (tx.boot_id,),
    )
    convicted: list[JobId] = []
    for seq, job_id, number, started_at, losses in orphans:
        record_attempt(tx, seq=seq, number=number, started_at=started_at, end="worker_lost")
        # It keeps its place: whoever waited longest before the crash is next after it.
        tx.execute(
            "UPDATE jobs SET status = 'pending', losses = ?, is_suspect = ?, boot_id = NULL, lease = NULL"
            " WHERE seq = ?",
            (losses, int(losses >= tx.loss_budget - 1), seq),
        )
        if losses >= tx.loss_budget:
            fail_unheld(tx, seq, WORKER_LOST)
            convicted.append(id_from_bytes(job_id))
    if orphans:
        fault_points.reached("in_rescue")
    return len(orphans), convicted
