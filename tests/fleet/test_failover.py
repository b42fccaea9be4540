"""The primary dies and its standby takes over: what was acknowledged is there, and ends once.

``TIDEGATE_FAILOVERS`` says how often, with a synchronous and with an asynchronous standby.
"""

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Final

import asyncpg
import pytest

from benchmarks.machine.postgres import PostgresServer, postgres_server, standby_of
from support.fleet import Fleet, assert_each_ended_once, fleet, rows
from support.load import Load, acknowledged, again, until_all_ended
from support.stores import new_job
from support.upstream_server import black_hole
from tidegate.clock import SystemClock, SystemRng
from tidegate.domain.errors import CommitUnknown
from tidegate.domain.jobs import Idempotency
from tidegate.domain.secret import Secret
from tidegate.mock_vendor import MockVendor
from tidegate.store.postgres import PostgresOptions, PostgresStore
from tidegate.store.refusal import StoreRefused

pytestmark = pytest.mark.anyio

FAILOVERS: Final = range(int(os.environ.get("TIDEGATE_FAILOVERS", "1")))
BACK_WITHIN: Final = 15.0
CAUGHT_UP_WITHIN: Final = 10.0
COUNT: Final = 10
ONE: Final = Idempotency(scope_digest=b"1" * 32, fingerprint=b"f" * 32, keep_for=timedelta(hours=1))


@pytest.fixture
def pair() -> Iterator[tuple[PostgresServer, PostgresServer]]:
    with postgres_server() as primary, standby_of(primary) as standby:
        yield primary, standby


@pytest.fixture
def url_of_both(pair: tuple[PostgresServer, PostgresServer]) -> str:
    """Of a database on both; whichever takes writes is used."""
    primary, standby = pair
    primary.create("tidegate")
    return f"postgresql://postgres@127.0.0.1:{primary.port},127.0.0.1:{standby.port}/tidegate"


async def execute(url: str, *commands: str) -> None:
    connection = await asyncpg.connect(url)
    for command in commands:
        await connection.execute(command)
    await connection.close()


async def open_store(url: str) -> PostgresStore:
    return await PostgresStore.open(PostgresOptions(Secret(url)), clock=SystemClock(), rng=SystemRng())


async def wait_for_standby(primary: PostgresServer) -> None:
    """From here on, every commit waits for it."""
    await execute(
        primary.url(), "ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()"
    )
    connection = await asyncpg.connect(primary.url())
    async with asyncio.timeout(CAUGHT_UP_WITHIN):
        while (
            await connection.fetchval("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'")
            != 1
        ):
            await asyncio.sleep(0.05)
    await connection.close()


@pytest.mark.parametrize("_number", FAILOVERS)
async def test_the_primary_is_killed_and_the_standby_promoted(
    tmp_path: Path,
    pair: tuple[PostgresServer, PostgresServer],
    url_of_both: str,
    record_property: Callable[[str, object], None],
    _number: int,
) -> None:
    primary, standby = pair
    await wait_for_standby(primary)
    async with MockVendor.serve(script={"rules": [{"model": "echo", "latency": 0.05}]}) as vendor:
        with fleet(tmp_path, url_of_both, vendor.url, gateways=2, workers=2) as four:
            await four.start()
            loads = [Load(gateway.port, 4) for gateway in four.gateways]
            loading = [asyncio.create_task(load.run()) for load in loads]
            await asyncio.sleep(1.5)

            # The control: whoever answers before the standby has it, answers now.
            go_on = standby.pause("walreceiver")
            await asyncio.sleep(0.2)
            before = acknowledged(loads)
            await asyncio.sleep(1)
            meanwhile = acknowledged(loads)
            primary.kill()
            killed = time.monotonic()
            go_on()
            await execute(standby.url(), "SELECT pg_promote()")
            waits = [await again(load, killed, 2 * BACK_WITHIN) for load in loads]
            await asyncio.sleep(1)

            for load in loads:
                load.is_over = True
            await asyncio.gather(*loading)
            await until_all_ended(four.gateways[0].port, acknowledged(loads))
            await four.stop()

            assert len(before) > 50
            assert meanwhile == before
            assert max(waits) <= BACK_WITHIN
            for load in loads:
                assert load.statuses.keys() <= {202, 503}
                assert load.unhelpful == 0
            await assert_each_ended_once(four, acknowledged(loads))
            record_property("tried", 1)


