"""Bringing a PostgreSQL database up to date: one process at a time, one transaction per file."""

from typing import Any, Final

from tidegate import fault_points
from tidegate.store.migrate import Migration, migrations, pending

_LOCK: Final = 7_225_963_240_132_018_531
"""Advisory lock of whoever migrates; any number that nobody else uses."""
_TABLE: Final = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    number integer PRIMARY KEY, name text NOT NULL, checksum text NOT NULL, applied_at timestamptz DEFAULT now()
)
"""


async def missing(connection: Any) -> list[Migration]:
    """What the schema lacks. Raises ``SchemaMismatch`` for one of another history, or newer than this version."""
    applied: dict[int, str] = {}
    if await connection.fetchval("SELECT to_regclass('schema_migrations')") is not None:
        rows = await connection.fetch("SELECT number, checksum FROM schema_migrations")
        applied = {row[0]: row[1] for row in rows}
    return pending(applied, migrations("postgres"))


async def apply_migrations(connection: Any) -> list[Migration]:
    """Those that were missing. Raises ``SchemaMismatch``."""
    return [migration for migration in await missing(connection) if await _apply(connection, migration)]


async def _apply(connection: Any, migration: Migration) -> bool:
    """In one transaction, with the lock, which a pooler may part from a session; ``False`` if another was faster."""
    async with connection.transaction(isolation="read_committed"):
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        await connection.execute(_TABLE)
        if migration not in await missing(connection):
            return False
        await connection.execute(migration.sql)
        fault_points.reached("in_migration")
        await connection.execute(
            "INSERT INTO schema_migrations (number, name, checksum) VALUES ($1, $2, $3)",
            migration.number,
            migration.name,
            migration.checksum,
        )
    return True
