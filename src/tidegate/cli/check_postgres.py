"""What ``tidegate doctor`` looks at where the store is a PostgreSQL database."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from tidegate.cli.checks import Check
from tidegate.ports import Clock
from tidegate.settings import Settings
from tidegate.store.migrate import SchemaMismatch
from tidegate.store.refusal import StoreRefused
from tidegate.stores import driver, postgres_options

if TYPE_CHECKING:
    from tidegate.store.postgres import Diagnosis

_CONNECTIONS_OF_A_PROCESS: Final = 12
_RESERVED: Final = 10
_TOLERANCE: Final = timedelta(seconds=2)


def check_shared_store(settings: Settings, clock: Clock) -> Iterator[Check]:
    """Server, schema, clock, notifications, room for connections; changes nothing."""
    try:
        found: Diagnosis = asyncio.run(driver(settings).diagnose(postgres_options(settings)))
    except (StoreRefused, SchemaMismatch) as error:
        yield Check("store", "red", str(error))
        return
    yield Check("store", "green", f"PostgreSQL {found.version} at {settings.store.place}")
    for text in found.warnings:
        yield Check("store", "yellow", text)
    yield _check_schema(found)
    yield _check_clock(found, clock)
    yield _check_echo(found)
    if not settings.store.pooler:  # which has them to give, and more clients than connections
        yield _check_connections(found)


def _check_schema(found: "Diagnosis") -> Check:
    if found.missing:
        names = ", ".join(found.missing)
        return Check(
            "schema", "yellow", f"{names} will be applied at the next start, or by `tidegate migrate`"
        )
    return Check("schema", "green", "up to date")


def _check_clock(found: "Diagnosis", clock: Clock) -> Check:
    apart = datetime.fromtimestamp(found.now_ms / 1000, UTC) - clock.now()
    text = f"the database's is {apart / timedelta(seconds=1):+.1f} s from this machine's"
    if abs(apart) > _TOLERANCE:
        return Check(
            "clock", "yellow", f"{text}: jobs go by the database's; tokens go by this one, check NTP"
        )
    return Check("clock", "green", text)


def _check_echo(found: "Diagnosis") -> Check:
    if found.echo is None:
        return Check(
            "notify",
            "yellow",
            "no notification comes back: waits end up to 2 s late; set store.listen_url to a direct connection, "
            "past any transaction pooler",
        )
    return Check("notify", "green", f"a notification comes back after {found.echo * 1000:.1f} ms")


def _check_connections(found: "Diagnosis") -> Check:
    used, most = found.connections
    processes = max(0, (most - _RESERVED) // _CONNECTIONS_OF_A_PROCESS)
    text = f"{used} of {most} in use; enough for {processes} processes of {_CONNECTIONS_OF_A_PROCESS}"
    return Check("connections", "yellow" if most - used < _CONNECTIONS_OF_A_PROCESS else "green", text)