@pytest.mark.parametrize("_number", FAILOVERS)
async def test_an_asynchronous_standby_lacks_what_it_had_not_received(
    tmp_path: Path,
    pair: tuple[PostgresServer, PostgresServer],
    url_of_both: str,
    record_property: Callable[[str, object], None],
    _number: int,
) -> None:
    """And nothing else: jobs whose ending it lacks run again, those whose accept it lacks are unknown."""
    primary, standby = pair
    async with MockVendor.serve() as vendor:
        with fleet(tmp_path, url_of_both, vendor.url, gateways=1, workers=1) as two:
            await two.start()
            ended = await two.submit(COUNT)
            await until_all_ended(two.gateways[0].port, ended)
            vendor.set_script({"rules": [{"model": "echo", "latency": 3.0}]})
            running = await two.submit(COUNT)
            while vendor.in_flight < COUNT:
                await asyncio.sleep(0.02)
            await cut_off(primary, standby)
            assert vendor.in_flight == COUNT
            vendor.set_script({"rules": []})
            await until_all_ended(two.gateways[0].port, running)
            lost = await two.submit(COUNT)
            await until_all_ended(two.gateways[0].port, lost)

            primary.kill()
            with pytest.raises(StoreRefused, match="during recovery"):
                await PostgresStore.open(
                    PostgresOptions(Secret(standby.url("tidegate")), pooler=True),
                    clock=SystemClock(), rng=SystemRng(),
                )  # fmt: skip
            await execute(standby.url(), "SELECT pg_promote()")
            later = await eventually_submitted(two)
            await until_all_ended(two.gateways[0].port, ended + running + later)
            await two.stop()

            kept = {job for (job,) in await two.rows("SELECT id::text FROM jobs")}
            assert kept == {*ended, *running, *later}
            await assert_each_ended_once(two, [*ended, *running, *later])
            record_property("tried", 1)
            assert vendor.total == len([*ended, *running, *running, *lost, *later])


async def cut_off(primary: PostgresServer, standby: PostgresServer) -> None:
    """With all that was committed until now, and nothing from now on."""
    ((position,),) = await rows(primary.url(), "SELECT pg_current_wal_lsn()::text")
    async with asyncio.timeout(CAUGHT_UP_WITHIN):
        while await rows(standby.url(), f"SELECT pg_last_wal_replay_lsn() >= '{position}'") != [(True,)]:
            await asyncio.sleep(0.02)
        await execute(standby.url(), "ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()")
        while await rows(primary.url(), "SELECT FROM pg_stat_replication"):
            await asyncio.sleep(0.02)


async def eventually_submitted(found: Fleet) -> list[str]:
    """Once the new primary is found."""
    async with asyncio.timeout(BACK_WITHIN):
        while True:
            with suppress(AssertionError):
                return await found.submit(1)
            await asyncio.sleep(0.1)


async def test_what_no_standby_confirms_is_not_acknowledged(server: PostgresServer, url: str) -> None:
    """Nor is it called lost: it may be there, and is, once only, when the same request comes again."""
    store = await open_store(url)
    job, again = (new_job(SystemClock(), SystemRng(), idempotency=ONE) for _ in range(2))
    try:
        await execute(
            server.url(), "ALTER SYSTEM SET synchronous_standby_names = 'nobody'", "SELECT pg_reload_conf()"
        )
        await asyncio.sleep(0.3)

        with pytest.raises(CommitUnknown):
            await store.jobs.accept(job)
    finally:
        await execute(server.url(), "ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
    await asyncio.sleep(0.3)
    accepted = await store.jobs.accept(again)

    assert (accepted.job.id, accepted.is_replay) == (job.id, True)
    await store.close()


async def test_a_host_that_does_not_even_refuse_is_not_waited_for(server: PostgresServer, url: str) -> None:
    """A machine that lost its power, named first."""
    name = url.rpartition("/")[2]
    with black_hole() as nobody:
        both = f"postgresql://postgres@127.0.0.1:{nobody},127.0.0.1:{server.port}/{name}"
        began = time.monotonic()

        store = await open_store(both)
        await store.jobs.check()

        assert time.monotonic() - began < 3
        await store.close()
