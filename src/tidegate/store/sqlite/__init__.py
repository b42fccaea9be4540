"""The store of one machine: a SQLite file that belongs to exactly one process."""

from tidegate.store.sqlite.lock import AlreadyRunning
from tidegate.store.sqlite.store import SqliteOptions, SqliteStore

__all__ = ["AlreadyRunning", "SqliteOptions", "SqliteStore"]
