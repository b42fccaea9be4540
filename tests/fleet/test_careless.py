"""Servers that may lose what they have committed: also one that takes another's place, or was started again that way."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest

from benchmarks.machine.postgres import PostgresServer, postgres_server
from support.gateway import gateway_with_vendor
from support.stores import new_job
from tidegate.clock import SystemClock, SystemRng
from tidegate.domain.errors import CommitUnknown, StoreAway
from tidegate.domain.secret import Secret
from tidegate.store.postgres import PostgresOptions, PostgresStore

pytestmark = pytest.mark.anyio

FOUND_WITHIN: Final = 10.0
MAY_LOSE: Final = "the server may lose what it has committed (fsync = off)"


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    with postgres_server() as running:
        yield running


def start_again(server: PostgresServer, **settings: str) -> None:
    server.stop()
    server.start(**settings)


async def submit(store: PostgresStore) -> None:
    await store.jobs.accept(new_job(SystemClock(), SystemRng()))


async def until(is_so: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(FOUND_WITHIN):
        while not await is_so():
            await asyncio.sleep(0.05)


async def test_nothing_is_given_to_a_server_that_became_careless(server: PostgresServer) -> None:
    store = await PostgresStore.open(
        PostgresOptions(Secret(server.url())), clock=SystemClock(), rng=SystemRng()
    )
    await submit(store)
    assert store.warnings == ()

    start_again(server, fsync="off")
    for _ in range(3):
        with pytest.raises((StoreAway, CommitUnknown)):
            await submit(store)
    assert "".join(store.warnings).startswith(MAY_LOSE)

    start_again(server)

    async def is_accepted() -> bool:
        with suppress(StoreAway, CommitUnknown):
            await submit(store)
            return True
        return False

    await until(is_accepted)
    assert store.warnings == ()
    await store.close()


async def test_why_it_is_not_ready_is_told(tmp_path: Path, server: PostgresServer) -> None:
    async with gateway_with_vendor(tmp_path, store={"url": server.url()}) as (gateway, _):
        assert (await gateway.client.get("/readyz")).json() == {"status": "ready"}
        start_again(server, fsync="off")

        async def says_why() -> bool:
            answer = await gateway.client.get("/readyz")
            return answer.status_code == 503 and MAY_LOSE in answer.text

        await until(says_why)
        assert (await gateway.submit()).status_code == 503
        start_again(server)


async def test_what_was_allowed_is_shown(tmp_path: Path) -> None:
    allowed: dict[str, Any] = {"allow_unsafe_settings": True}
    with postgres_server(fsync="off") as careless:
        async with gateway_with_vendor(tmp_path, store={"url": careless.url()} | allowed) as (gateway, _):
            answer = await gateway.client.get("/readyz")

    assert answer.json() == {"status": "ready", "warnings": [MAY_LOSE]}


async def test_going_while_the_server_is_away_is_no_failure(server: PostgresServer) -> None:
    store = await PostgresStore.open(
        PostgresOptions(Secret(server.url())), clock=SystemClock(), rng=SystemRng()
    )
    await store.jobs.renew(())
    server.stop()

    await store.close()


async def test_a_full_pool_costs_no_lease(server: PostgresServer) -> None:
    store = await PostgresStore.open(
        PostgresOptions(Secret(server.url()), pool_size=1), clock=SystemClock(), rng=SystemRng()
    )
    async with store._database._pool.acquire():
        async with asyncio.timeout(1):
            await store.jobs.renew(())

    await store.close()
