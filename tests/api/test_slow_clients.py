"""Clients that take their time, or never come to an end: how long they are waited for (F31, security.md §8)."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from api.line import AUTHORIZED, HEALTH, SUBMIT, Line
from api.raw import parse
from api.refusals import assert_refused
from api.world import config_of
from support.gateway import CHAT, RunningGateway, chat, running
from tidegate.api.connection_watch import ConnectionLimits
from tidegate.api.protocol import GatewayProtocol
from tidegate.mock_vendor import MockVendor
from tidegate.serving import bind

pytestmark = pytest.mark.anyio

HASTY = ConnectionLimits(
    time_for_headers=0.3,
    most_without_headers=20,
    between_requests=0.3,
    between_parts=0.3,
    grace=0.3,
    without_reading=0.3,
    lingering=0.3,
    look_every=0.05,
)


@pytest.fixture(scope="module")
async def hasty(
    vendor: MockVendor, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningGateway]:
    """A gateway with little patience."""
    directory = tmp_path_factory.mktemp("hasty")
    async with running(directory, config_of(directory, vendor), HASTY) as gateway:
        yield gateway


ENDLESS = {
    "a URL": b"GET /",
    "a value": b"GET /healthz HTTP/1.1\r\nX-A: ",
    "a name": b"GET /healthz HTTP/1.1\r\nX-",
    "a chunk extension": SUBMIT + b"Transfer-Encoding: chunked\r\n\r\n2;",
}


@pytest.mark.parametrize("start", ENDLESS.values(), ids=ENDLESS.keys())
async def test_6_what_has_no_end_is_refused_when_it_is_too_long(hasty: RunningGateway, start: bytes) -> None:
    line = await Line.to(hasty, start)
    sending = asyncio.create_task(_send_for_ever(line))

    assert (await line.answer())[9:12] in {b"400", b"414", b"431"}
    with pytest.raises(ConnectionError):
        await asyncio.wait_for(sending, 10)
    line.writer.close()


async def test_31_lingering_ends(hasty: RunningGateway) -> None:
    line = await Line.to(hasty, SUBMIT + b"Content-Length: %d\r\n\r\n" % 2**30)
    await line.answer()

    with pytest.raises(ConnectionError):
        await asyncio.wait_for(_send_for_ever(line), 10)
    line.writer.close()


async def _send_for_ever(line: Line) -> None:
    while True:
        line.writer.write(b"a" * 2**16)
        await line.writer.drain()
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("first", [b"", b"GET", HEALTH[:-2]], ids=["nothing", "a word", "all but the end"])
async def test_31_headers_that_do_not_come_end_the_connection(hasty: RunningGateway, first: bytes) -> None:
    assert await (await Line.to(hasty, first)).rest() == b""


async def test_31_headers_that_drip_end_the_connection(hasty: RunningGateway) -> None:
    line = await Line.to(hasty, b"GET /healthz HTTP/1.1\r\n")
    rest = asyncio.create_task(line.rest())
    async with asyncio.timeout(10):
        while not rest.done():
            line.writer.write(b"X-A: b\r\n")
            await asyncio.sleep(0.02)

    assert await rest == b""


async def test_31_headers_may_drip_behind_an_answer_no_longer_than_before(hasty: RunningGateway) -> None:
    line = await Line.to(hasty, HEALTH)
    await line.answer()
    line.writer.write(b"GET /")

    assert await line.rest() == b""


async def test_31_an_idle_connection_is_closed(hasty: RunningGateway) -> None:
    line = await Line.to(hasty, HEALTH)

    assert b"200 OK" in await line.answer()
    assert await line.rest() == b""


async def test_31_the_oldest_without_headers_makes_room(hasty: RunningGateway) -> None:
    oldest, *others = [await Line.to(hasty, b"GET") for _ in range(21)]

    assert await oldest.rest() == b""
    for line in others:
        line.writer.write(HEALTH[3:])
        assert b"200 OK" in await line.answer()
        line.writer.close()


@pytest.mark.parametrize("body", [b"", b'{"model":'], ids=["nothing", "a part"])
async def test_82_a_body_that_does_not_come_is_408_and_the_connection_closed(
    hasty: RunningGateway, body: bytes
) -> None:
    # Read to its end: the server closes without being asked to.
    response = parse(await (await Line.to(hasty, SUBMIT + b"Content-Length: 99\r\n\r\n" + body)).rest())

    assert_refused(response, "request_timeout", "request body was not received in time")
    assert response.headers["connection"] == "close"


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 100000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"]
)
async def test_82_a_body_that_drips_is_408(hasty: RunningGateway, framing: bytes) -> None:
    """Slower than 1 KiB/s after the time of grace."""
    line = await Line.to(hasty, SUBMIT + framing)
    part = b"1\r\n \r\n" if b"chunked" in framing else b" "
    answer = asyncio.create_task(line.rest())
    async with asyncio.timeout(10):
        while not answer.done():
            line.writer.write(part)
            await asyncio.sleep(0.02)

    assert_refused(parse(await answer), "request_timeout")


async def test_31_a_body_nobody_waits_for_any_more_is_not_waited_for(hasty: RunningGateway) -> None:
    """Refused for its credential; the rest of the body never comes."""
    sent = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{{"
    line = await Line.to(hasty, sent.encode())

    assert b"401 Unauthorized" in await line.answer()
    assert await line.rest() == b""


async def test_31_an_answer_that_is_not_read_ends_the_connection(hasty: RunningGateway) -> None:
    loop = asyncio.get_running_loop()
    host, _, port = hasty.url.removeprefix("http://").partition(":")
    with socket.socket() as client:  # nothing reads it by itself, as a stream would
        client.settimeout(0)
        await loop.sock_connect(client, (host, int(port)))

        async def ask_for_ever() -> None:
            while True:  # the document is large: the buffers of both sides fill up
                await loop.sock_sendall(client, b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50)

        with pytest.raises(ConnectionError):
            await asyncio.wait_for(ask_for_ever(), 20)


@pytest.fixture
async def narrow(
    vendor: MockVendor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[RunningGateway]:
    """A hasty gateway whose system takes little of an answer off its hands."""

    def bind_narrowly(host: str, port: int) -> socket.socket:
        listener = bind(host, port)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        return listener

    monkeypatch.setattr("support.gateway.bind", bind_narrowly)
    async with running(tmp_path, config_of(tmp_path, vendor), HASTY) as gateway:
        yield gateway


@asynccontextmanager
async def polling(gateway: RunningGateway, job_id: str, times: int = 1) -> AsyncIterator[socket.socket]:
    """A client that has asked for a job, and of which it is not certain that it will listen."""
    poll = f"GET {CHAT}/{job_id} HTTP/1.1\r\n".encode() + AUTHORIZED + b"\r\n"
    host, _, port = gateway.url.removeprefix("http://").partition(":")
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)  # noqa: FBT003 – the signature of sockets
        await loop.sock_connect(client, (host, int(port)))
        await loop.sock_sendall(client, poll * times)
        yield client


async def test_31_a_slow_reader_may_take_its_time(narrow: RunningGateway) -> None:
    """Longer in all than an answer may lie untouched."""
    job_id = (await narrow.run(chat(text="a" * 2**20)))["id"]
    loop = asyncio.get_running_loop()
    taken = 0
    async with asyncio.timeout(20), polling(narrow, job_id) as client:
        began = loop.time()
        while part := await loop.sock_recv(client, 2**14):
            taken += len(part)
            await asyncio.sleep(0.01)

    assert taken > 2**20
    assert loop.time() - began > 2 * HASTY.without_reading


@pytest.mark.parametrize("times", [1, 2, 3])
async def test_31_no_rest_of_an_answer_is_too_small_to_end_the_connection(
    narrow: RunningGateway, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one of these numbers of answers so little stays with us that writing is never paused."""
    job_id = (await narrow.run(chat(text="a" * 40_000)))["id"]
    lost: asyncio.Queue[object] = asyncio.Queue()
    lose = GatewayProtocol.connection_lost

    def note_and_lose(connection: GatewayProtocol, exc: Exception | None) -> None:
        lost.put_nowait(connection.client)
        lose(connection, exc)

    monkeypatch.setattr(GatewayProtocol, "connection_lost", note_and_lose)
    async with asyncio.timeout(10), polling(narrow, job_id, times) as client:
        while await lost.get() != client.getsockname():
            pass  # another client's


async def test_31_a_held_poll_outlives_all_of_this(hasty: RunningGateway) -> None:
    job_id = await hasty.accepted(chat("openai/late"))
    poll = f"GET {CHAT}/{job_id} HTTP/1.1\r\n".encode() + AUTHORIZED + b"Prefer: wait=5\r\n\r\n"

    line = await Line.to(hasty, poll)
    response = parse(await line.answer())
    line.writer.close()

    assert (response.status_code, response.json()["status"]) == (200, "completed")
