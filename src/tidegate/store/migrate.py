"""Numbered SQL files, applied once each, in order: nothing to learn, nothing generated."""

import hashlib
from importlib.resources import files
from typing import Final

from msgspec import Struct

DIALECTS: Final = ("sqlite", "postgres")


class Migration(Struct, frozen=True):
    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


class SchemaMismatch(Exception):
    """The database has a schema this version cannot work with; the message says what to do."""


def migrations(dialect: str) -> list[Migration]:
    """All migrations of a dialect, ``0001_name.sql`` first."""
    folder = files("tidegate.store").joinpath("schema", dialect)
    found = [
        Migration(int(file.name[:4]), file.name.removesuffix(".sql"), file.read_text("utf-8"))
        for file in folder.iterdir()
        if file.name.endswith(".sql")
    ]
    return sorted(found, key=lambda migration: migration.number)


def pending(applied: dict[int, str], known: list[Migration]) -> list[Migration]:
    """What is still to be applied. ``applied`` maps number to checksum.

    Raises ``SchemaMismatch`` when the database is newer than this version or its history differs.
    """
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
    return [migration for migration in known if migration.number not in applied]
