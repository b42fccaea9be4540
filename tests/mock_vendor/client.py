"""A plain client for the mock vendor: no HTTP library in between that could tidy up what came."""

import asyncio
import http.client
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct

from tidegate.mock_vendor import MockVendor


class Reply(Struct):
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name), None)


def chat(model: str, text: str = "hello", **members: Any) -> bytes:
    request = {"model": model, "messages": [{"role": "user", "content": text}], **members}
    return json.dumps(request).encode()


class Client:
    """Waits at most five seconds for anything."""

    def __init__(self, origin: str) -> None:
        self.host = urlsplit(origin).hostname or ""
        self.port = urlsplit(origin).port or 0

    async def ask(
        self, model: str, text: str = "hello", *, key: str = "sk-test-1234", **members: Any
    ) -> Reply:
        return await self.send("POST", "/v1/chat/completions", chat(model, text, **members), key=key)

    async def send(self, method: str, path: str, body: bytes = b"", *, key: str = "sk-test-1234") -> Reply:
        return await asyncio.to_thread(self._send, method, path, body, key)

    def _send(self, method: str, path: str, body: bytes, key: str) -> Reply:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=5)
        try:
            connection.request(method, path, body, {"authorization": f"Bearer {key}"})
            response = connection.getresponse()
            return Reply(response.status, response.getheaders(), response.read())
        finally:
            connection.close()

    async def ask_often(self, model: str, count: int) -> None:
        """One after the other on one connection."""
        await asyncio.to_thread(self._ask_often, chat(model), count)

    def _ask_often(self, body: bytes, count: int) -> None:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=5)
        try:
            for _ in range(count):
                connection.request("POST", "/v1/chat/completions", body)
                connection.getresponse().read()
        finally:
            connection.close()

    @asynccontextmanager
    async def asking(self, model: str, text: str = "hello") -> AsyncIterator[asyncio.StreamReader]:
        """A call is under way; leaving hangs up."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            body = chat(model, text)
            head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            async with asyncio.timeout(5):
                yield reader
        finally:
            writer.transport.abort()

    async def raw(self, model: str) -> tuple[bytes, bytes]:
        """Head and body as they came, up to the end of the connection."""
        async with self.asking(model) as reader:
            head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
            return head, body


@asynccontextmanager
async def playing(
    script: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[tuple[MockVendor, Client]]:
    async with MockVendor.serve(script=script, **options) as vendor:
        yield vendor, Client(vendor.url)


def rule(model: str = "*", **members: Any) -> dict[str, Any]:
    """A script of one rule."""
    return {"rules": [{"model": model, **members}]}


async def until_idle(vendor: MockVendor) -> None:
    """All calls have ended."""
    async with asyncio.timeout(5):
        while vendor.in_flight:
            await asyncio.sleep(0.005)


async def until_busy(vendor: MockVendor, calls: int = 1) -> None:
    """That many calls are under way."""
    async with asyncio.timeout(5):
        while vendor.in_flight < calls:
            await asyncio.sleep(0.005)
