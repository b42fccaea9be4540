"""What a disk got wrong and SQLite did not notice: wrong bytes are reported as damage, never served."""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Final, ParamSpec, TypeVar
from zlib import crc32

import apsw

P = ParamSpec("P")
T = TypeVar("T")

_NOT_OURS: Final = (ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError)
"""What reading a row raises that we cannot have written."""


class DamageFound(apsw.CorruptError):
    """The database is damaged, as SQLite itself would say; it is treated alike."""


def digest_of(job_id: bytes, payload: bytes) -> int:
    """Of a body or result: CRC-32, since it guards against disks and not against people.

    It takes a third of a microsecond per kilobyte. The job's id is part of it, so that the payload of another
    job, intact in itself, is found out as well.
    """
    return crc32(payload, crc32(job_id))


def intact(job_id: bytes, payload: bytes, digest: int) -> bytes:
    """``payload`` as it was written. Raises ``DamageFound``."""
    if type(payload) is not bytes or digest_of(job_id, payload) != digest:
        raise DamageFound(f"what is stored for job {job_id.hex()} is not what was written")
    return payload


def understood(read: Callable[P, T]) -> Callable[P, T]:
    """Make ``read``, which turns rows into values, raise ``DamageFound`` where a row makes no sense."""

    @wraps(read)
    def read_or_report(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return read(*args, **kwargs)
        except _NOT_OURS as exc:
            raise DamageFound("a row makes no sense") from exc

    return read_or_report


def fetch(connection: apsw.Connection, sql: str, bindings: Sequence[Any]) -> list[Any]:
    """All rows. Raises ``DamageFound`` for text that is none."""
    try:
        return connection.execute(sql, bindings).fetchall()
    except UnicodeDecodeError as exc:
        raise DamageFound("a text is not UTF-8") from exc
