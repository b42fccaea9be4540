"""A tiny forward proxy for tests: tunnels CONNECT, forwards plain requests, notes whom it was asked for."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit


class ForwardProxy:
    def __init__(self) -> None:
        self.heads: list[str] = []
        """Request line and headers of each request it got."""
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._pass_on(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        text = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        self.heads.append(text)
        method, target, _ = text.split(" ", 2)
        if method == "CONNECT":
            port = target.rpartition(":")[2]
            to_origin = b""
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        else:
            url = urlsplit(target)
            port = str(url.port or 80)
            to_origin = text.replace(target, url.path, 1).encode("latin-1")
        # Names are resolved here, on the proxy's side of the world: all of them are this machine.
        there, origin = await asyncio.open_connection("127.0.0.1", int(port))
        origin.write(to_origin)
        await asyncio.gather(_copy(reader, origin), _copy(there, writer))

    async def close(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
    finally:
        sink.close()


@asynccontextmanager
async def proxying() -> AsyncIterator[ForwardProxy]:
    proxy = ForwardProxy()
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
