"""Connections that mean no good, from a process of their own: ``python -m support.hostile PORT KEY``.

They open, say so, and drip until standard input ends; then it is told which of them the server has closed, in order.
"""

import asyncio
import json
import socket
import sys
from typing import Final, final

HEADERS: Final = 1200
BODIES: Final = 400
READERS: Final = 400
"""Who never reads an answer."""
_DRIP_EVERY: Final = 0.5
AT_ONCE: Final = 100
_UNREAD: Final = 8


@final
class Hostile(asyncio.Protocol):
    """One connection; ``closed`` when the server is done with it."""

    def __init__(self, first: bytes, drip: bytes, *, reads: bool) -> None:
        self._first = first
        self._drip = drip
        self._reads = reads
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if not self._reads:
            transport.pause_reading()
        transport.write(self._first)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True

    def eof_received(self) -> None:
        self.closed = True

    def drip(self) -> None:
        if not self.closed and self._drip:
            self._transport.write(self._drip)


def kinds(key: str) -> list[Hostile]:
    """The ones that never finish their headers, their bodies, and those that never read."""
    submit = (
        f"POST /v1/async/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
        "Content-Length: 1000000\r\n\r\n{"
    ).encode()
    page = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * _UNREAD
    return [
        *(Hostile(b"GET /healthz HTTP/1.1\r\nX-A: ", b"a", reads=True) for _ in range(HEADERS)),
        *(Hostile(submit, b" ", reads=True) for _ in range(BODIES)),
        *(Hostile(page, b"", reads=False) for _ in range(READERS)),
    ]


async def connect(port: int, hostile: Hostile) -> None:
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    narrow.setblocking(False)  # noqa: FBT003 – the signature of sockets
    loop = asyncio.get_running_loop()
    await loop.sock_connect(narrow, ("127.0.0.1", port))
    await loop.create_connection(lambda: hostile, sock=narrow)


async def main() -> None:
    port, key = int(sys.argv[1]), sys.argv[2]
    everybody = kinds(key)
    for start in range(0, len(everybody), AT_ONCE):
        await asyncio.gather(*[connect(port, hostile) for hostile in everybody[start : start + AT_ONCE]])
    sys.stdout.write("open\n")
    sys.stdout.flush()
    told = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    while not told.done():
        for hostile in everybody:
            hostile.drip()
        await asyncio.wait([told], timeout=_DRIP_EVERY)
    sys.stdout.write(json.dumps([hostile.closed for hostile in everybody]))


if __name__ == "__main__":
    asyncio.run(main())
