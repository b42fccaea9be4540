"""What ``tidegate doctor`` looks at: each check returns findings and changes nothing."""

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import Any, Final, Literal

import apsw
import msgspec
from msgspec import Struct

from tidegate.api import local_issuer
from tidegate.cli.client import GatewayClient, GatewayRefused, NoGateway
from tidegate.ports import Clock
from tidegate.settings import ProviderSettings, Settings
from tidegate.store.migrate import SchemaMismatch
from tidegate.store.refusal import StoreRefused
from tidegate.store.sqlite.connection import check_library, open_reader, prepare_directory
from tidegate.store.sqlite.store import missing_migrations

Level = Literal["green", "yellow", "red"]

_SYNCS: Final = 50
_SLOW: Final = timedelta(milliseconds=20)
_TOO_FAST: Final = timedelta(microseconds=20)
_CLOCK_TOLERANCE: Final = timedelta(minutes=5)
_MIB: Final = 2**20
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_NEWEST: Final = (
    "SELECT max(coalesce((SELECT max(started_at) FROM boots), 0),"
    " coalesce((SELECT created_at FROM jobs ORDER BY seq DESC LIMIT 1), 0))"
)


class Check(Struct, frozen=True):
    """One line of the report."""

    name: str
    level: Level
    text: str


def check_sqlite() -> Check:
    version = f"SQLite {apsw.sqlite_lib_version()}, apsw {apsw.apsw_version()}"
    try:
        check_library()
    except StoreRefused as error:
        return Check("sqlite", "red", str(error))
    return Check("sqlite", "green", version)


def check_directory(settings: Settings) -> Iterator[Check]:
    """The data directory, and whether the disk under it is one to rely on."""
    directory = settings.store.path.parent
    if not directory.exists():
        yield Check("data", "yellow", f"{directory} does not exist yet; `tidegate serve` creates it")
        return
    try:
        prepare_directory(directory)
    except StoreRefused as error:
        yield Check("data", "red", str(error))
        return
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        yield Check("data", "red", f"{directory} cannot be written to: run as its owner, or change its mode")
        return
    mode = stat.S_IMODE(directory.stat().st_mode)
    text = f"{directory}, mode {mode:04o}, on a local file system"
    if mode & stat.S_IWOTH:
        yield Check("data", "red", f"{text}: everybody may write to it; chmod 700 {directory}")
    else:
        yield Check("data", "green", text)
    yield _check_space(directory, settings.store.min_free_bytes)
    yield _check_syncs(directory)


def _check_space(directory: Path, least: int) -> Check:
    free = shutil.disk_usage(directory).free
    text = f"{free // _MIB} MiB free; submits close below {least // _MIB} MiB"
    if free < least:
        return Check("disk", "red", text)
    return Check("disk", "yellow" if free < 2 * least else "green", text)


