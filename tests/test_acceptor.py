"""Connections are taken again after they could not be, and nobody is kept busy asking meanwhile (F33)."""

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast, final

import pytest

from tidegate import acceptor
from tidegate.acceptor import Acceptor

pytestmark = pytest.mark.anyio

PAUSE = 0.1
MANY = 100
OUT_OF_DESCRIPTORS = [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS]


@final
class Listener:
    """A real listening socket whose ``accept`` fails with ``error`` for as long as there is one."""

    def __init__(self, real: socket.socket) -> None:
        self._real = real
        self.error: int | None = None
        self.asked = 0

    def fileno(self) -> int:
        return self._real.fileno()

    def setblocking(self, flag: bool) -> None:  # noqa: FBT001 – the signature of sockets
        self._real.setblocking(flag)

    def accept(self) -> tuple[socket.socket, Any]:
        self.asked += 1
        if self.error is not None:
            raise OSError(self.error, os.strerror(self.error))
        return self._real.accept()


@final
class Taken(asyncio.Protocol):
    """One connection: it is told so, and no more."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(b"taken")
        transport.close()


@asynccontextmanager
async def accepting() -> AsyncIterator[tuple[Listener, Acceptor, int]]:
    with socket.create_server(("127.0.0.1", 0)) as real:
        listener = Listener(real)
        found = Acceptor(cast("socket.socket", listener), Taken)
        try:
            yield listener, found, real.getsockname()[1]
        finally:
            found.close()


async def answer(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(5):
            return await reader.read()
    finally:
        writer.close()


@pytest.fixture
def short_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptor, "_PAUSE", PAUSE)


@pytest.mark.parametrize("error", OUT_OF_DESCRIPTORS, ids=errno.errorcode.get)
@pytest.mark.usefixtures("short_pause")
async def test_who_came_while_none_could_be_taken_is_taken_afterwards(error: int) -> None:
    async with accepting() as (listener, found, port):
        listener.error = error
        found.start()
        waiting = asyncio.create_task(answer(port))
        await asyncio.sleep(PAUSE * 2.5)
        asked, listener.error = listener.asked, None

        assert await waiting == b"taken"

    assert 1 <= asked <= 3, "once for each pause"


async def test_without_the_pause_it_would_ask_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the count above would prove nothing."""
    monkeypatch.setattr(acceptor, "_PAUSE", 0)
    async with accepting() as (listener, found, port):
        listener.error = errno.EMFILE
        found.start()
        waiting = asyncio.create_task(answer(port))
        async with asyncio.timeout(5):
            while listener.asked < MANY:
                await asyncio.sleep(0)
        listener.error = None

        assert await waiting == b"taken"


async def test_a_client_that_is_gone_already_delays_nobody() -> None:
    """The error is its own: no pause, the next one is taken in the same turn."""
    async with accepting() as (listener, found, port):
        listener.error = errno.ECONNABORTED
        found.start()
        waiting = asyncio.create_task(answer(port))
        async with asyncio.timeout(5):
            while not listener.asked:
                await asyncio.sleep(0)
        listener.error = None

        async with asyncio.timeout(acceptor._PAUSE / 2):
            assert await waiting == b"taken"


@pytest.mark.usefixtures("short_pause")
async def test_closed_in_a_pause_it_stays_closed() -> None:
    async with accepting() as (listener, found, port):
        listener.error = errno.EMFILE
        found.start()
        waiting = asyncio.create_task(answer(port))
        async with asyncio.timeout(5):
            while not listener.asked:
                await asyncio.sleep(0)
        found.close()
        listener.error = None
        await asyncio.sleep(PAUSE * 2)

        assert listener.asked == 1
        assert not waiting.done()
        waiting.cancel()
        await asyncio.wait([waiting])
