"""What an operator wants to know of a database before he trusts it."""

import asyncio
from typing import Any, Final

from msgspec import Struct

from tidegate.store.postgres.connection import check_server
from tidegate.store.postgres.migrating import missing

_CHANNEL: Final = "tidegate_doctor"
_ECHO_WITHIN: Final = 2.0


class Diagnosis(Struct, frozen=True):
    version: str
    warnings: tuple[str, ...]
    missing: tuple[str, ...]
    """Names of migrations."""
    now_ms: int
    """The database's time."""
    echo: float | None
    """Seconds a notification took to come back; ``None``: it never did, as behind a transaction pooler."""
    connections: tuple[int, int]
    """In use, and how many there may be."""


async def inspect(connection: Any, *, allow_unsafe: bool) -> Diagnosis:
    """Changes nothing. Raises ``StoreRefused`` or ``SchemaMismatch``."""
    warnings = await check_server(connection, allow_unsafe=allow_unsafe)
    lacking = await missing(connection)
    used = await connection.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
    )
    return Diagnosis(
        version=await connection.fetchval("SHOW server_version"),
        warnings=warnings,
        missing=tuple(migration.name for migration in lacking),
        now_ms=await connection.fetchval("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint"),
        echo=await _echo(connection),
        connections=(used, await connection.fetchval("SELECT current_setting('max_connections')::int")),
    )


async def _echo(connection: Any) -> float | None:
    loop = asyncio.get_running_loop()
    heard: asyncio.Queue[float] = asyncio.Queue()
    await connection.add_listener(_CHANNEL, lambda *_: heard.put_nowait(loop.time()))
    asked = loop.time()
    await connection.execute("SELECT pg_notify($1, '')", _CHANNEL)
    try:
        return await asyncio.wait_for(heard.get(), _ECHO_WITHIN) - asked
    except TimeoutError:
        return None
