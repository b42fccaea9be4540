"""Killed at each place where a crash could hurt: nothing acknowledged is lost, nothing ends twice, all of it ends."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

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


@pytest.fixture
async def vendor() -> AsyncIterator[MockVendor]:
    async with MockVendor.serve(script=QUICK) as running:
        yield running


@pytest.fixture
def gateway(tmp_path: Path, vendor: MockVendor) -> Iterator[GatewayProcess]:
    patience = {"worker_loss_budget": 100}  # these kills are ours, not the jobs'
    config = configuration(tmp_path, vendor.url, server={"drain_timeout": "100ms"}, **{"async": patience})
    with gateway_process(tmp_path, config) as process:
        yield process


async def start_to_die(gateway: GatewayProcess, point: Point, nth: int = 1) -> None:
    """Maybe it is dead before it answers."""
    with pytest.MonkeyPatch.context() as environment, suppress(AssertionError):
        environment.setenv(TEST_BUILD, "1")
        environment.setenv(FAULT_POINT, f"{point}:{nth}")
        await gateway.start()


async def died(gateway: GatewayProcess) -> None:
    assert await gateway.exit_code() == -signal.SIGKILL


async def submit(gateway: GatewayProcess, count: int, **headers: str) -> list[str]:
    async with Connection("127.0.0.1", gateway.port) as connection:
        answers = [await connection.request("POST", CHAT, HEADERS | headers, BODY) for _ in range(count)]
    assert {answer.status for answer in answers} == {202}
    return [answer.json()["id"] for answer in answers]


async def until_calling(vendor: MockVendor, count: int) -> None:
    async with asyncio.timeout(20):
        while vendor.in_flight < count:
            await asyncio.sleep(0.005)


def rows(gateway: GatewayProcess, sql: str) -> list[tuple[Any, ...]]:
    return read(gateway.directory / "tidegate.db", sql)


async def check_what_is_left(gateway: GatewayProcess, vendor: MockVendor, acknowledged: list[str]) -> None:
    """The gateway is running again, and nobody kills it."""
    assert acknowledged
    assert len(set(acknowledged)) == len(acknowledged)
    await until_all_ended(gateway.port, acknowledged)
    gateway.kill()
    ((jobs, completed, results, losses),) = rows(
        gateway,
        "SELECT count(*), sum(status = 'completed'), (SELECT count(*) FROM job_result), sum(losses) FROM jobs",
    )
    ((ends, ended),) = rows(
        gateway,
        "SELECT count(*), count(DISTINCT job) FROM attempts WHERE end NOT IN ('worker_lost', 'released')",
    )
    assert jobs == completed == results == ends == ended >= len(acknowledged)
    ((recorded,),) = rows(gateway, "SELECT count(*) FROM attempts, json_each(attempts.calls)")
    assert recorded <= vendor.total <= recorded + losses


@pytest.mark.parametrize("point", UNDER_LOAD)
async def test_killed_at_work(gateway: GatewayProcess, vendor: MockVendor, point: Point) -> None:
    load = Load(gateway.port, SUBMITTERS)
    await start_to_die(gateway, point, UNDER_LOAD[point])
    loading = asyncio.create_task(load.run())
    await died(gateway)
    load.is_over = True
    await loading

    await gateway.start()

    await check_what_is_left(gateway, vendor, load.acknowledged)


async def test_killed_while_a_drain_gives_jobs_back(gateway: GatewayProcess, vendor: MockVendor) -> None:
    vendor.set_script(HANGING)
    await start_to_die(gateway, "in_release")
    acknowledged = await submit(gateway, 3)
    await until_calling(vendor, 3)
    gateway.terminate()
    await died(gateway)
    vendor.set_script(QUICK)

    await gateway.start()

    await check_what_is_left(gateway, vendor, acknowledged)
    assert rows(gateway, "SELECT DISTINCT losses FROM jobs") == [(1,)]


async def test_killed_while_it_takes_over_from_the_dead(gateway: GatewayProcess, vendor: MockVendor) -> None:
    vendor.set_script(HANGING)
    await gateway.start()
    acknowledged = await submit(gateway, 3)
    await until_calling(vendor, 3)
    gateway.kill()
    vendor.set_script(QUICK)
    await start_to_die(gateway, "in_rescue")
    await died(gateway)

    await gateway.start()

    await check_what_is_left(gateway, vendor, acknowledged)
    assert rows(gateway, "SELECT DISTINCT losses FROM jobs") == [(1,)]  # the unfinished rescue charged nobody


async def test_killed_while_it_erases(gateway: GatewayProcess, vendor: MockVendor) -> None:
    await gateway.start()
    kept = await submit(gateway, 2)
    erased = await submit(gateway, 2, **{"x-bf-async-job-result-ttl": "1"})
    async with asyncio.timeout(20):
        while rows(gateway, "SELECT 1 FROM jobs WHERE status <> 'completed'"):
            await asyncio.sleep(0.01)
    gateway.kill()
    await asyncio.sleep(1.1)  # the time to live is over: the next start erases
    await start_to_die(gateway, "in_prune")
    await died(gateway)
    assert rows(gateway, "SELECT count(*) FROM job_request") == [(4,)]

    await gateway.start()

    async with asyncio.timeout(20):
        while rows(gateway, "SELECT count(*) FROM jobs") != [(2,)]:
            await asyncio.sleep(0.01)
    async with Connection("127.0.0.1", gateway.port) as connection:
        for job in erased:
            assert (await connection.request("GET", f"{CHAT}/{job}", HEADERS)).status == 404
    assert vendor.total == 4
    await until_all_ended(gateway.port, kept)
    parts = (
        "SELECT (SELECT count(*) FROM job_request), (SELECT count(*) FROM job_result), count(*) FROM attempts"
    )
    assert rows(gateway, parts) == [(2, 2, 2)]


async def test_killed_while_it_makes_its_tables(gateway: GatewayProcess, vendor: MockVendor) -> None:
    await start_to_die(gateway, "in_migration")
    await died(gateway)
    assert rows(gateway, "SELECT name FROM sqlite_schema") == []

    await gateway.start()

    await check_what_is_left(gateway, vendor, await submit(gateway, 2))


def test_every_point_is_tried() -> None:
    elsewhere = {"in_copy"}  # by the tests of `tidegate store copy`
    assert set(POINTS) == {*UNDER_LOAD, "in_release", "in_rescue", "in_prune", "in_migration", *elsewhere}


async def test_one_variable_alone_keeps_the_gateway_from_starting(
    gateway: GatewayProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(TEST_BUILD, raising=False)
    monkeypatch.setenv(FAULT_POINT, "before_commit")

    with pytest.raises(AssertionError):
        await gateway.start()

    assert await gateway.exit_code() == Exit.CONFIGURATION
    assert f"Unset {FAULT_POINT}" in " ".join(gateway.log.read_text("utf-8").split())
    assert not (gateway.directory / "tidegate.db").exists()


@pytest.mark.parametrize("wanted", ["", "nowhere", "before_commit:0", "before_commit:x", "before_commit:-1"])
def test_a_fault_point_must_make_sense(wanted: str) -> None:
    with pytest.raises(FaultPointRefused, match="use name or name:nth"):
        arm({TEST_BUILD: "1", FAULT_POINT: wanted})


def test_a_test_build_alone_is_harmless() -> None:
    arm({TEST_BUILD: "1"})
