"""Virtual keys in PostgreSQL: looked up by the digest of their secret, which is all that is kept of it."""

from collections.abc import Sequence
from typing import Final, LiteralString, final

import asyncpg
import msgspec

from tidegate.domain.access import KeyId, VirtualKey
from tidegate.domain.errors import Conflict, ErrorCode
from tidegate.domain.ids import epoch_ms
from tidegate.ports import WakeUps
from tidegate.store.postgres.database import Database
from tidegate.store.postgres.ending import DELETE_KEY, delete_key_and_jobs
from tidegate.store.rows import sql

_record: Final = msgspec.json.Decoder(VirtualKey)
_SELECT: Final = "SELECT record FROM virtual_keys"
_BY_DIGEST: Final = sql(_SELECT, "WHERE digest = $1")
_BY_ID: Final = sql(_SELECT, "WHERE id = $1")
_BY_NAME: Final = sql(_SELECT, "WHERE name = $1")
_MATCHING: Final = "WHERE starts_with(name, $1)"
_PAGE: Final = sql(_SELECT, _MATCHING, 'ORDER BY name COLLATE "C" LIMIT $2 OFFSET $3')
_COUNT: Final = sql("SELECT count(*) FROM virtual_keys", _MATCHING)
_CREATE: Final = "INSERT INTO virtual_keys (id, name, digest, created_at, record) VALUES ($1, $2, $3, $4, $5)"
_UPDATE: Final = """
    UPDATE virtual_keys SET name = $2, digest = coalesce($3, digest), record = $4 WHERE id = $1 RETURNING id
"""


@final
class PostgresKeys:
    """Implements ``KeyStore``."""

    def __init__(self, database: Database, wake_ups: WakeUps) -> None:
        self._database = database
        self._wake_ups = wake_ups

    async def find(self, digest: bytes) -> VirtualKey | None:
        return await self._one(_BY_DIGEST, digest)

    async def get(self, key_id: KeyId) -> VirtualKey | None:
        return await self._one(_BY_ID, key_id)

    async def get_by_name(self, name: str) -> VirtualKey | None:
        return await self._one(_BY_NAME, name)

    async def list(self, *, limit: int, offset: int, name_prefix: str) -> tuple[Sequence[VirtualKey], int]:
        rows = await self._database.fetch(_PAGE, name_prefix, limit, offset)
        count = await self._database.fetch(_COUNT, name_prefix)
        return [_record.decode(row[0]) for row in rows], count[0][0]

    async def create(self, key: VirtualKey, digest: bytes) -> None:
        try:
            await self._database.fetch(
                _CREATE, key.id, key.name, digest, epoch_ms(key.created_at), _encode(key)
            )
        except asyncpg.UniqueViolationError as exc:
            raise _taken(key, exc) from exc

    async def update(self, key: VirtualKey, digest: bytes | None = None) -> bool:
        try:
            return bool(await self._database.fetch(_UPDATE, key.id, key.name, digest, _encode(key)))
        except asyncpg.UniqueViolationError as exc:
            raise _taken(key, exc) from exc

    async def delete(self, key_id: KeyId, *, cancels_jobs: bool) -> bool:
        if not cancels_jobs:
            return bool(await self._database.fetch(DELETE_KEY, key_id))
        if await self.get(key_id) is None:
            return False
        for job_id in await delete_key_and_jobs(self._database, key_id):
            self._wake_ups.ended(job_id)
        return True

    async def _one(self, sql: LiteralString, value: str | bytes) -> VirtualKey | None:
        rows = await self._database.fetch(sql, value)
        return _record.decode(rows[0][0]) if rows else None


def _taken(key: VirtualKey, exc: asyncpg.UniqueViolationError) -> Conflict:
    if "digest" in (exc.constraint_name or ""):
        return Conflict(ErrorCode.ALREADY_EXISTS, "another virtual key has this value", param="value")
    return Conflict(ErrorCode.ALREADY_EXISTS, f'a virtual key named "{key.name}" exists', param="name")


def _encode(key: VirtualKey) -> str:
    return msgspec.json.encode(key).decode()
