"""Workers that stand still and come back, and processes that are replaced one after the other under load."""

import asyncio
import signal
from pathlib import Path
from typing import Any, Final

import pytest

from support.fleet import PUBLIC_METRICS, Fleet, fleet, zombie_writes
from support.load import Load, until_all_ended
from tidegate.mock_vendor import MockVendor

pytestmark = pytest.mark.anyio

COUNT: Final = 30
BACK_WITHIN: Final = 10.0
EXITS_WITHIN: Final = 26.0


async def test_a_worker_stands_still_for_longer_than_its_lease(tmp_path: Path, url: str) -> None:
    async with MockVendor.serve(script={"rules": [{"model": "echo", "latency": 1.0}]}) as vendor:
        with fleet(tmp_path, url, vendor.url, gateways=1, workers=2, **PUBLIC_METRICS) as three:
            await three.start()
            sleeper = three.workers[0]
            ids = await three.submit_until_all_work()
            sleeper.signal(signal.SIGSTOP)
            await until_all_ended(three.gateways[0].port, ids)
            before, lost = await outcomes(three), (await three.ends())["worker_lost"]

            sleeper.signal(signal.SIGCONT)
            async with asyncio.timeout(BACK_WITHIN):
                while await zombie_writes(sleeper) < lost:
                    await asyncio.sleep(0.1)
            after = await outcomes(three)
            await until_all_ended(three.gateways[0].port, await three.submit(COUNT))
            await three.stop()

            assert 1 <= lost < len(ids)
            assert after == before
            assert await three.ends() == {"succeeded": len(ids) + COUNT, "worker_lost": lost}


async def outcomes(found: Fleet) -> list[Any]:
    return await found.rows(
        """SELECT id, status, attempt, outcome, completed_at, expires_at, encode(body, 'hex')
        FROM jobs JOIN job_result ON job = id ORDER BY id"""
    )


async def test_processes_are_replaced_under_load(tmp_path: Path, url: str) -> None:
    async with MockVendor.serve(script={"rules": [{"model": "echo", "latency": 0.3}]}) as vendor:
        with fleet(tmp_path, url, vendor.url, gateways=1, workers=2) as three:
            await three.start()
            load = Load(three.gateways[0].port, 2)
            loading = asyncio.create_task(load.run())
            for member in three.members:
                await asyncio.sleep(0.5)
                member.terminate()
                async with asyncio.timeout(EXITS_WITHIN):
                    assert await member.exit_code() == 0
                await three.start_again(member)
            await asyncio.sleep(0.5)
            load.is_over = True
            await loading
            await until_all_ended(three.gateways[0].port, load.acknowledged)
            await three.stop()
            ends = await three.ends()

            assert len(load.acknowledged) > 100
            assert load.codes.keys() <= {"shutting_down"}
            assert ends["succeeded"] >= len(load.acknowledged)
            assert ends.keys() <= {"succeeded", "released"}
            charged = (
                "SELECT count(*), sum(losses), sum(failed_attempts) FROM jobs WHERE status = 'completed'"
            )
            assert await three.rows(charged) == [(ends["succeeded"], 0, 0)]
