"""Puts a reply on the wire, with the trouble its rule asks for; notices when the client leaves meanwhile."""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, final

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from tidegate.mock_vendor.replies import Reply
from tidegate.mock_vendor.script import Rule

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_TICKS_PER_SECOND: Final = 10
_TIME_TO_READ_THE_HALF: Final = 0.05
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class ClientLeft(Exception):
    """The client closed its connection before the reply was over."""


class MockProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which also hands over the connection: ASGI has no words for a broken reply."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        # Otherwise every call would be logged as soon as the process that embeds us logs anything.
        self.access_log = False

        self.is_lost = False
        self.waiter: asyncio.Future[None] | None = None
        """Whoever wants to hear at once that the connection is lost."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"]["connection"] = self

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.is_lost = True
        if self.waiter is not None:
            _wake(self.waiter)


@final
class Wire:
    """One request's connection."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._connection: MockProtocol = scope["state"]["connection"]
        self._send = send

    async def pause(self, seconds: float | None) -> None:
        """Raises ``ClientLeft``; ``None`` waits for nothing else."""
        await self._until_lost(seconds)
        if self._connection.is_lost:
            raise ClientLeft

    async def start(self, reply: Reply) -> None:
        await self._send({"type": "http.response.start", "status": reply.status, "headers": _framed(reply)})

    async def whole(self, reply: Reply) -> None:
        """Raises ``ClientLeft``."""
        await self.start(reply)
        if isinstance(reply.body, tuple):
            await self.piece(b"".join(reply.body), is_last=True)
            return
        for data in reply.body:
            await self.piece(data)
        await self.piece(b"", is_last=True)

    async def piece(self, data: bytes, *, is_last: bool = False) -> None:
        """Raises ``ClientLeft``."""
        if self._connection.transport.is_closing():
            await self._until_lost()
            raise ClientLeft
        await self._send({"type": "http.response.body", "body": data, "more_body": not is_last})

    async def reset(self) -> None:
        transport = self._connection.transport
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        transport.abort()
        await self._until_lost()

    async def raw(self, data: bytes) -> None:
        """Send bytes that are no proper reply, and close."""
        self._connection.transport.write(data)
        self._connection.transport.close()
        await self._until_lost()

    async def _until_lost(self, seconds: float | None = None) -> None:
        """Or until the time is over. Cheaper than a timeout around ``receive``, and most load tests want it."""
        if self._connection.is_lost:
            return
        # uvicorn stops reading after a large request, and who does not read cannot see a client leave.
        self._connection.flow.resume_reading()
        loop = asyncio.get_running_loop()
        waiter = self._connection.waiter = loop.create_future()
        timer = None if seconds is None else loop.call_later(seconds, _wake, waiter)
        try:
            await waiter
        finally:
            self._connection.waiter = None
            if timer is not None:
                timer.cancel()


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


async def deliver(wire: Wire, reply: Reply, rule: Rule, on_start: Callable[[], object]) -> None:
    """Calls ``on_start`` when the status goes out. Raises ``ClientLeft``."""
    if rule.hang == "before_headers":
        await wire.pause(None)
    if rule.reset == "before_headers":
        await wire.reset()
        return
    on_start()
    if rule.bad_chunk or rule.content_length_off_by:
        await wire.raw(_broken(reply, rule))
        return
    if rule.hang == "in_body" or rule.reset == "in_body":
        await _break_off(wire, reply, rule)
    elif rule.drip is not None:
        await _drip(wire, reply, rule.drip)
    else:
        await wire.whole(reply)


async def _drip(wire: Wire, reply: Reply, bytes_per_second: float) -> None:
    step = max(1, int(bytes_per_second / _TICKS_PER_SECOND))
    await wire.start(reply)
    for data in reply.body:
        for start in range(0, len(data), step):
            await wire.pause(step / bytes_per_second)
            await wire.piece(data[start : start + step])
    await wire.piece(b"", is_last=True)


async def _break_off(wire: Wire, reply: Reply, rule: Rule) -> None:
    await wire.start(reply)
    data = next(iter(reply.body), b"")
    await wire.piece(data[: len(data) // 2])
    if rule.hang is not None:
        await wire.pause(None)
    # A reset discards what the client has not read yet.
    await wire.pause(_TIME_TO_READ_THE_HALF)
    await wire.reset()


def _framed(reply: Reply) -> list[tuple[bytes, bytes]]:
    if reply.length is None:
        return reply.headers
    return [*reply.headers, (b"content-length", b"%d" % reply.length)]


def _broken(reply: Reply, rule: Rule) -> bytes:
    body = b"".join(reply.body)
    if rule.bad_chunk:
        framing, body = b"transfer-encoding: chunked", b"no-number\r\n" + body + b"\r\n0\r\n\r\n"
    else:
        framing = b"content-length: %d" % max(0, len(body) + rule.content_length_off_by)
    lines = [
        b"HTTP/1.1 %d Broken" % reply.status,
        *(name + b": " + value for name, value in reply.headers),
        framing,
        b"connection: close",
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body
