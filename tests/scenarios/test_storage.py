"""What clients see of a disk that is full, and of one that breaks."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.gateway import CHAT, KEY, RunningGateway, chat, configuration, gateway_with_vendor
from support.processes import gateway_process, held
from support.wire import Answer, Connection
from tidegate.mock_vendor import MockVendor

pytestmark = pytest.mark.anyio

HEADERS = {"authorization": f"Bearer {KEY}"}
BODY = b'{"model":"openai/echo","messages":[{"role":"user","content":"hi"}]}'


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    async with gateway_with_vendor(tmp_path) as (running, _vendor):
        yield running


async def test_a_full_disk_refuses_submits_and_heals(gateway: RunningGateway) -> None:
    ended = await gateway.accepted()
    await gateway.ended(ended)
    connection = gateway.sqlite._writer._connection
    connection.pragma("max_page_count", connection.pragma("page_count"))

    refused = await gateway.submit(chat(text="x" * 500_000))

    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "storage_full"
    assert refused.json()["error"]["message"] == "the store is full; nothing was stored"
    assert int(refused.headers["retry-after"]) >= 1
    assert (await gateway.submit()).status_code == 503
    assert (await gateway.poll(ended)).status_code == 200
    ready = await gateway.client.get("/readyz")
    assert (ready.status_code, ready.json()["error"]["code"]) == (503, "storage_unavailable")
    assert (await gateway.client.get("/healthz")).status_code == 200

    connection.pragma("max_page_count", 2**31)
    async with asyncio.timeout(10):
        while (await gateway.submit()).status_code == 503:
            await asyncio.sleep(0.2)
    assert (await gateway.run())["status"] == "completed"


async def test_an_ending_waits_for_room(tmp_path: Path) -> None:
    script = {"rules": [{"model": "echo", "latency": 0.5, "size": 300_000}]}
    async with gateway_with_vendor(tmp_path, script) as (gateway, vendor):
        job_id = await gateway.accepted()
        while vendor.in_flight < 1:
            await asyncio.sleep(0.01)
        connection = gateway.sqlite._writer._connection
        connection.pragma("max_page_count", connection.pragma("page_count"))
        while vendor.in_flight:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        assert (await gateway.poll(job_id)).json()["status"] == "processing"

        connection.pragma("max_page_count", 2**31)

        assert (await gateway.ended(job_id))["status"] == "completed"
        assert vendor.total == 1


async def test_a_database_that_somebody_holds_makes_submits_wait_and_then_no_more(
    gateway: RunningGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidegate.store.sqlite.writer.BUSY_TIMEOUT_MS", 500)
    ended = await gateway.accepted()
    await gateway.ended(ended)

    with held(tmp_path / "tidegate.db"):
        for _ in range(3):
            began = time.monotonic()
            refused = await asyncio.gather(*[gateway.submit() for _ in range(5)])
            assert time.monotonic() - began < 1.5
            assert {(answer.status_code, answer.json()["error"]["code"]) for answer in refused} == {
                (503, "store_busy")
            }
            assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
        assert (await gateway.poll(ended)).status_code == 200
        assert (await gateway.client.get("/healthz")).status_code == 200
        under_way = [asyncio.create_task(gateway.submit()) for _ in range(5)]

    assert {answer.status_code for answer in await asyncio.gather(*under_way)} <= {202, 503}
    assert (await gateway.run())["status"] == "completed"


async def test_a_broken_disk_ends_the_process_rather_than_lying(tmp_path: Path) -> None:
    async with MockVendor.serve() as vendor:
        with gateway_process(tmp_path, configuration(tmp_path, vendor.url)) as gateway:
            await gateway.start("support.faulty_gateway")
            async with Connection("127.0.0.1", gateway.port) as connection:
                stored = (await connection.request("POST", CHAT, HEADERS, BODY)).json()["id"]
                await connection.request("GET", f"{CHAT}/{stored}", {**HEADERS, "prefer": "wait=10"})
            gateway.signal(signal.SIGUSR1)
            began = time.monotonic()
            answers = await asyncio.gather(*[submit(gateway.port) for _ in range(5)])

            assert await gateway.exit_code() == 4
            assert time.monotonic() - began < 1
            codes = {answer.json()["error"]["code"] for answer in answers if answer is not None}
            assert "commit_unknown" in codes
            assert {answer.status for answer in answers if answer is not None} == {503}

            await gateway.start()
            async with Connection("127.0.0.1", gateway.port) as connection:
                kept = await connection.request("GET", f"{CHAT}/{stored}", HEADERS)
                fresh = await connection.request("POST", CHAT, HEADERS, BODY)
            assert kept.json()["status"] == "completed"
            assert fresh.status == 202


async def submit(port: int) -> Answer | None:
    """The answer, or nothing where the process was gone already."""
    try:
        async with Connection("127.0.0.1", port) as connection:
            return await connection.request("POST", CHAT, HEADERS, BODY)
    except (OSError, asyncio.IncompleteReadError):
        return None
