"""Pulling the plug under load: nothing that was answered 202 may be lost, nothing may end twice.

``TIDEGATE_KILLS`` says how often.
"""

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from support.gateway import CHAT, configuration, provider
from support.load import BODY, HEADERS, Load, read, until_all_ended
from support.processes import GatewayProcess, gateway_process
from support.wire import Answer, Connection
from tidegate.mock_vendor import MockVendor

pytestmark = pytest.mark.anyio

ROUNDS = int(os.environ.get("TIDEGATE_KILLS", "20"))
SUBMITTERS = 50


@pytest.fixture
async def vendor() -> AsyncIterator[MockVendor]:
    async with MockVendor.serve(script={"rules": [{"model": "echo", "latency": 0.02}]}) as running:
        yield running


def store_of(gateway: GatewayProcess) -> Path:
    return gateway.directory / "tidegate.db"


async def test_twenty_kills_under_load_lose_nothing(
    tmp_path: Path, vendor: MockVendor, record_property: Callable[[str, object], None]
) -> None:
    chance = random.Random(7)
    config = configuration(
        tmp_path,
        vendor.url,
        **{"async": {"worker_loss_budget": 100}},  # these kills are ours, not the jobs'
    )
    with gateway_process(tmp_path, config) as gateway:
        load = Load(gateway.port, SUBMITTERS)
        await gateway.start()
        loading = asyncio.create_task(load.run())
        restarts: list[float] = []
        for _ in range(ROUNDS):
            await asyncio.sleep(chance.uniform(0.1, 1.2))
            gateway.kill()
            await gateway.start()
            restarts.append(gateway.listening_at)
        await asyncio.sleep(0.5)
        load.is_over = True
        await loading
        await until_all_ended(gateway.port, load.acknowledged)
        gateway.terminate()
        assert await gateway.exit_code() == 0

    record_property("tried", len(restarts))
    assert len(load.acknowledged) == len(set(load.acknowledged)) > 1000
    successes = read(store_of(gateway), "SELECT count(*) FROM attempts WHERE end = 'succeeded' GROUP BY job")
    assert {count for (count,) in successes} == {1}
    ((stored, results),) = read(
        store_of(gateway), "SELECT (SELECT count(*) FROM jobs), (SELECT count(*) FROM job_result)"
    )
    assert stored == results == len(successes) >= len(load.acknowledged)
    claims = [row[0] / 1000 for row in read(store_of(gateway), "SELECT started_at FROM attempts")]
    for listening_at in restarts:
        assert min(claim for claim in claims if claim >= listening_at - 0.5) < listening_at + 1


async def test_sigterm_under_load_drains_and_charges_nobody(tmp_path: Path) -> None:
    slow = {"rules": [{"model": "slow", "latency": 3.0}, {"model": "endless", "hang": "before_headers"}]}
    async with MockVendor.serve(script=slow) as vendor:
        config = configuration(
            tmp_path,
            vendor.url,
            server={"drain_timeout": "5s"},
            providers={"openai": provider(vendor.url, concurrency_and_buffer_size={"concurrency": 40})},
        )
        with gateway_process(tmp_path, config) as gateway:
            await gateway.start()
            async with Connection("127.0.0.1", gateway.port) as connection:
                ids = []
                for model in ("slow", "endless") * 30:  # 40 run, 20 wait
                    body = BODY.replace(b"openai/echo", f"openai/{model}".encode())
                    answer = await connection.request("POST", CHAT, HEADERS, body)
                    assert answer.status == 202
                    ids.append(answer.json()["id"])
                held = asyncio.create_task(poll_for_long(gateway.port, ids[-1]))
                while vendor.in_flight < 40:
                    await asyncio.sleep(0.02)

                began = time.monotonic()
                gateway.terminate()
                refused = await eventually_refused(gateway.port)
                code = await gateway.exit_code()
                took = time.monotonic() - began

            assert code == 0
            assert took < 6
            assert refused.json()["error"]["code"] == "shutting_down"
            assert (await held).status == 202
            ends = Counter(row[0] for row in read(store_of(gateway), "SELECT end FROM attempts"))
            assert ends == {"succeeded": 20, "released": 20}
            charged = read(
                store_of(gateway),
                "SELECT count(*) FROM jobs WHERE failed_attempts > 0 OR losses > 0 OR status = 'processing'",
            )
            assert charged == [(0,)]
            ((waiting,),) = read(store_of(gateway), "SELECT count(*) FROM jobs WHERE status = 'pending'")
            assert waiting == 40

            vendor.set_script({"rules": []})
            await gateway.start()
            await until_ended_somehow(gateway.port, ids)


async def poll_for_long(port: int, job_id: str) -> Answer:
    async with Connection("127.0.0.1", port) as connection:
        return await connection.request("GET", f"{CHAT}/{job_id}", {**HEADERS, "prefer": "wait=60"})


async def eventually_refused(port: int) -> Answer:
    """The first submit that is refused once the signal has arrived."""
    async with Connection("127.0.0.1", port) as connection:
        while True:
            answer = await connection.request("POST", CHAT, HEADERS, BODY)
            if answer.status != 202:
                assert answer.status == 503
                assert "retry-after" in answer.headers
                return answer


async def until_ended_somehow(port: int, ids: list[str]) -> None:
    async with Connection("127.0.0.1", port) as connection:
        for job_id in ids:
            answer = await connection.request("GET", f"{CHAT}/{job_id}", {**HEADERS, "prefer": "wait=30"})
            assert answer.status == 200, answer.body
            assert answer.json()["status"] == "completed"


async def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    async with MockVendor.serve(script={"rules": [{"model": "*", "hang": "before_headers"}]}) as vendor:
        with gateway_process(tmp_path, configuration(tmp_path, vendor.url)) as gateway:
            await gateway.start()
            async with Connection("127.0.0.1", gateway.port) as connection:
                await connection.request("POST", CHAT, HEADERS, BODY)
            while vendor.in_flight < 1:
                await asyncio.sleep(0.02)
            gateway.terminate()
            await eventually_refused(gateway.port)

            began = time.monotonic()
            gateway.terminate()

            assert await gateway.exit_code() == 130
            assert time.monotonic() - began < 2
