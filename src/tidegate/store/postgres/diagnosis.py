"""What an operator wants to know of a database before he trusts it."""

import asyncio
from typing import Any, Final

from msgspec import Struct

from tidegate.domain.secret import Secret
from tidegate.store.postgres.connection import connect
from tidegate.store.postgres.migrating import missing
from tidegate.store.postgres.refusing import FAILURES
from tidegate.store.postgres.server import check_server

_CHANNEL: Final = "tidegate_doctor"
_ECHO_WITHIN: Final = 2.0


class Diagnosis(Struct, frozen=True):
    version: str
    warnings: tuple[str, ...]
    missing: tuple[str, ...]
    """Names of migrations."""
    now_ms: int
    """The database's time."""
    connections: tuple[int, int]
    """In use, and how many there may be."""
    echo: float | None = None
    """Seconds a notification took to come back; ``None``: it never did, or nobody listens."""


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
        connections=(used, await connection.fetchval("SELECT current_setting('max_connections')::int")),
    )


async def echo(listener: Secret) -> float | None:
    """Seconds a notification takes to come back, if it does within two."""
    try:
        connection = await connect(listener)
    except FAILURES:
        return None
    loop = asyncio.get_running_loop()
    heard: asyncio.Queue[float] = asyncio.Queue()
    try:
        async with asyncio.timeout(_ECHO_WITHIN):
            await connection.add_listener(_CHANNEL, lambda *_: heard.put_nowait(loop.time()))
            asked = loop.time()
            await connection.execute("SELECT pg_notify($1, '')", _CHANNEL)
            return await heard.get() - asked
    except FAILURES:
        return None
    finally:
        connection.terminate()