def _check_syncs(directory: Path) -> Check:
    """How long the disk takes to make one small write durable: the pace of every submit."""
    times = sorted(_time_syncs(directory))
    p50, p99 = times[len(times) // 2], times[-1]
    text = f"fsync of 4 KiB takes {_ms(p50)} (p50), {_ms(p99)} (p99) in {len(times)} writes"
    if p50 > _SLOW:
        return Check("fsync", "yellow", f"{text}: slow, so each submit waits that long")
    if p50 < _TOO_FAST:
        return Check(
            "fsync", "yellow", f"{text}: too fast for a disk; is this memory, or are flushes ignored?"
        )
    return Check("fsync", "green", text)


def _time_syncs(directory: Path) -> Iterator[timedelta]:
    with tempfile.TemporaryFile(dir=directory) as file:
        for _ in range(_SYNCS):
            file.write(bytes(4096))
            file.flush()
            began = perf_counter()
            _sync(file.fileno())
            yield timedelta(seconds=perf_counter() - began)


def _sync(handle: int) -> None:
    full = getattr(fcntl, "F_FULLFSYNC", None)  # on macOS fsync alone stops at the drive's cache
    if full is not None:
        fcntl.fcntl(handle, full)
    else:
        os.fsync(handle)


def check_database(settings: Settings, clock: Clock) -> Iterator[Check]:
    """The schema and the newest time in the database; a running gateway does not mind."""
    path = settings.store.path
    if not path.exists():
        yield Check("schema", "yellow", f"{path} does not exist yet; `tidegate serve` creates it")
        return
    try:
        connection = open_reader(path)
        try:
            yield (schema := _check_schema(connection))
            if schema.level == "green":
                yield _check_clock(connection, clock)
        finally:
            connection.close()
    except (StoreRefused, apsw.Error) as error:
        yield Check("schema", "red", f"{path} cannot be read: {error}")


def _check_schema(connection: apsw.Connection) -> Check:
    try:
        missing = missing_migrations(connection)
    except SchemaMismatch as error:
        return Check("schema", "red", str(error))
    if missing:
        names = ", ".join(migration.name for migration in missing)
        return Check(
            "schema", "yellow", f"{names} will be applied at the next start, or by `tidegate migrate`"
        )
    return Check("schema", "green", "up to date")


def _check_clock(connection: apsw.Connection, clock: Clock) -> Check:
    newest: list[Any] = connection.execute(_NEWEST).fetchall()
    behind = datetime.fromtimestamp(newest[0][0] / 1000, UTC) - clock.now()
    if behind > _CLOCK_TOLERANCE:
        return Check("clock", "red", f"{behind} behind the newest entry of the store; check NTP")
    return Check("clock", "green", f"{clock.now().isoformat(timespec='seconds')}, not behind the store")


def running_gateway(path: Path) -> str | None:
    """Who holds the lock of the data directory; ``None`` when nobody does."""
    lock = path.parent / "tidegate.lock"
    try:
        handle = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        # Shared and let go at once: a gateway that starts in this very moment is told to try again.
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return _holder(lock)
    finally:
        os.close(handle)
    return None


def check_intact(path: Path) -> Check:
    """Every page, with nobody else at it; takes minutes on a large file."""
    try:
        connection = open_reader(path)
        found: list[Any] = connection.execute("PRAGMA quick_check(5)").fetchall()
        connection.close()
    except (StoreRefused, apsw.Error) as error:
        return Check("store", "red", f"{path} cannot be read: {error}; restore a backup")
    if found != [("ok",)]:
        return Check("store", "red", f"{path} is damaged ({found[0][0]}); restore a backup")
    return Check(
        "store", "green", f"no gateway runs; {path.stat().st_size // 1024} KiB, every page is intact"
    )


def check_ready(client: GatewayClient, holder: str) -> Check:
    try:
        client.get("/readyz")
    except GatewayRefused as refused:
        return Check("store", "red", f"{holder} is not ready: {refused}")
    except NoGateway:
        return Check(
            "store", "yellow", f"{holder} runs, but not at {client.url}: name its address with --url"
        )
    return Check("store", "green", f"{holder} runs and is ready at {client.url}")


def check_secrets(settings: Settings) -> Iterator[Check]:
    """Who else could read what must stay ours."""
    if not settings.auth.local_issuer:
        return
    file = settings.server.data_dir / local_issuer.FILE_NAME
    if not file.exists():
        yield Check("issuer", "yellow", f"{file} does not exist yet; `tidegate serve` creates it")
    elif stat.S_IMODE(file.stat().st_mode) & _OTHERS:
        yield Check(
            "issuer", "red", f"others can read {file} and make themselves administrators: chmod 600 {file}"
        )
    else:
        yield Check("issuer", "green", f"{file}, only for its owner")


def check_configuration(settings: Settings, file: Path | None) -> Iterator[Check]:
    yield Check("configuration", "green", f"{file or 'no file'}, valid")
    for text in settings.warnings:
        yield Check("configuration", "yellow", text)
    for text in settings.ignored:
        yield Check("configuration", "yellow", f"ignored: {text}")


def check_providers(settings: Settings) -> Iterator[Check]:
    if not settings.providers:
        yield Check("providers", "red", "none is configured: no job could run")
    for name, provider in settings.providers.items():
        yield _check_provider(name, provider)


def _check_provider(name: str, provider: ProviderSettings) -> Check:
    usable = [
        key for key in provider.keys if key.enabled and (key.value is not None or not provider.needs_key)
    ]
    if not usable:
        return Check("provider", "red", f"{name}: no usable key")
    if not provider.needs_key:
        return Check("provider", "green", f"{name}: needs no key")
    return Check("provider", "green", f"{name}: {', '.join(key.name for key in usable)}")


def _holder(lock: Path) -> str:
    try:
        facts = msgspec.json.decode(lock.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError):
        return "another process"
    return f"process {facts.get('pid')}, started {facts.get('started_at')},"


def _ms(duration: timedelta) -> str:
    return f"{duration / timedelta(milliseconds=1):.2f} ms"
