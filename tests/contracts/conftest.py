"""Every store, one after the other, for the suites that all of them must pass."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from benchmarks.machine.postgres import PostgresServer, postgres_server
from support.postgres_store import PostgresUnderTest
from support.stores import SqliteUnderTest, StoreUnderTest


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgres"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StoreUnderTest]:
    if request.param == "sqlite":
        on_sqlite = SqliteUnderTest(tmp_path / "data" / "tidegate.db")
        on_sqlite.open()
        yield on_sqlite
        await on_sqlite.store.close()
        assert on_sqlite.fatal == []
    else:
        on_postgres = PostgresUnderTest(request.getfixturevalue("postgres").url())
        await on_postgres.begin()
        yield on_postgres
        await on_postgres.close()
