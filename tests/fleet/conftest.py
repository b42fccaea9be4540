"""One PostgreSQL for all of these tests, and an empty database for each."""

import os
from collections.abc import AsyncIterator, Iterator

import pytest

from benchmarks.machine.postgres import PostgresServer, postgres_server
from support.fleet import new_database

# Only `make chaos` has PgBouncer: no wheel carries it.
collect_ignore = [] if "TIDEGATE_POOLER_RESTARTS" in os.environ else ["test_pooler.py"]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as running:
        yield running


@pytest.fixture
async def url(server: PostgresServer) -> AsyncIterator[str]:
    async with new_database(server) as found:
        yield found
