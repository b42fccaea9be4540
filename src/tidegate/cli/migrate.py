"""``tidegate migrate``: the schema of the database, while no gateway uses it."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import apsw
from cyclopts import App, Parameter

from tidegate.cli.configuration import require_settings
from tidegate.cli.exits import CliError, Exit
from tidegate.cli.options import DEFAULT_OUTPUT, DEFAULT_SOURCE, Flag, Output, Source, examples
from tidegate.cli.screen import Screen
from tidegate.clock import SystemClock
from tidegate.settings import Settings
from tidegate.store.migrate import Migration, SchemaMismatch, migrations
from tidegate.store.refusal import StoreRefused
from tidegate.store.sqlite import AlreadyRunning
from tidegate.store.sqlite.connection import check_library, open_reader, open_writer, prepare_directory
from tidegate.store.sqlite.lock import DirectoryLock
from tidegate.store.sqlite.store import apply_migrations, missing_migrations
from tidegate.stores import driver, postgres_options

app = App(
    name="migrate",
    help_prologue=examples("tidegate migrate --check", "tidegate migrate --config tidegate.yaml"),
    help_epilogue="On SQLite the gateway must not run. `tidegate serve` does this by itself when it starts.",
)


@app.default
def migrate(
    *,
    check: Annotated[Flag, Parameter(help="Only say what is missing; exit code 1 if anything is.")] = False,
    source: Source = DEFAULT_SOURCE,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    settings = require_settings(source)
    screen = Screen(output)
    if settings.store.is_shared:
        return _migrate_shared(settings, screen, is_dry=check)
    path = settings.store.path
    if check and not path.exists():
        return _report(screen, path, migrations("sqlite"), is_applied=False)
    with _alone_with(path):
        missing = _missing(path) if path.exists() else migrations("sqlite")
        if missing and not check:
            connection = open_writer(path, wipe=settings.store.wipe, vfs=None)
            apply_migrations(connection)
            connection.close()
    return _report(screen, path, missing, is_applied=not check)


def _migrate_shared(settings: Settings, screen: Screen, *, is_dry: bool) -> int:
    """Gateways may run meanwhile: old and new code work on the same schema during one step."""
    try:
        found = asyncio.run(driver(settings).migrate(postgres_options(settings), is_dry=is_dry))
    except (StoreRefused, SchemaMismatch) as error:
        raise CliError(str(error), Exit.STORE) from error
    return _report(screen, settings.store.place, found, is_applied=not is_dry)


@contextmanager
def _alone_with(path: Path) -> Iterator[None]:
    """Hold the lock a gateway would hold. Raises ``CliError`` when one does, or the store is unusable."""
    lock = DirectoryLock(path.parent / "tidegate.lock")
    try:
        check_library()
        prepare_directory(path.parent)
        lock.acquire({"pid": os.getpid(), "started_at": SystemClock().now().isoformat()})
        yield
    except AlreadyRunning as error:
        raise CliError(f"{error}: stop it first", Exit.STORE) from error
    except (StoreRefused, SchemaMismatch) as error:
        raise CliError(str(error), Exit.STORE) from error
    except apsw.Error as error:
        raise CliError(
            f"cannot use {path}: {error}; check the disk, or restore a backup", Exit.STORE
        ) from error
    except OSError as error:
        raise CliError(f"cannot use {error.filename or path}: {error.strerror}", Exit.STORE) from error
    finally:
        lock.release()


def _missing(path: Path) -> list[Migration]:
    connection = open_reader(path)
    try:
        return missing_migrations(connection)
    finally:
        connection.close()


def _report(screen: Screen, path: Path | str, found: list[Migration], *, is_applied: bool) -> int:
    names = [migration.name for migration in found]
    if screen.is_json:
        screen.document({"database": str(path), "applied" if is_applied else "pending": names})
    elif not names:
        screen.line(f"{path} is up to date.")
    else:
        for name in names:
            screen.line(f"{'applied' if is_applied else 'pending'}  {name}")
    return Exit.OK if is_applied or not names else Exit.FAILED
