"""Connecting to PostgreSQL, and what a server has to promise before a 202 may rest on it."""

import asyncio
import socket
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, cast
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import asyncpg
from msgspec import Struct

from tidegate.domain.secret import Secret
from tidegate.store.postgres.database import GONE
from tidegate.store.refusal import StoreRefused

_OLDEST: Final = 140_000
_CONNECT_WITHIN: Final = 5.0
_STATEMENT_WITHIN: Final = 5.0
_RAISE_COMMITS: Final = """
    SELECT set_config('synchronous_commit', 'on', false)
    WHERE current_setting('synchronous_commit') IN ('off', 'local', 'remote_write')
"""
_SETTINGS: Final = {
    "application_name": "tidegate",
    "lock_timeout": "2s",
    "idle_in_transaction_session_timeout": "10s",
    "jit": "off",
    # Every statement has an index to go by; a plan made while a table was empty must not outlive that.
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}


class PostgresOptions(Struct, frozen=True):
    url: Secret
    """``postgresql://user:password@host:5432/name``; several hosts may be given."""
    place: str = "the database"
    """As it may be shown."""
    listen_url: Secret | None = None
    """A direct connection for LISTEN; empty: only look. ``None``: as ``url``."""
    allow_unsafe: bool = False
    loss_budget: int = 3
    commit_wait: float = 0.0
    pool_size: int = 10
    providers: tuple[str, ...] = ()
    """Those whose jobs this process runs; empty: all."""
    settings: Mapping[str, object] = MappingProxyType({})
    """By name, JSON values: what all workers on the database have to agree on."""


async def connect(url: Secret, *, timeout_ms: int = round(_STATEMENT_WITHIN * 1000)) -> Any:
    """A connection of our kind. Raises what asyncpg raises."""
    connection = await _first_writable(
        _writable(url.reveal()),
        timeout=_CONNECT_WITHIN,
        server_settings=_SETTINGS | {"statement_timeout": str(timeout_ms)},
    )
    try:
        async with asyncio.timeout(_CONNECT_WITHIN):
            await prepare(connection)
    except BaseException:
        connection.terminate()
        raise
    return connection


async def create_pool(options: PostgresOptions) -> "asyncpg.Pool[Any]":
    return await asyncpg.create_pool(
        _writable(options.url.reveal()),
        min_size=0,  # asyncpg would keep up a floor, and report in its own way whenever it cannot
        max_size=options.pool_size,
        timeout=_CONNECT_WITHIN,
        connect=cast("Any", _first_writable),
        init=prepare,
        reset=_keep,
        server_settings=_SETTINGS | {"statement_timeout": str(round(_STATEMENT_WITHIN * 1000))},
    )


async def _first_writable(url: str, **arguments: Any) -> Any:
    """Of several hosts the one that takes writes.

    All are asked at once: a machine that is down does not even refuse, and the others must not wait for it.
    """
    waiting = {asyncio.ensure_future(asyncpg.connect(host, **arguments)) for host in _each_host(url)}
    refusals: list[Exception] = []
    try:
        while waiting:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            answer = done.pop()
            waiting.remove(answer)
            try:
                return answer.result()
            except (*GONE, asyncpg.PostgresError) as exc:
                refusals.append(exc)
        # A wrong password says more than a host that is down.
        raise next((found for found in refusals if not isinstance(found, GONE)), refusals[-1])
    finally:
        for late in waiting:
            late.cancel()
            late.add_done_callback(_hang_up)


def _each_host(url: str) -> list[str]:
    parts = urlsplit(url)
    user, at, hosts = parts.netloc.rpartition("@")
    return [urlunsplit(parts._replace(netloc=f"{user}{at}{host}")) for host in hosts.split(",")]


def _hang_up(late: "asyncio.Future[Any]") -> None:
    if not late.cancelled() and late.exception() is None:
        late.result().terminate()


async def prepare(connection: Any) -> None:
    """A commit that is acknowledged is on disk, whatever the role's default says; a broken line is noticed."""
    try:
        _watch_line(connection)
    except ValueError as exc:  # uvloop's word for a socket that was closed meanwhile
        raise ConnectionResetError from exc
    await connection.execute(_RAISE_COMMITS)


async def _keep(_connection: object) -> None:
    """Nobody changes the state of a session, so none is put back: that would cost a round trip each time."""


def _watch_line(connection: Any) -> None:
    line = connection._transport.get_extra_info("socket")  # noqa: SLF001 – asyncpg has no parameter for these
    if line is None or line.family == socket.AF_UNIX:
        return
    line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 2), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 10_000),
    ):  # fmt: skip
        if hasattr(socket, name):
            line.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _writable(url: str) -> str:
    """Of several hosts the one that takes writes."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    query.setdefault("target_session_attrs", "read-write")
    return urlunsplit((parts.scheme, parts.netloc, parts.path, urlencode(query, quote_via=quote), ""))


async def check_server(connection: Any, *, allow_unsafe: bool) -> tuple[str, ...]:
    """Warnings. Raises ``StoreRefused`` for a server that could lose what it has acknowledged."""
    version = int(await connection.fetchval("SELECT current_setting('server_version_num')"))
    if version < _OLDEST:
        raise StoreRefused(
            f"PostgreSQL {version // 10_000} is too old: version {_OLDEST // 10_000} or newer is needed"
        )
    encoding = await connection.fetchval("SELECT current_setting('server_encoding')")
    if encoding != "UTF8":
        raise StoreRefused(
            f"the database's encoding is {encoding}: create one with ENCODING 'UTF8' TEMPLATE template0"
        )
    wanted = {"fsync": "on", "full_page_writes": "on", "data_sync_retry": "off"}
    unsafe = [
        f"{name} = {found}"
        for name, value in wanted.items()
        if (found := await connection.fetchval("SELECT current_setting($1)", name)) != value
    ]
    if not unsafe:
        return ()
    problem = f"the server may lose what it has committed ({', '.join(unsafe)})"
    if not allow_unsafe:
        raise StoreRefused(
            f"{problem}: change its configuration, or set store.allow_unsafe_settings: true and live with it"
        )
    return (problem,)
