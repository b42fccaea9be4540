"""F11: far more requests than can be worked off. They are taken slowly or refused, and memory does not grow with them."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from support.gateway import CHAT, configuration, gateway_with_vendor, provider
from support.load import HEADERS, LARGE, Load, read, until_all_ended
from support.watching import watched
from support.wire import Connection
from tidegate.mock_vendor import MockVendor
from tidegate.store.group_commit import BatchLimits
from tidegate.store.sqlite import writer

pytestmark = pytest.mark.anyio

SECONDS: Final = 5
SUBMITTERS: Final = 50
CONCURRENCY: Final = 16
LATENCY: Final = 4
CAPACITY: Final = CONCURRENCY / LATENCY
"""Jobs per second while the flood lasts."""
MOST_GROWTH: Final = 50 * 1024
"""KiB (reliability.md F11)."""
SLOWEST_POLL: Final = 1.0
FEW: Final = 8


async def test_a_flood_is_taken_slowly_and_everything_that_was_taken_ends(tmp_path: Path) -> None:
    slots = {"concurrency_and_buffer_size": {"concurrency": CONCURRENCY}}
    async with MockVendor.serve(script={"rules": [{"model": "echo", "latency": LATENCY}]}) as vendor:
        config = configuration(tmp_path, vendor.url, providers={"openai": provider(vendor.url) | slots})
        async with watched(tmp_path, config) as target:
            await target.seen()

            async with _polling(target.process.port) as polls:
                told = await _flood(target.process.port)
            called = vendor.total
            vendor.set_script(None)
            await until_all_ended(target.process.port, told["acknowledged"])
            growth = (await target.seen()).growth

    statuses = told["statuses"]
    assert sum(statuses.values()) >= 100 * CAPACITY * SECONDS
    assert called <= 2 * CAPACITY * SECONDS, "more capacity than was said"
    assert statuses.keys() <= {"202", "429", "503"}
    assert told["unhelpful"] == 0
    assert len(told["acknowledged"]) * len(LARGE) >= 1024 * MOST_GROWTH, "so little could be kept in memory"
    assert growth <= MOST_GROWTH
    assert len(polls) >= 10 * SECONDS
    assert max(polls) <= SLOWEST_POLL


async def test_what_the_store_cannot_take_is_refused_and_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As shipped ten thousand may wait for the disk; here hardly anybody."""
    monkeypatch.setattr(writer, "BatchLimits", partial(BatchLimits, inbox_ops=FEW))
    async with gateway_with_vendor(tmp_path) as (gateway, _vendor):
        port = int(gateway.url.rpartition(":")[2])
        load = Load(port, SUBMITTERS)
        running = asyncio.create_task(load.run())
        await asyncio.sleep(1)
        load.is_over = True
        await running
        await until_all_ended(port, load.acknowledged)

    assert load.statuses.keys() == {202, 503}
    assert load.unhelpful == 0
    assert read(tmp_path / "tidegate.db", "SELECT count(*) FROM jobs") == [(len(load.acknowledged),)]


async def _flood(port: int) -> dict[str, Any]:
    arguments = [str(port), str(SUBMITTERS), str(SECONDS)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "support.flood", *arguments, stdout=-1, cwd=Path(__file__).parents[1]
    )
    told, _ = await process.communicate()
    found: dict[str, Any] = json.loads(told)
    return found


@asynccontextmanager
async def _polling(port: int) -> AsyncIterator[list[float]]:
    """Somebody asks for the same job again and again; how long each answer took, in seconds."""
    took: list[float] = []
    is_over = asyncio.Event()
    polling = asyncio.create_task(_poll(port, took, is_over.is_set))
    try:
        yield took
    finally:
        is_over.set()
        await polling


async def _poll(port: int, took: list[float], is_over: Callable[[], bool]) -> None:
    async with Connection("127.0.0.1", port) as connection:
        job = (await connection.request("POST", CHAT, HEADERS, LARGE)).headers["location"]
        while not is_over():
            began = time.perf_counter()
            answer = await connection.request("GET", job, HEADERS)
            took.append(time.perf_counter() - began)
            assert answer.status in {200, 202}
            await asyncio.sleep(0.005)
