"""Requests as bytes, for what no client would send."""

import asyncio

import httpx2


async def exchange(url: str, request: bytes, *, within: float = 10) -> httpx2.Response:
    """What the server answers; it has to close the connection afterwards, so ask it to."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        async with asyncio.timeout(within):
            writer.write(request)
            await writer.drain()
            return parse(await reader.read())
    finally:
        writer.close()


def parse(answer: bytes) -> httpx2.Response:
    head, _, body = answer.partition(b"\r\n\r\n")
    status_line, *lines = head.decode("latin-1").split("\r\n")
    headers = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
    return httpx2.Response(int(status_line.split(" ")[1]), headers=headers, content=body)


def request(
    target: str,
    *lines: str,
    method: str = "GET",
    host: str | None = "localhost",
    body: bytes = b"",
) -> bytes:
    """A request that asks for the connection to be closed."""
    head = [f"{method} {target} HTTP/1.1", *lines, "Connection: close"]
    if host is not None:
        head.insert(1, f"Host: {host}")
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body
