"""Bodies made to harm end in a documented refusal, or are taken where they are legal – and nobody waits for them.

The gateway is a process of its own that watches its event loop and its memory.
"""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Awaitable

import httpx2
import pytest

from api.bombs import BROKEN, COMPRESSED, HONEST, LIMIT, MEBIBYTE, SHAPES, Bomb
from api.raw import parse
from api.refusals import assert_refused
from api.world import SCRIPT
from support.gateway import CHAT, KEY, chat, configuration, provider
from support.watched_gateway import BEAT, Watch
from support.watching import LONGEST_PAUSE, MOST_MEMORY, WatchedGateway, watched
from tidegate.mock_vendor import MockVendor

pytestmark = pytest.mark.anyio

TRIES = 3
"""A body that blocks the loop does so every time; what else the machine does at the moment, it does not."""


@pytest.fixture(scope="module")
async def target(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[WatchedGateway]:
    """What it accepts it keeps: one job holds the only place in the lane, so that no work mixes with the attack."""
    directory = tmp_path_factory.mktemp("target")
    async with MockVendor.serve(script=SCRIPT) as vendor:
        one_at_a_time = provider(vendor.url, concurrency_and_buffer_size={"concurrency": 1})
        config = configuration(directory, vendor.url, providers={"openai": one_at_a_time})
        async with watched(directory, config) as target:
            (await target.client.post(CHAT, json=chat("openai/held"))).raise_for_status()
            async with asyncio.timeout(20):
                while vendor.in_flight < 1:
                    await asyncio.sleep(0.01)
            yield target


def bombs(table: dict[str, Bomb]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("bomb", table.values(), ids=table.keys())


async def check(target: WatchedGateway, bomb: Bomb) -> None:
    body = bomb.body()
    bound = max(len(body), bomb.inside) // 1024 + MOST_MEMORY
    pauses, growths = [], []
    for _ in range(TRIES):
        await target.seen()
        response = await target.client.post(CHAT, content=body, headers=bomb.headers)
        seen = await target.seen()

        if bomb.code is None:
            assert response.status_code == 202, response.text
        else:
            assert_refused(response, bomb.code)
            assert bomb.problem in response.json()["error"]["message"]
        pauses.append(seen.pause)
        growths.append(seen.growth)
        if pauses[-1] <= LONGEST_PAUSE and growths[-1] <= bound:
            break
    assert min(pauses) <= LONGEST_PAUSE, pauses
    assert min(growths) <= bound, (growths, bound)


@bombs(SHAPES)
async def test_6_a_harmful_shape_is_too_complex(target: WatchedGateway, bomb: Bomb) -> None:
    await check(target, bomb)


@bombs(BROKEN)
async def test_6_what_is_no_json_is_refused(target: WatchedGateway, bomb: Bomb) -> None:
    await check(target, bomb)


@bombs(COMPRESSED)
async def test_6_compression_hides_nothing(target: WatchedGateway, bomb: Bomb) -> None:
    await check(target, bomb)


@bombs(HONEST)
async def test_6_honest_bodies_are_taken_and_block_nobody(target: WatchedGateway, bomb: Bomb) -> None:
    await check(target, bomb)


class TestTooLarge:
    """A hundred megabytes of empty lists, of which the gateway reads its limit at most."""

    async def test_32_an_announced_length_is_refused_before_the_body(self, target: WatchedGateway) -> None:
        await target.seen()

        answer = await self._sent(target, f"Content-Length: {100 * MEBIBYTE}", [b"[[],"])
        seen = await target.seen()

        assert_refused(answer, "request_too_large")
        assert answer.headers["connection"] == "close"
        assert seen.growth <= 8 * 1024

    async def test_32_an_unannounced_one_at_the_limit(self, target: WatchedGateway) -> None:
        part = b"[]," * 2**18
        chunk = b"%x\r\n%b\r\n" % (len(part), part)
        await target.seen()

        answer = await self._sent(
            target, "Transfer-Encoding: chunked", [chunk] * (100 * MEBIBYTE // len(part))
        )
        seen = await target.seen()

        assert_refused(answer, "request_too_large")
        assert seen.growth <= LIMIT // 1024 + MOST_MEMORY
        assert seen.pause <= LONGEST_PAUSE

    async def _sent(self, target: WatchedGateway, framing: str, parts: list[bytes]) -> httpx2.Response:
        head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n{framing}\r\n\r\n"
        return parse(await asyncio.to_thread(_insist, target.process.port, [head.encode(), *parts]))


def _insist(port: int, parts: list[bytes]) -> bytes:
    """Send until the other side will not have it, then read what it said; asyncio would drop that."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        with contextlib.suppress(ConnectionError):
            for part in parts:
                connection.sendall(part)
        said = b""
        while not said.endswith(b"}}"):
            more = connection.recv(65536)
            assert more, said
            said += more
        return said


async def test_32_the_gateway_is_as_good_as_before(target: WatchedGateway) -> None:
    """After all of it: others are served, and what was taken is there."""
    fresh = await target.client.post(CHAT, json={"model": "openai/echo", "messages": [{"role": "user"}]})
    health = await target.client.get("/readyz")

    assert fresh.status_code == 202
    assert (await target.client.get(fresh.headers["location"])).json() == fresh.json()
    assert health.status_code == 200


class TestWatch:
    """What these tests stand on: a blocked loop is seen, whoever blocks it, and a busy machine is not."""

    async def test_work_on_the_loop_is_a_pause(self) -> None:
        async def work() -> None:
            _keep_the_interpreter()

        assert await longest_pause_during(work()) >= 2 * LONGEST_PAUSE

    async def test_a_thread_that_keeps_the_interpreter_is_one_too(self) -> None:
        assert await longest_pause_during(asyncio.to_thread(_keep_the_interpreter)) >= 2 * LONGEST_PAUSE

    async def test_waiting_for_the_machine_is_none(self) -> None:
        async def wait() -> None:
            time.sleep(4 * LONGEST_PAUSE)  # noqa: ASYNC251 – as if somebody else had the processor

        assert await longest_pause_during(wait()) < LONGEST_PAUSE


def _keep_the_interpreter() -> None:
    """One step of the interpreter that takes far longer than a pause may."""
    sum(range(20_000_000))


async def longest_pause_during(work: Awaitable[None]) -> float:
    watch = Watch()
    beating = asyncio.create_task(watch.beat())
    await asyncio.sleep(10 * BEAT)
    await work
    await asyncio.sleep(10 * BEAT)
    beating.cancel()
    return watch.longest
