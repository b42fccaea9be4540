"""Virtual keys in SQLite: looked up by the digest of their secret, which is all that is kept of it."""

from collections.abc import Sequence
from typing import Any, Final, final

import msgspec

from tidegate.domain.access import KeyId, VirtualKey
from tidegate.domain.errors import Conflict, ErrorCode
from tidegate.domain.jobs import JobId
from tidegate.ports import WakeUps
from tidegate.store.rows import sql
from tidegate.store.sqlite.damage import understood
from tidegate.store.sqlite.ending import cancel_all
from tidegate.store.sqlite.readers import Readers
from tidegate.store.sqlite.reading import Query
from tidegate.store.sqlite.rows import ms
from tidegate.store.sqlite.writer import Transaction, Writer

_record: Final = msgspec.json.Decoder(VirtualKey)
_SELECT: Final = "SELECT record FROM virtual_keys"
_BY_DIGEST: Final = sql(_SELECT, "WHERE digest = ?")
_BY_ID: Final = sql(_SELECT, "WHERE id = ?")
_BY_NAME: Final = sql(_SELECT, "WHERE name = ?")
_MATCHING: Final = "WHERE name >= ?1 AND substr(name, 1, length(?1)) = ?1"
_PAGE: Final = sql(_SELECT, _MATCHING, "ORDER BY name LIMIT ?2 OFFSET ?3")
_COUNT: Final = sql("SELECT count(*) FROM virtual_keys", _MATCHING)


@final
class SqliteKeys:
    """Implements ``KeyStore``."""

    def __init__(self, writer: Writer, readers: Readers, wake_ups: WakeUps) -> None:
        self._writer = writer
        self._readers = readers
        self._wake_ups = wake_ups

    async def find(self, digest: bytes) -> VirtualKey | None:
        return self._one(_BY_DIGEST, digest)

    async def get(self, key_id: KeyId) -> VirtualKey | None:
        return self._one(_BY_ID, key_id)

    async def get_by_name(self, name: str) -> VirtualKey | None:
        return self._one(_BY_NAME, name)

    async def list(self, *, limit: int, offset: int, name_prefix: str) -> tuple[Sequence[VirtualKey], int]:
        def read(query: Query) -> tuple[Sequence[VirtualKey], int]:
            rows = query(_PAGE, (name_prefix, limit, offset))
            return [_key(row) for row in rows], query(_COUNT, (name_prefix,))[0][0]

        return await self._readers.scan(read)

    async def create(self, key: VirtualKey, digest: bytes) -> None:
        await self._writer.run(lambda tx: _create(tx, key, digest))

    async def update(self, key: VirtualKey, digest: bytes | None = None) -> bool:
        return await self._writer.run(lambda tx: _update(tx, key, digest))

    async def delete(self, key_id: KeyId, *, cancels_jobs: bool) -> bool:
        was_there, cancelled = await self._writer.run(
            lambda tx: _delete(tx, key_id, cancels_jobs=cancels_jobs), is_heavy=True
        )
        for job_id in cancelled:
            self._wake_ups.ended(job_id)
        return was_there

    def _one(self, sql: str, value: str | bytes) -> VirtualKey | None:
        return self._readers.look(lambda query: next(map(_key, query(sql, (value,))), None))


@understood
def _key(row: Any) -> VirtualKey:
    return _record.decode(row[0])


def _create(tx: Transaction, key: VirtualKey, digest: bytes) -> None:
    _refuse_duplicates(tx, key, digest)
    tx.execute(
        "INSERT INTO virtual_keys (id, name, digest, created_at, record) VALUES (?, ?, ?, ?, ?)",
        (key.id, key.name, digest, ms(key.created_at), _encode(key)),
    )


def _update(tx: Transaction, key: VirtualKey, digest: bytes | None) -> bool:
    _refuse_duplicates(tx, key, digest)
    tx.execute(
        "UPDATE virtual_keys SET name = ?, digest = coalesce(?, digest), record = ? WHERE id = ?",
        (key.name, digest, _encode(key), key.id),
    )
    return tx.changes() > 0


def _delete(tx: Transaction, key_id: KeyId, *, cancels_jobs: bool) -> tuple[bool, list[JobId]]:
    """Whether there was such a key, and the jobs that were cancelled with it."""
    tx.execute("DELETE FROM virtual_keys WHERE id = ?", (key_id,))
    if not tx.changes():
        return False, []
    return True, cancel_all(tx, key_id) if cancels_jobs else []


def _refuse_duplicates(tx: Transaction, key: VirtualKey, digest: bytes | None) -> None:
    if tx.row("SELECT 1 FROM virtual_keys WHERE name = ? AND id <> ?", (key.name, key.id)):
        raise Conflict(ErrorCode.ALREADY_EXISTS, f'a virtual key named "{key.name}" exists', param="name")
    if digest and tx.row("SELECT 1 FROM virtual_keys WHERE digest = ? AND id <> ?", (digest, key.id)):
        raise Conflict(ErrorCode.ALREADY_EXISTS, "another virtual key has this value", param="value")


def _encode(key: VirtualKey) -> str:
    return msgspec.json.encode(key).decode()
