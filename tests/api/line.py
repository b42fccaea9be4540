"""A connection to a gateway, byte by byte."""

import asyncio

from support.gateway import CHAT, KEY, RunningGateway

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
AUTHORIZED = f"Host: localhost\r\nAuthorization: Bearer {KEY}\r\n".encode()
SUBMIT = f"POST {CHAT} HTTP/1.1\r\n".encode() + AUTHORIZED


class Line:
    """A connection, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def to(cls, gateway: RunningGateway, first: bytes = b"") -> "Line":
        host, _, port = gateway.url.removeprefix("http://").partition(":")
        line = cls(*await asyncio.open_connection(host, int(port), limit=2**26))
        line.writer.write(first)
        return line

    async def rest(self) -> bytes:
        """What comes until the server closes; nothing where it resets the connection."""
        try:
            async with asyncio.timeout(10):
                return await self.reader.read()
        except ConnectionError:
            return b""
        finally:
            self.writer.close()

    async def answer(self) -> bytes:
        async with asyncio.timeout(10):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            return head + await self.reader.readexactly(length)
