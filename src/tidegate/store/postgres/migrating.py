"""Bringing a PostgreSQL database up to date: one process at a time, one transaction per file."""

from typing import Any, Final

import asyncpg

from tidegate import fault_points
from tidegate.store.migrate import Migration, migrations, not_ours, pending
from tidegate.store.postgres.session import SETTINGS

_LOCK: Final = 7_225_963_240_132_018_531
"""Advisory lock of whoever migrates; any number that nobody else uses."""
_TABLE: Final = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    number integer PRIMARY KEY, name text NOT NULL, checksum text NOT NULL, applied_at timestamptz DEFAULT now()
)
"""
_TABLES: Final = "SELECT tablename::text FROM pg_tables WHERE schemaname = current_schema()"


async def missing(connection: Any) -> list[Migration]:
    """What the schema lacks; changes nothing. Raises ``SchemaMismatch`` for one that is not ours to bring up to date."""
    tables = {row[0] for row in await connection.fetch(_TABLES)}
    applied = await _applied(connection) if "schema_migrations" in tables else {}
    return pending(applied, migrations("postgres"), tables)


async def _applied(connection: Any) -> dict[int, str]:
    try:
        rows = await connection.fetch("SELECT number, checksum FROM schema_migrations")
    except asyncpg.UndefinedColumnError as exc:
        raise not_ours() from exc
    return {row[0]: row[1] for row in rows}


async def apply_migrations(connection: Any) -> list[Migration]:
    """Those that were missing. Raises ``SchemaMismatch``."""
    applied: list[Migration] = []
    while (migration := await _apply_next(connection)) is not None:
        applied.append(migration)
    return applied


async def _apply_next(connection: Any) -> Migration | None:
    """In one transaction, with the lock, which a pooler may part from a session; ``None`` if nothing was missing."""
    async with connection.transaction(isolation="read_committed"):
        # Whoever migrates may take long, and all others have to wait for that; but nobody waits long for a table.
        await connection.execute("SET LOCAL lock_timeout = 0")
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        await connection.execute(f"SET LOCAL lock_timeout = '{SETTINGS['lock_timeout']}'")
        lacking = await missing(connection)
        if not lacking:
            return None
        migration = lacking[0]
        await connection.execute(_TABLE)
        await connection.execute(migration.sql)
        fault_points.reached("in_migration")
        await connection.execute(
            "INSERT INTO schema_migrations (number, name, checksum) VALUES ($1, $2, $3)",
            migration.number,
            migration.name,
            migration.checksum,
        )
    return migration
