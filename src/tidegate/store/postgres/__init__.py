"""The store of many machines: one PostgreSQL, any number of processes."""

from tidegate.store.postgres.connection import PostgresOptions
from tidegate.store.postgres.copying import PostgresSource, PostgresTarget
from tidegate.store.postgres.diagnosis import Diagnosis
from tidegate.store.postgres.store import PostgresStore, diagnose, migrate

__all__ = [
    "Diagnosis",
    "PostgresOptions",
    "PostgresSource",
    "PostgresStore",
    "PostgresTarget",
    "diagnose",
    "migrate",
]
