"""Numbered SQL files, applied once each, in order: nothing to learn, nothing generated."""

import hashlib
import re
from collections.abc import Set as AbstractSet
from importlib.resources import files
from typing import Final

from msgspec import Struct

DIALECTS: Final = ("sqlite", "postgres")
_CREATES: Final = re.compile(r"^CREATE TABLE (\w+)", re.MULTILINE)


class Migration(Struct, frozen=True):
    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()

    @property
    def tables(self) -> frozenset[str]:
        """Those it makes."""
        return frozenset(_CREATES.findall(self.sql))


class SchemaMismatch(Exception):
    """The database has a schema this version cannot work with; the message says what to do."""


def not_ours() -> SchemaMismatch:
    return SchemaMismatch("schema_migrations is another program's: give tidegate a database of its own")


def migrations(dialect: str) -> list[Migration]:
    """All migrations of a dialect, ``0001_name.sql`` first."""
    folder = files("tidegate.store").joinpath("schema", dialect)
    found = [
        Migration(int(file.name[:4]), file.name.removesuffix(".sql"), file.read_text("utf-8"))
        for file in folder.iterdir()
        if file.name.endswith(".sql")
    ]
    return sorted(found, key=lambda migration: migration.number)


def pending(applied: dict[int, str], known: list[Migration], tables: AbstractSet[str]) -> list[Migration]:
    """What is still to be applied. ``applied`` maps number to checksum, ``tables`` are those of the database.

    Raises ``SchemaMismatch`` when the database is newer than this version, its history differs, or is not its own.
    """
    _require_our_history(applied, known)
    lost = {
        table for migration in known if migration.number in applied for table in migration.tables
    } - tables
    if lost:
        raise SchemaMismatch(
            f"the database has lost {_listed(lost)}, which its schema_migrations says it has: "
            "restore it from a backup"
        )
    todo = [migration for migration in known if migration.number not in applied]
    foreign = tables & {table for migration in todo for table in migration.tables}
    if foreign:
        raise SchemaMismatch(
            f"the database has {_listed(foreign)}, and its schema_migrations does not say where from: "
            "restore it from a backup, or use an empty database"
        )
    return todo


def _require_our_history(applied: dict[int, str], known: list[Migration]) -> None:
    by_number = {migration.number: migration for migration in known}
    for number, checksum in sorted(applied.items()):
        migration = by_number.get(number)
        if migration is None:
            raise SchemaMismatch(
                f"the database has schema {max(applied)}, this version knows {max(by_number)}: "
                "start a newer version of tidegate"
            )
        if migration.checksum != checksum:
            raise SchemaMismatch(
                f"migration {migration.name} was applied with another content: "
                "restore the database that belongs to this version"
            )


def _listed(tables: AbstractSet[str]) -> str:
    return f"{'table' if len(tables) == 1 else 'tables'} {', '.join(sorted(tables))}"
