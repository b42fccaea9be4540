"""Killed at each place where a crash could hurt: nothing acknowledged is lost, nothing ends twice, all of it ends."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from benchmarks.machine.postgres import PostgresServer, postgres_server
from support.fleet import new_database, rows
from support.gateway import CHAT, configuration
from support.load import BODY, HEADERS, Load, read, until_all_ended
from support.processes import GatewayProcess, gateway_process
from support.wire import Connection
from tidegate.cli.exits import Exit
from tidegate.fault_points import FAULT_POINT, POINTS, TEST_BUILD, FaultPointRefused, Point, arm
from tidegate.mock_vendor import MockVendor

pytestmark = pytest.mark.anyio

QUICK = {"rules": [{"model": "echo", "latency": 0.02}]}
HANGING = {"rules": [{"model": "echo", "hang": "before_headers"}]}
SUBMITTERS = 4
UNDER_LOAD: dict[Point, int] = {
    "before_commit": 20,
    "after_commit_before_reply": 20,
    "after_claim": 3,
    "before_call": 5,
    "after_call_before_settle": 5,
    "in_settle": 5,
}
"""Points that a gateway passes while it works, and at which time of passing it dies."""


class OnSqlite:
    """A start knows the dead by their boot id, and what they were in the middle of is undone."""

    undoes = True

    def __init__(self, directory: Path) -> None:
        self._path = directory / "tidegate.db"
        self.url = f"sqlite:///{self._path}"

    async def rows(self, sql: str) -> list[Any]:
        return read(self._path, sql)

    async def tables(self) -> list[Any]:
        return await self.rows("SELECT name FROM sqlite_schema WHERE name NOT IN ('schema_migrations')")

    async def let_leases_end(self) -> None:
        """They have."""


class OnPostgres:
    """A process dies between two statements, each of which is done as a whole."""

    undoes = False

    def __init__(self, url: str) -> None:
        self.url = url

    async def rows(self, sql: str) -> list[Any]:
        return await rows(self.url, sql)

    async def tables(self) -> list[Any]:
        return await self.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")

    async def let_leases_end(self) -> None:
        """As if twelve seconds had gone by in which everybody else was seen."""
        if await self.tables():
            await self.rows("UPDATE workers SET seen_at = 0")
            await self.rows("UPDATE watch SET steady_since = 0, looked_at = now_ms()")


Store = OnSqlite | OnPostgres


@pytest.fixture
async def vendor() -> AsyncIterator[MockVendor]:
    async with MockVendor.serve(script=QUICK) as running:
        yield running


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgres"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    if request.param == "sqlite":
        yield OnSqlite(tmp_path)
        return
    async with new_database(request.getfixturevalue("server")) as url:
        yield OnPostgres(url)


@pytest.fixture
def gateway(tmp_path: Path, vendor: MockVendor, store: Store) -> Iterator[GatewayProcess]:
    config = configuration(
        tmp_path,
        vendor.url,
        store={"url": store.url},
        server={"drain_timeout": "100ms"},
        **{"async": {"worker_loss_budget": 100}},  # these kills are ours, not the jobs'
    )
    with gateway_process(tmp_path, config) as process:
        yield process


async def start_to_die(gateway: GatewayProcess, point: Point, nth: int = 1) -> None:
    """Maybe it is dead before it answers."""
    with pytest.MonkeyPatch.context() as environment, suppress(AssertionError):
        environment.setenv(TEST_BUILD, "1")
        environment.setenv(FAULT_POINT, f"{point}:{nth}")
        await gateway.start()


async def died(gateway: GatewayProcess, store: Store) -> None:
    assert await gateway.exit_code() == -signal.SIGKILL
    await store.let_leases_end()


async def submit(gateway: GatewayProcess, count: int, **headers: str) -> list[str]:
    async with Connection("127.0.0.1", gateway.port) as connection:
        answers = [await connection.request("POST", CHAT, HEADERS | headers, BODY) for _ in range(count)]
    assert {answer.status for answer in answers} == {202}
    return [answer.json()["id"] for answer in answers]


async def until_calling(vendor: MockVendor, count: int) -> None:
    async with asyncio.timeout(20):
        while vendor.in_flight < count:
            await asyncio.sleep(0.005)


async def check_what_is_left(
    gateway: GatewayProcess, store: Store, vendor: MockVendor, acknowledged: list[str]
) -> None:
    """The gateway is running again, and nobody kills it."""
    assert acknowledged
    assert len(set(acknowledged)) == len(acknowledged)
    await until_all_ended(gateway.port, acknowledged)
    gateway.kill()
    ((jobs, completed, results, losses),) = await store.rows(
        """SELECT count(*), count(*) FILTER (WHERE status = 'completed'),
            (SELECT count(*) FROM job_result), sum(losses) FROM jobs"""
    )
    ((ends, ended),) = await store.rows(
        """SELECT count(*), count(DISTINCT job) FROM attempts WHERE "end" NOT IN ('worker_lost', 'released')"""
    )
    assert jobs == completed == results == ends == ended >= len(acknowledged)
    calls = await store.rows("SELECT calls FROM attempts WHERE calls IS NOT NULL")
    recorded = sum(len(json.loads(found)) for (found,) in calls)
    assert recorded <= vendor.total <= recorded + losses


@pytest.mark.parametrize("point", UNDER_LOAD)
async def test_killed_at_work(
    gateway: GatewayProcess, store: Store, vendor: MockVendor, point: Point
) -> None:
    load = Load(gateway.port, SUBMITTERS)
    await start_to_die(gateway, point, UNDER_LOAD[point])
    loading = asyncio.create_task(load.run())
    await died(gateway, store)
    load.is_over = True
    await loading

    await gateway.start()

    await check_what_is_left(gateway, store, vendor, load.acknowledged)


async def test_killed_while_a_drain_gives_jobs_back(
    gateway: GatewayProcess, store: Store, vendor: MockVendor
) -> None:
    vendor.set_script(HANGING)
    await start_to_die(gateway, "in_release")
    acknowledged = await submit(gateway, 3)
    await until_calling(vendor, 3)
    gateway.terminate()
    await died(gateway, store)
    vendor.set_script(QUICK)

    await gateway.start()

    await check_what_is_left(gateway, store, vendor, acknowledged)
    losses = await store.rows("SELECT DISTINCT losses FROM jobs ORDER BY 1")
    assert losses == [(1,)] if store.undoes else losses[0] == (0,)  # what was given back is not charged


async def test_killed_while_it_takes_over_from_the_dead(
    gateway: GatewayProcess, store: Store, vendor: MockVendor
) -> None:
    vendor.set_script(HANGING)
    await gateway.start()
    acknowledged = await submit(gateway, 3)
    await until_calling(vendor, 3)
    gateway.kill()
    await store.let_leases_end()
    vendor.set_script(QUICK)
    await start_to_die(gateway, "in_rescue")
    await died(gateway, store)

    await gateway.start()

    await check_what_is_left(gateway, store, vendor, acknowledged)
    assert await store.rows("SELECT DISTINCT losses FROM jobs") == [
        (1,)
    ]  # charged once, whether or not the rescue was finished


async def test_killed_while_it_erases(gateway: GatewayProcess, store: Store, vendor: MockVendor) -> None:
    await gateway.start()
    kept = await submit(gateway, 2)
    erased = await submit(gateway, 2, **{"x-bf-async-job-result-ttl": "1"})
    async with asyncio.timeout(20):
        while await store.rows("SELECT 1 FROM jobs WHERE status <> 'completed'"):
            await asyncio.sleep(0.01)
    gateway.kill()
    await asyncio.sleep(1.1)  # the time to live is over: the next start erases
    await start_to_die(gateway, "in_prune")
    await died(gateway, store)
    assert await store.rows("SELECT count(*) FROM job_request") == [(4 if store.undoes else 2,)]

    await gateway.start()

    async with asyncio.timeout(20):
        while await store.rows("SELECT count(*) FROM jobs") != [(2,)]:
            await asyncio.sleep(0.01)
    async with Connection("127.0.0.1", gateway.port) as connection:
        for job in erased:
            assert (await connection.request("GET", f"{CHAT}/{job}", HEADERS)).status == 404
    assert vendor.total == 4
    await until_all_ended(gateway.port, kept)
    parts = (
        "SELECT (SELECT count(*) FROM job_request), (SELECT count(*) FROM job_result), count(*) FROM attempts"
    )
    assert await store.rows(parts) == [(2, 2, 2)]


async def test_killed_while_it_makes_its_tables(
    gateway: GatewayProcess, store: Store, vendor: MockVendor
) -> None:
    await start_to_die(gateway, "in_migration")
    await died(gateway, store)
    assert await store.tables() == []

    await gateway.start()

    await check_what_is_left(gateway, store, vendor, await submit(gateway, 2))


def test_every_point_is_tried() -> None:
    elsewhere = {"in_copy"}  # by the tests of `tidegate store copy`
    assert set(POINTS) == {*UNDER_LOAD, "in_release", "in_rescue", "in_prune", "in_migration", *elsewhere}


async def test_one_variable_alone_keeps_the_gateway_from_starting(
    gateway: GatewayProcess, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(TEST_BUILD, raising=False)
    monkeypatch.setenv(FAULT_POINT, "before_commit")

    with pytest.raises(AssertionError):
        await gateway.start()

    assert await gateway.exit_code() == Exit.CONFIGURATION
    assert f"Unset {FAULT_POINT}" in " ".join(gateway.log.read_text("utf-8").split())
    assert await store.tables() == []


@pytest.mark.parametrize("wanted", ["", "nowhere", "before_commit:0", "before_commit:x", "before_commit:-1"])
def test_a_fault_point_must_make_sense(wanted: str) -> None:
    with pytest.raises(FaultPointRefused, match="use name or name:nth"):
        arm({TEST_BUILD: "1", FAULT_POINT: wanted})


def test_a_test_build_alone_is_harmless() -> None:
    arm({TEST_BUILD: "1"})
