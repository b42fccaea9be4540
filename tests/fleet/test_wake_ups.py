"""Who waits at one process hears of what another one did: at once where notifications work, soon where they do not."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from support.fleet import Fleet, fleet
from support.gateway import CHAT
from support.load import BODY, HEADERS
from support.wire import Connection
from tidegate.mock_vendor import MockVendor

pytestmark = pytest.mark.anyio


async def waits(found: Fleet, count: int) -> list[float]:
    """Seconds from the end of a job, at a worker, to the answer of the gateway that held it. Same machine, same clock."""
    took = []
    async with Connection("127.0.0.1", found.gateways[0].port) as connection:
        for _ in range(count):
            answer = await connection.request("POST", CHAT, {**HEADERS, "prefer": "wait=30"}, BODY)
            answered = time.time()
            assert answer.status == 200
            ((completed,),) = await found.rows(
                "SELECT completed_at / 1000.0 FROM jobs WHERE id = $1", answer.json()["id"]
            )
            took.append(answered - float(completed))
    return sorted(took)


async def measured(directory: Path, url: str, count: int, **sections: Any) -> list[float]:
    async with MockVendor.serve(script={"rules": [{"model": "echo", "latency": 0.05}]}) as vendor:
        with fleet(directory, url, vendor.url, gateways=1, workers=1, **sections) as two:
            await two.start()
            found = await waits(two, count)
            await two.stop()
    return found


async def test_a_notification_ends_the_wait_at_once(tmp_path: Path, url: str) -> None:
    took = await measured(tmp_path, url, 40)

    assert took[-3] <= 0.1, "the 95th percentile"


async def test_without_notifications_it_ends_soon(tmp_path: Path, url: str) -> None:
    took = await measured(tmp_path, url, 4, store={"listen_url": ""})

    assert took[-1] <= 2.5
    assert took[-1] > 0.1, "somebody has told them after all"


async def test_lines_that_the_server_cuts_are_replaced_the_listeners_too(tmp_path: Path, url: str) -> None:
    async with MockVendor.serve(script={"rules": [{"model": "echo", "latency": 0.05}]}) as vendor:
        with fleet(tmp_path, url, vendor.url, gateways=1, workers=1) as two:
            await two.start()
            ended = await two.rows(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'tidegate'"
            )
            await asyncio.sleep(3)
            took = await waits(two, 5)
            await two.stop()

    assert ended[0][0] >= 6
    assert took[-1] <= 0.2


async def test_cancelled_at_a_gateway_the_call_of_a_worker_is_closed(tmp_path: Path, url: str) -> None:
    async with MockVendor.serve(script={"rules": [{"model": "echo", "hang": "before_headers"}]}) as vendor:
        with fleet(tmp_path, url, vendor.url, gateways=1, workers=1) as two:
            await two.start()
            async with Connection("127.0.0.1", two.gateways[0].port) as connection:
                job = (await connection.request("POST", CHAT, HEADERS, BODY)).json()["id"]
                async with asyncio.timeout(5):
                    while vendor.in_flight == 0:
                        await asyncio.sleep(0.01)
                began = time.monotonic()
                answer = await connection.request("POST", f"/v1/async/jobs/{job}/cancel", HEADERS)
                assert answer.status == 200
                async with asyncio.timeout(5):
                    while vendor.in_flight:
                        await asyncio.sleep(0.01)
            took = time.monotonic() - began
            await two.stop()

    assert took < 1
