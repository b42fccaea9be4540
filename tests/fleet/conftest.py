"""One PostgreSQL for all of these tests, and an empty database for each."""

from collections.abc import AsyncIterator, Iterator

import pytest

from benchmarks.machine.postgres import PostgresServer, postgres_server
from support.fleet import new_database


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as running:
        yield running


@pytest.fixture
async def url(server: PostgresServer) -> AsyncIterator[str]:
    async with new_database(server) as found:
        yield found
