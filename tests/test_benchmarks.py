"""The benchmarks measure what they say: their arithmetic, their honesty about stalls, and that they still run."""

import asyncio
import json
import math
import random
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from benchmarks import publishing, results
from benchmarks.load.connection import LoadFailed
from benchmarks.load.histogram import Histogram
from benchmarks.load.loops import closed_loop, open_loop
from benchmarks.load.session import Load
from benchmarks.machine.proc import Meter

pytestmark = pytest.mark.anyio

ROOT: Final = Path(__file__).resolve().parent.parent
REQUEST: Final = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"
CALM: Final = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
BROKEN: Final = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n"
STALL: Final = 0.4


@asynccontextmanager
async def server(answer: bytes = CALM, *, stalls_at: int | None = None) -> AsyncIterator[int]:
    """Answers everything; from one request on it stands still for a while, for everybody."""
    asked = 0
    stalled = asyncio.Event()
    stalled.set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                asked += 1
                if asked == stalls_at:
                    stalled.clear()
                    asyncio.get_running_loop().call_later(STALL, stalled.set)
                await stalled.wait()
                writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield listening.sockets[0].getsockname()[1]


def load_on(port: int) -> Load:
    return Load(port, lambda: REQUEST, connections=4)


def test_percentiles_are_those_of_the_sorted_values() -> None:
    chance = random.Random(1)
    values = sorted(int(chance.expovariate(1 / 3000)) for _ in range(20_000))
    histogram = Histogram()
    for value in values:
        histogram.record(value)

    for share in (0.5, 0.9, 0.99, 0.999):
        exact = values[math.ceil(share * len(values)) - 1]
        assert abs(histogram.percentile(share) - exact) <= max(1, exact / 1000), (share, exact)
    assert histogram.longest == values[-1]
    assert histogram.count == len(values)


async def test_whoever_had_to_wait_for_a_stalled_server_is_counted_from_when_it_was_to_be_sent() -> None:
    """With a closed loop four requests would show the stall; on schedule some forty percent do."""
    async with server(stalls_at=50) as port:
        sample = await open_loop(load_on(port), Meter([], []), 1.0, rate=500)

    assert sample.count == pytest.approx(500, abs=25)
    assert sample.latency is not None
    assert sample.latency.max >= STALL * 1000 * 0.9
    assert sample.latency.p90 >= STALL * 1000 * 0.5


async def test_a_server_that_fails_makes_the_run_fail_and_no_figure() -> None:
    async with server(BROKEN) as port:
        with pytest.raises(LoadFailed, match="answered 500"):
            await closed_loop(load_on(port), Meter([], []), 0.2)


def test_the_published_tables_are_those_of_the_published_run() -> None:
    found = results.read(results.LATEST)

    for path, text in publishing.pages(ROOT, found).items():
        assert path.read_text("utf-8") == text, f"{path.name}: run python -m benchmarks publish"


def test_a_run_from_end_to_end(tmp_path: Path) -> None:
    place = tmp_path / "results.json"
    disk = ROOT / ".cache" / "bench"
    command = [sys.executable, "-m", "benchmarks", "run", "store", "credentials", "--quick", "--rounds", "1"]
    done = subprocess.run(
        [*command, "--seconds", "0.2", "--json", str(place), "--directory", str(disk)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    found = json.loads(place.read_text("utf-8"))
    assert [report["scenario"] for report in found["reports"]] == ["store", "credentials"]
    assert all(report["checks"] and not report.get("failure") for report in found["reports"])
    assert "accept with 64 waiting, of (c)" in done.stdout
