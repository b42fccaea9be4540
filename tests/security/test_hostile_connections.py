"""F31, F33: two thousand connections that mean no good, and other clients of the same address who notice nothing."""

import asyncio
import json
import resource
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from support.gateway import CHAT, KEY, configuration, provider
from support.hostile import AT_ONCE, BODIES, HEADERS, READERS
from support.load import BODY
from support.load import HEADERS as OURS
from support.processes import gateway_process
from support.watching import MOST_MEMORY, WatchedGateway, watched
from support.wire import Connection
from tidegate.api.connection_watch import DEFAULT_LIMITS, ConnectionLimits
from tidegate.mock_vendor import MockVendor

pytestmark = pytest.mark.anyio

DESCRIPTORS: Final = 8192
ROUNDS: Final = 3
REQUESTS: Final = 150
NOISE: Final = 0.005
"""Seconds below which a p99 says more about the machine than about us."""
SLOT: Final = {"concurrency_and_buffer_size": {"concurrency": 1}}
MEMORY_OF_EACH: Final = 256
"""KiB a hostile connection may cost, its unread answer included."""
HASTY: Final = ConnectionLimits(time_for_headers=1, most_without_headers=10_000)
PATIENT: Final = ConnectionLimits(time_for_headers=1e9, most_without_headers=10_000)
FEW_DESCRIPTORS: Final = 128


@pytest.fixture(autouse=True)
def enough_descriptors() -> Iterator[None]:
    """For us, and for the processes we start."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(DESCRIPTORS, hard), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
async def target(tmp_path: Path) -> AsyncIterator[WatchedGateway]:
    async with MockVendor.serve() as vendor:
        config = configuration(tmp_path, vendor.url, providers={"openai": provider(vendor.url) | SLOT})
        async with watched(tmp_path, config) as target:
            yield target


@contextmanager
def hostile(port: int) -> Iterator[subprocess.Popen[bytes]]:
    """All of them connected; whoever ends its input is told what became of them."""
    process = subprocess.Popen(
        [sys.executable, "-m", "support.hostile", str(port), KEY],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[1],
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"open\n"
        yield process
    finally:
        process.kill()
        process.communicate()


async def p99(port: int) -> float:
    """Of a well-behaved client that submits and polls, in seconds: the best of some rounds."""
    return min([await _round(port) for _ in range(ROUNDS)])


async def _round(port: int) -> float:
    took = []
    async with Connection("127.0.0.1", port) as connection:
        for _ in range(REQUESTS):
            began = time.perf_counter()
            answer = await connection.request("POST", CHAT, OURS, BODY)
            assert answer.status == 202
            assert (await connection.request("GET", answer.headers["location"], OURS)).status in {200, 202}
            took.append(time.perf_counter() - began)
    return sorted(took)[int(REQUESTS * 0.99)]


async def test_two_thousand_hostile_connections_hurt_nobody_else(target: WatchedGateway) -> None:
    port = target.process.port
    before = await p99(port)
    await target.seen()

    with hostile(port) as process:
        opened = time.monotonic()
        during = await p99(port)
        growth = (await target.seen()).growth
        await asyncio.sleep(max(0, opened + DEFAULT_LIMITS.time_for_headers + 2 - time.monotonic()))
        told, _ = await asyncio.to_thread(process.communicate, b"")

    closed = json.loads(told)
    assert during <= 2 * max(before, NOISE), (before, during)
    assert growth <= MOST_MEMORY + MEMORY_OF_EACH * len(closed)
    assert all(closed[:HEADERS]), "headers are waited for so long, and no longer"
    assert not any(closed[HEADERS : HEADERS + BODIES]), "a body has more time"
    assert not any(closed[-READERS:]), "and so has an answer that is not read"


async def test_only_the_oldest_without_headers_make_room(target: WatchedGateway) -> None:
    with hostile(target.process.port) as process:
        told, _ = await asyncio.to_thread(process.communicate, b"")

    closed = json.loads(told)
    evicted = sum(closed)
    too_many = HEADERS - DEFAULT_LIMITS.most_without_headers
    assert too_many <= evicted <= too_many + AT_ONCE, "who has only just connected counts as well"
    assert all(closed[:evicted])


async def test_it_is_these_limits_that_end_them(tmp_path_factory: pytest.TempPathFactory) -> None:
    """With room and time for everybody they would all stay; then the tests above would prove nothing."""
    hasty, patient = await asyncio.gather(
        _closed_within(HASTY, tmp_path_factory.mktemp("hasty")),
        _closed_within(PATIENT, tmp_path_factory.mktemp("patient")),
    )

    assert all(hasty[:HEADERS])
    assert not any(hasty[HEADERS:])
    assert not any(patient)


async def _closed_within(limits: ConnectionLimits, directory: Path) -> list[bool]:
    async with watched(directory, configuration(directory, "http://127.0.0.1:9"), limits) as target:
        with hostile(target.process.port) as process:
            await asyncio.sleep(HASTY.time_for_headers + HASTY.look_every + 1)
            told, _ = await asyncio.to_thread(process.communicate, b"")
    closed: list[bool] = json.loads(told)
    return closed


async def test_without_descriptors_it_waits_and_goes_on_when_there_are_some(tmp_path: Path) -> None:
    """F33: more clients than the process may have open files."""
    with gateway_process(tmp_path, configuration(tmp_path, "http://127.0.0.1:9")) as gateway:
        await gateway.start()
        resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE, (FEW_DESCRIPTORS, FEW_DESCRIPTORS))
        lines = [await asyncio.open_connection("127.0.0.1", gateway.port) for _ in range(200)]
        async with asyncio.timeout(10):
            while _descriptors(gateway.pid) < FEW_DESCRIPTORS:
                await asyncio.sleep(0.01)
        worked = _cpu_seconds(gateway.pid)
        await asyncio.sleep(1)
        worked = _cpu_seconds(gateway.pid) - worked
        for _, writer in lines:
            writer.close()

        async with asyncio.timeout(10), Connection("127.0.0.1", gateway.port) as connection:
            answer = await connection.request("POST", CHAT, OURS, BODY)

    assert worked < 0.5, "it spins"
    assert answer.status == 202


def _descriptors(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100
