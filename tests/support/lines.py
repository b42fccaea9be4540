"""TCP lines to a server that fall silent, lie, break, or break just before a certain message of PostgreSQL's arrives."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final, final

COMMAND_COMPLETE: Final = b"C"
_HEADER: Final = 5
"""A message's type, and its length without the type."""


@final
class _Line:
    """One connection, on both sides."""

    def __init__(self, lines: "Lines", client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        self._lines = lines
        self._client = client
        self._to_client = to_client
        self._to_server: asyncio.StreamWriter | None = None
        self._unread = bytearray()
        self._is_marked = False
        self.is_silent = False

    async def run(self, port: int) -> None:
        server, self._to_server = await asyncio.open_connection("127.0.0.1", port)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._forth(self._to_server))
                group.create_task(self._back(server))
        except* OSError:
            pass
        finally:
            self.cut()

    def cut(self) -> None:
        for side in (self._to_client, self._to_server):
            if side is not None:
                side.transport.abort()

    async def _forth(self, to_server: asyncio.StreamWriter) -> None:
        while data := await self._client.read(65536):
            if self._lines.marker and self._lines.marker in data:
                self._is_marked = True
            if self._is_marked and not self._lines.cuts_before:
                self._lines.broke()
                break
            if not self.is_silent:
                to_server.write(data)
        self.cut()

    async def _back(self, server: asyncio.StreamReader) -> None:
        while data := await server.read(65536):
            if self._is_marked and self._brings(data, self._lines.cuts_before):
                self._lines.broke()
                break
            if not self.is_silent:
                self._to_client.write(data.replace(*self._lines.lie))
        self.cut()

    def _brings(self, data: bytes, kind: bytes) -> bool:
        self._unread += data
        while len(self._unread) >= _HEADER:
            (length,) = struct.unpack_from("!I", self._unread, 1)
            if len(self._unread) <= length:
                return False
            if self._unread[:1] == kind:
                return True
            del self._unread[: length + 1]
        return False


@final
class Lines:
    """Between clients and a server on this machine."""

    def __init__(self, port: int) -> None:
        self.port = 0
        self.marker = b""
        """The line breaks on which a client says this."""
        self.cuts_before = COMMAND_COMPLETE
        """A type of message of the server's, after the marker; empty: before the server hears of the marker."""
        self.lie = (b"", b"")
        """What the server says, and what arrives instead, of the same length."""
        self.breaks = 0
        """How often that has happened; once for each time a marker was set."""
        self.on_break: Callable[[], None] = lambda: None
        self._server_port = port
        self._open: dict[_Line, asyncio.Task[None]] = {}
        self._is_down = False

    def url(self, database: str) -> str:
        # Without TLS, and without asking for it: messages are read here.
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}?sslmode=disable"

    def fall_silent(self) -> None:
        """Whatever is said on the lines that are open now, nobody ever hears it, nor that they are dead."""
        for line in self._open:
            line.is_silent = True

    def go_down(self) -> None:
        self._is_down = True
        for line in self._open:
            line.cut()

    def come_up(self) -> None:
        self._is_down = False

    def broke(self) -> None:
        self.marker = b""
        self.breaks += 1
        self.on_break()

    async def take(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        if self._is_down:
            to_client.transport.abort()
            return
        line = _Line(self, client, to_client)
        task = asyncio.current_task()
        assert task is not None
        self._open[line] = task
        try:
            await line.run(self._server_port)
        except asyncio.CancelledError:
            pass
        finally:
            del self._open[line]

    async def close(self) -> None:
        for task in (tasks := list(self._open.values())):
            task.cancel()
        with suppress(OSError):
            await asyncio.gather(*tasks)


@asynccontextmanager
async def lines_to(port: int) -> AsyncIterator[Lines]:
    lines = Lines(port)
    server = await asyncio.start_server(lines.take, "127.0.0.1", 0)
    lines.port = server.sockets[0].getsockname()[1]
    try:
        yield lines
    finally:
        server.close()
        await lines.close()
