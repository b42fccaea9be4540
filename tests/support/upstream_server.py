"""A raw loopback upstream for tests: it says the very bytes it is told to, and notes what it sees."""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import cast

from msgspec import Struct


class Request(Struct, frozen=True):
    """One request as it came."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name), None)


class Peer(asyncio.Protocol):
    """One connection; runs the script for each request that comes over it."""

    def __init__(self, upstream: "Upstream") -> None:
        self.gone = asyncio.Event()
        """The other side has hung up."""
        self._upstream = upstream
        self._buffer = bytearray()
        self._writable = asyncio.Event()
        self._writable.set()
        self._script: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no subclass of it
        self._upstream.peers.append(self)
        self._upstream.changed.set()

    @property
    def unread(self) -> bytes:
        """What came and is no request yet."""
        return bytes(self._buffer)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._upstream.changed.set()
        self._next_request()

    def eof_received(self) -> None:
        self.gone.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone.set()
        self._writable.set()
        if self._script is not None:
            self._script.cancel()
        self._upstream.peers.remove(self)
        self._upstream.changed.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    async def send(self, *parts: bytes) -> None:
        """Returns when the peer has taken enough; raises when it is gone."""
        for part in parts:
            self._transport.write(part)
        await self._writable.wait()
        # A loop of sends that never has to wait must still let the others run.
        await asyncio.sleep(0)
        if self.gone.is_set():
            raise ConnectionResetError

    async def reply(self, body: bytes, *headers: str, status: int = 200) -> None:
        await self.send(head(f"content-length: {len(body)}", *headers, status=status) + body)

    def hang_up(self) -> None:
        self._transport.close()

    def reset(self) -> None:
        """Closes with RST instead of FIN."""
        raw = self._transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def _next_request(self) -> None:
        if self._script is not None and not self._script.done():
            return
        request = self._take_request()
        if request is None:
            return
        self._upstream.requests.append(request)
        self._upstream.changed.set()
        self._script = asyncio.ensure_future(self._run(request))

    async def _run(self, request: Request) -> None:
        try:
            await self._upstream.script(self, request)
        except ConnectionResetError:
            return
        asyncio.get_running_loop().call_soon(self._next_request)

    def _take_request(self) -> Request | None:
        text, blank, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        if not blank:
            return None
        first, *lines = text.decode("latin-1").split("\r\n")
        headers = tuple((name, value.strip()) for name, _, value in (line.partition(":") for line in lines))
        length = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
        if len(rest) < length:
            return None
        del self._buffer[: len(text) + len(blank) + length]
        method, target, _ = first.split(" ")
        return Request(method, target, headers, rest[:length])


Script = Callable[[Peer, Request], Awaitable[None]]


class Upstream:
    """A listening server."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests: list[Request] = []
        self.peers: list[Peer] = []
        """Open connections."""
        self.connections = 0
        self.changed = asyncio.Event()
        self.port = 0

    def url(self, path: str = "/v1/chat", *, scheme: str = "http", host: str = "127.0.0.1") -> str:
        return f"{scheme}://{host}:{self.port}{path}"

    async def until(self, condition: Callable[[], bool], *, within: float = 5) -> None:
        """Wait for what the server sees, woken by every connection, request and hang-up."""
        async with asyncio.timeout(within):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    def make_peer(self) -> Peer:
        self.connections += 1
        return Peer(self)


@asynccontextmanager
async def serving(script: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[Upstream]:
    upstream = Upstream(script)
    server = await asyncio.get_running_loop().create_server(upstream.make_peer, "127.0.0.1", 0, ssl=tls)
    upstream.port = server.sockets[0].getsockname()[1]
    try:
        yield upstream
    finally:
        server.close()
        for peer in tuple(upstream.peers):
            peer.reset()
        await upstream.until(lambda: not upstream.peers)


def head(*headers: str, status: int = 200) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status} Something", *headers, "", ""]).encode("latin-1")


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def unused_port() -> int:
    """Where nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
        return port


@contextmanager
def black_hole() -> Iterator[int]:
    """A port with a full backlog: attempts to connect are neither taken nor refused."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.settimeout(0)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
