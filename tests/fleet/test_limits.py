"""What a vendor allows holds for the fleet as a whole, and nearly all of it is used."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from support.fleet import Fleet, fleet
from support.gateway import CHAT, provider
from support.load import BODY, HEADERS
from support.wire import Connection
from tidegate.mock_vendor import MockVendor

pytestmark = pytest.mark.anyio

CONCURRENT: Final = 50
PER_SECOND: Final = 20
WINDOW: Final = 10.0
LEASE: Final = 12.0
SUBMITTERS: Final = 10


def limited(url: str, **limits: int) -> dict[str, Any]:
    return {"openai": provider(url, concurrency_and_buffer_size={"concurrency": CONCURRENT} | limits)}


async def submit(found: Fleet, count: int) -> None:
    async def some() -> None:
        async with Connection("127.0.0.1", found.gateways[0].port) as connection:
            for _ in range(count // SUBMITTERS):
                assert (await connection.request("POST", CHAT, HEADERS, BODY)).status == 202

    await asyncio.gather(*[some() for _ in range(SUBMITTERS)])


async def in_flight_for(vendor: MockVendor, seconds: float) -> list[int]:
    """Sampled every 20 ms."""
    seen = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        seen.append(vendor.in_flight)
        await asyncio.sleep(0.02)
    return seen


def mean(values: Sequence[int]) -> float:
    return sum(values) / len(values)


async def test_calls_at_once(tmp_path: Path, url: str) -> None:
    async with MockVendor.serve(script={"rules": [{"model": "echo", "latency": 0.5}]}) as vendor:
        with fleet(tmp_path, url, vendor.url, gateways=1, workers=4, providers=limited(vendor.url)) as five:
            await five.start()
            await submit(five, 4000)
            await asyncio.sleep(2)
            steady = await in_flight_for(vendor, 5)

            five.workers[0].kill()
            await asyncio.sleep(LEASE + 2)
            again = await in_flight_for(vendor, 4)

            await five.start_again(five.workers[0])
            joined = await in_flight_for(vendor, 6)

    assert max(steady + again + joined) <= CONCURRENT
    assert mean(steady) >= 0.9 * CONCURRENT
    assert mean(again) >= 0.9 * CONCURRENT
    assert mean(joined[-100:]) >= 0.9 * CONCURRENT


async def test_calls_per_minute(tmp_path: Path, url: str) -> None:
    async with MockVendor.serve(script={"rules": [{"model": "echo", "latency": 0.2}]}) as vendor:
        providers = limited(vendor.url, requests_per_minute=60 * PER_SECOND)
        with fleet(tmp_path, url, vendor.url, gateways=1, workers=4, providers=providers) as five:
            await five.start()
            await submit(five, 800)
            began = time.time() + 1
            await asyncio.sleep(14)
            five.workers[0].kill()
            killed = time.time()
            await asyncio.sleep(LEASE + 5)
            ended = time.time()
            times = sorted(call.at.timestamp() for call in vendor.calls())

    most = max(sum(at <= other < at + WINDOW for other in times) for at in times)
    assert most <= 1.05 * PER_SECOND * WINDOW
    whole = sum(began <= at < killed for at in times)
    assert whole >= 0.9 * PER_SECOND * (killed - began)
    restored = sum(ended - 3 <= at < ended for at in times)
    assert restored >= 0.9 * PER_SECOND * 3
