"""Whoever is killed, gateway, worker or database: nothing that was answered 202 is lost, nothing ends twice.

``TIDEGATE_FLEET_KILLS`` says how many processes are killed, ``TIDEGATE_DATABASE_KILLS`` how often the database is.
"""

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest

from benchmarks.machine.postgres import PostgresServer
from support.fleet import Fleet, assert_each_ended_once, fleet
from support.load import Load, acknowledged, until_all_ended
from support.processes import GatewayProcess
from tidegate.mock_vendor import MockVendor

pytestmark = pytest.mark.anyio

KILLS: Final = int(os.environ.get("TIDEGATE_FLEET_KILLS", "50"))
DATABASE_KILLS: Final = int(os.environ.get("TIDEGATE_DATABASE_KILLS", "3"))
RUNNING_AGAIN_WITHIN: Final = 15.0
MOST_DOWN: Final = 3
"""At once. Where starting takes longer than the pause between two kills, there must be a worker left to take over."""
OURS: Final[dict[str, Any]] = {"async": {"worker_loss_budget": 100}}
"""These kills are ours, not the jobs'."""


@pytest.fixture
async def vendor() -> AsyncIterator[MockVendor]:
    async with MockVendor.serve(script={"rules": [{"model": "echo", "latency": 0.05}]}) as running:
        yield running


async def test_random_processes_are_killed_under_load(
    tmp_path: Path, url: str, vendor: MockVendor, record_property: Callable[[str, object], None]
) -> None:
    chance = random.Random(11)
    kills: list[float] = []
    with fleet(tmp_path, url, vendor.url, gateways=3, workers=4, **OURS) as seven:
        await seven.start()
        loads = [Load(gateway.port, 4) for gateway in seven.gateways]
        loading = [asyncio.create_task(load.run()) for load in loads]
        starting: list[asyncio.Task[None]] = []
        down: set[GatewayProcess] = set()

        async def start_again(victim: GatewayProcess) -> None:
            await seven.start_again(victim)
            down.remove(victim)

        while len(starting) < KILLS:
            await asyncio.sleep(chance.uniform(0.2, 0.8))
            if len(down) == MOST_DOWN:
                continue
            victim = chance.choice([member for member in seven.members if member not in down])
            victim.kill()
            if victim in seven.workers:
                kills.append(time.time())
            down.add(victim)
            starting.append(asyncio.create_task(start_again(victim)))
        await asyncio.gather(*starting)
        await asyncio.sleep(0.5)
        for load in loads:
            load.is_over = True
        await asyncio.gather(*loading)
        ids = acknowledged(loads)
        await until_all_ended(seven.gateways[0].port, ids)
        await seven.stop()

        record_property("tried", KILLS)
        assert len(ids) > 10 * KILLS
        await assert_each_ended_once(seven, ids)
        await assert_taken_over_in_time(seven, kills)


async def test_the_database_is_killed_under_load(
    tmp_path: Path,
    url: str,
    server: PostgresServer,
    vendor: MockVendor,
    record_property: Callable[[str, object], None],
) -> None:
    with fleet(tmp_path, url, vendor.url, gateways=2, workers=2, **OURS) as four:
        await four.start()
        loads = [Load(gateway.port, 4) for gateway in four.gateways]
        loading = [asyncio.create_task(load.run()) for load in loads]
        for _ in range(DATABASE_KILLS):
            await asyncio.sleep(1)
            server.kill()
            await asyncio.sleep(0.5)
            server.start()
        await asyncio.sleep(3)
        before = [len(load.acknowledged) for load in loads]
        await asyncio.sleep(1)
        after = [len(load.acknowledged) for load in loads]
        for load in loads:
            load.is_over = True
        await asyncio.gather(*loading)
        ids = acknowledged(loads)
        await until_all_ended(four.gateways[0].port, ids)
        await four.stop()

        record_property("tried", DATABASE_KILLS)
        assert all(now > then for now, then in zip(after, before, strict=True)), "a gateway did not come back"
        for load in loads:
            assert load.statuses.keys() <= {202, 503}
            assert load.unhelpful == 0
        await assert_each_ended_once(four, ids)


async def assert_taken_over_in_time(found: Fleet, kills: list[float]) -> None:
    """The jobs are short: the first kill after a lost attempt began is the one that lost it."""
    attempts = await found.rows(
        """SELECT job, started_at / 1000.0, "end" FROM attempts WHERE job IN (
            SELECT job FROM attempts WHERE "end" = 'worker_lost') ORDER BY job, number"""
    )
    waits = []
    for (job, started, end), (next_job, started_again, _) in pairwise(attempts):
        if end == "worker_lost" and job == next_job:
            killed = min(kill for kill in kills if kill >= float(started))
            waits.append(float(started_again) - killed)
    assert waits, "no kill met a running job"
    assert max(waits) <= RUNNING_AGAIN_WITHIN
