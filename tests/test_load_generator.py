"""The load generator is honest: its arithmetic, stalls that count for everybody who waited, servers that fail."""

import asyncio
import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import pytest

from benchmarks.load import session
from benchmarks.load.connection import LoadFailed
from benchmarks.load.histogram import Histogram
from benchmarks.load.loops import Schedule, closed_loop, one_at_a_time, open_loop, send_all
from benchmarks.load.session import Load
from benchmarks.machine.proc import Meter
from benchmarks.samples import Latency

pytestmark = pytest.mark.anyio

REQUEST: Final = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"
CALM: Final = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
BROKEN: Final = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n"
GARBAGE: Final = b"no HTTP at all\r\n\r\n"
SILENCE: Final = b""
HANGS_UP: Final = None
STALL: Final = 0.4
SECOND: Final = 10**9

LOOPS: Final = {
    "closed": lambda load: closed_loop(load, Meter([], []), 0.1, warm_up=0.05),
    "open": lambda load: open_loop(load, Meter([], []), 0.1, rate=200),
    "send all": lambda load: send_all(load, 20),
    "one at a time": lambda load: one_at_a_time(load, 5, 0.001),
}
EveryLoop: Final = pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)
Loop = Callable[[Load], Awaitable[object]]


@asynccontextmanager
async def server(answer: bytes | None = CALM, *, stalls_at: int | None = None) -> AsyncIterator[int]:
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
                if answer is HANGS_UP:
                    return
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


def latency(of: Latency | None) -> Latency:
    assert of is not None
    return of


class TestHistogram:
    def test_percentiles_are_those_of_the_sorted_values(self) -> None:
        chance = random.Random(1)
        values = sorted(int(chance.expovariate(1 / 3000)) for _ in range(20_000))
        histogram = Histogram()
        for value in values:
            histogram.record(value)

        for share in (0.001, 0.5, 0.9, 0.99, 0.999, 1.0):
            exact = values[math.ceil(share * len(values)) - 1]
            assert abs(histogram.percentile(share) - exact) <= max(1, exact / 1000), (share, exact)
        assert histogram.longest == values[-1]
        assert histogram.count == len(values)

    @pytest.mark.parametrize("value", [0, 1, 2047, 2048, 2049, 4095, 4096, 10**6, 2**31, 2**32 - 1])
    def test_a_value_is_found_again_with_three_digits(self, value: int) -> None:
        histogram = Histogram()
        histogram.record(value)
        histogram.record(2**32 - 1)

        assert value <= histogram.percentile(0.5) <= value * (1 + 1 / 1024)

    def test_what_no_bucket_holds_goes_to_the_nearest(self) -> None:
        histogram = Histogram()
        for value in (-5, 2**40):
            histogram.record(value)

        assert (histogram.percentile(0.5), histogram.percentile(1.0)) == (0, 2**32 - 1)

    def test_nothing_recorded_is_zero(self) -> None:
        assert Histogram().percentile(0.99) == 0


class TestStalls:
    def test_the_schedule_catches_up_with_every_time_that_was_missed(self) -> None:
        schedule = Schedule(rate=100, start=0)
        first = list(schedule.due(0))

        after_a_stall = list(schedule.due(SECOND))

        assert first == [0]
        assert after_a_stall == [number * SECOND // 100 for number in range(1, 101)]

    async def test_whoever_had_to_wait_is_counted_from_when_it_was_to_be_sent(self) -> None:
        async with server(stalls_at=50) as port:
            sample = await open_loop(load_on(port), Meter([], []), 1.0, rate=500)

        assert sample.count == pytest.approx(500, abs=25)
        assert latency(sample.latency).max >= STALL * 1000 * 0.9
        assert latency(sample.latency).p90 >= STALL * 1000 * 0.5

    async def test_control_a_closed_loop_hides_the_same_stall(self) -> None:
        """Its four connections wait, and nobody counts the requests that they did not send meanwhile."""
        async with server(stalls_at=50) as port:
            sample = await closed_loop(load_on(port), Meter([], []), 1.0, warm_up=0.0)

        assert latency(sample.latency).max >= STALL * 1000 * 0.9
        assert latency(sample.latency).p90 < STALL * 1000 * 0.1

    async def test_a_stall_at_the_end_loses_no_request(self) -> None:
        """Those that could not be sent within the time are sent, and counted, after it."""
        async with server(stalls_at=240) as port:
            sample = await open_loop(load_on(port), Meter([], []), 0.5, rate=500)

        assert sample.count == pytest.approx(250, abs=10)


class TestServersThatFail:
    @EveryLoop
    async def test_another_status_ends_the_run(self, loop: Loop) -> None:
        async with server(BROKEN) as port:
            with pytest.raises(LoadFailed, match="answered 500"):
                await loop(load_on(port))

    @EveryLoop
    async def test_a_closed_connection_ends_the_run(self, loop: Loop) -> None:
        async with server(HANGS_UP) as port:
            with pytest.raises(LoadFailed, match="closed a connection"):
                await loop(load_on(port))

    @EveryLoop
    async def test_silence_ends_the_run(self, loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(session, "_MOST_LATE", 0.2)
        async with server(SILENCE) as port:
            async with asyncio.timeout(5):
                with pytest.raises(LoadFailed, match="got no answer"):
                    await loop(load_on(port))

    @EveryLoop
    async def test_what_is_not_http_ends_the_run(self, loop: Loop) -> None:
        async with server(GARBAGE) as port:
            with pytest.raises(LoadFailed, match="could not be read"):
                await loop(load_on(port))

    @EveryLoop
    async def test_control_a_calm_server_does_not(self, loop: Loop) -> None:
        async with server() as port:
            await loop(load_on(port))
