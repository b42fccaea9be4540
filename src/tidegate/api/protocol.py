"""HTTP/1.1 on the wire: uvicorn's protocol, with complete answers written in one piece.

uvicorn looks at every header of an answer with two patterns and writes head and body apart. Our answers are
complete and their headers our own, so one check and one write do.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, final

from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from tidegate.api.inbound import Message, Receive, Scope, Send

Application = Callable[[Scope, Receive, Send], Awaitable[None]]
_CLOSE = (b"connection", b"close")


@final
class GatewayProtocol(HttpToolsProtocol):
    """One connection."""

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        super()._start_asgi_task(cycle, partial(_in_one_piece, app, cycle))


async def _in_one_piece(
    app: Application, cycle: RequestResponseCycle, scope: Scope, receive: Receive, _send: object
) -> None:
    await app(scope, receive, _OnePiece(cycle))


@final
class _OnePiece:
    """An ASGI ``send`` for answers that are a start and one body."""

    __slots__ = ("_cycle", "_start")

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._start: Message = {}

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        cycle = self._cycle
        if cycle.flow.write_paused and not cycle.disconnected:
            await cycle.flow.drain()
        if not cycle.disconnected:
            self._write(cycle, message["body"])

    def _write(self, cycle: RequestResponseCycle, body: bytes) -> None:
        headers = [*cycle.default_headers, *self._start["headers"]]
        if _CLOSE in headers:
            cycle.keep_alive = False
        elif not cycle.keep_alive:
            headers.append(_CLOSE)
        head = b"".join([b"%b: %b\r\n" % header for header in headers])
        if head.count(b"\n") != len(headers) or b"\0" in head:
            raise ValueError("a header value holds a line break")
        sent = b"" if cycle.scope["method"] == "HEAD" else body
        cycle.transport.write(b"%b%b\r\n%b" % (STATUS_LINE[self._start["status"]], head, sent))
        cycle.response_started = cycle.response_complete = True
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()
