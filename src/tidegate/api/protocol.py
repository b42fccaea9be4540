"""HTTP/1.1 on the wire: uvicorn's protocol under our limits, with complete answers written in one piece.

uvicorn takes headers of any size and number, waits for them for ever, adds trailers to them, looks at every header
of an answer with two patterns and starts a timer after it (security.md calls for the first, the hot path for the rest).
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from enum import Enum, auto
from functools import partial
from typing import Any, ClassVar, Final, cast, final

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from tidegate.api.connection_watch import ConnectionLimits, ConnectionWatch
from tidegate.api.inbound import Message, Receive, Scope, Send, too_slow

Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_CLOSE: Final = (b"connection", b"close")
_PROBLEMS: Final = {
    400: b"the request is malformed: RFC 9112 says how it should look",
    414: b"the URL is too long",
    431: b"the headers are too large or too many",
}


_OFFER: Final = re.compile(rb"\r\nupgrade:", re.IGNORECASE)
_IGNORED_OFFER: Final = b"\r\nX-Offer:"


class _Phase(Enum):
    HEADERS = auto()
    """Nothing, or a part of a request's headers, has come."""
    BODY = auto()
    ANSWERING = auto()
    """The request is complete; now it is our turn."""
    IDLE = auto()
    """Between two requests."""
    LINGERING = auto()
    """Answered for the last time; the client may not have noticed yet."""


def protocol_within(limits: ConnectionLimits) -> type["GatewayProtocol"]:
    """The protocol of one server: its connections share a watch."""

    class Connection(GatewayProtocol):
        watch = ConnectionWatch(limits)

    return Connection


class GatewayProtocol(HttpToolsProtocol):
    """One connection."""

    watch: ClassVar[ConnectionWatch]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]  # uvicorn narrows what asyncio declares
        self._phase = _Phase.HEADERS
        self._since = self.loop.time()
        self._is_counted = True
        """Among the connections without headers."""
        self._head_size = 0
        self._framing = 0
        self._body_size = 0
        self._had_body = False
        self._body_began = 0.0
        self._unread = 0
        """How much of our answers had not left at the last look."""
        self._unread_since = 0.0
        self._problem = 400
        self._is_too_slow = False
        self._is_deaf = False
        """Whatever else comes is not looked at."""
        self.watch.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.watch.closed(self)
        super().connection_lost(exc)

    # What comes in

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            return
        began_in = self._phase
        self._had_body = False
        if began_in is not _Phase.BODY:
            data = _without_offer(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # another protocol is offered: the request is answered, and the connection closed
        except httptools.HttpParserError:
            self._refuse(self._problem)
            return
        if self._phase is _Phase.HEADERS:
            self._more_headers_to_come(data, is_continued=began_in is _Phase.HEADERS)
        elif self._phase is not _Phase.IDLE and self.cycle.more_body:
            self._more_body_to_come(data, is_first=began_in is not _Phase.BODY)

    def _more_headers_to_come(self, data: bytes, *, is_continued: bool) -> None:
        if is_continued:
            self._head_size += len(data)
        if self._head_size > self.watch.limits.headers + self.watch.limits.url:
            self._refuse(431)
        elif not self._is_counted:
            self._is_counted = True
            self.watch.waits_for_headers(self)

    def _more_body_to_come(self, data: bytes, *, is_first: bool) -> None:
        now = self.loop.time()
        if is_first:
            self._phase = _Phase.BODY
            self._body_began = self._since = now
        if self._had_body:
            self._since = now
            self._framing = 0
            return
        self._framing += len(data)
        if self._framing > self.watch.limits.framing:
            self._refuse(400)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._phase is not _Phase.HEADERS:
            self._phase = _Phase.HEADERS
            self._since = self.loop.time()
        self._head_size = 0
        self._framing = 0
        self._body_size = 0
        self._problem = 400
        self._is_too_slow = False

    def on_url(self, url: bytes) -> None:
        self.url += url
        if len(self.url) > self.watch.limits.url:
            self._problem = 414
            raise ValueError(self._problem)

    def on_header(self, name: bytes, value: bytes) -> None:
        limits = self.watch.limits
        size = len(name) + len(value)
        self._head_size += size
        if size > limits.header_line or self._head_size > limits.headers:
            self._problem = 431
            raise ValueError(self._problem)
        if self._phase is not _Phase.HEADERS:
            return  # a trailer: nobody may add to what was checked
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))
        if len(self.headers) > limits.header_count:
            self._problem = 431
            raise ValueError(self._problem)

    def on_headers_complete(self) -> None:
        self._phase = _Phase.ANSWERING
        self._head_size = 0
        if self._is_counted:
            self._is_counted = False
            self.watch.has_headers(self)
        parser = self.parser
        version = parser.get_http_version()
        scope = self.scope
        scope["method"] = parser.get_method().decode("ascii")
        scope["http_version"] = version
        # The target as it came: an absolute one, or none that begins with a slash, is the path of no route.
        raw_path, _, query = self.url.partition(b"?")
        scope["raw_path"] = raw_path
        scope["path"] = raw_path.decode("latin-1")
        scope["query_string"] = query
        before: RequestResponseCycle | None = self.cycle
        self.cycle = RequestResponseCycle(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=version != "1.0" and parser.should_keep_alive() and not parser.should_upgrade(),
            on_response=self.on_response_complete,
        )
        if before is None or before.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def on_body(self, body: bytes) -> None:
        self._body_size += len(body)
        self._had_body = True
        cycle = self.cycle
        if cycle.response_complete:
            return
        cycle.body += body
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.message_event.set()

    def on_message_complete(self) -> None:
        self._phase = _Phase.ANSWERING
        cycle = self.cycle
        cycle.more_body = False
        cycle.message_event.set()
        if cycle.response_complete:
            self._rest()

    # What goes out

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        super()._start_asgi_task(cycle, partial(_answer, app, self, cycle))

    async def receive(self, cycle: RequestResponseCycle) -> Message:
        """The next part of the body. Raises ``GatewayError`` when it was too long in coming."""
        if not cycle.more_body and not cycle.disconnected:
            body, cycle.body = bytes(cycle.body), bytearray()
            return {"type": "http.request", "body": body}
        message = cast("Message", await cycle.receive())
        if self._is_too_slow and cycle is self.cycle:
            raise too_slow()
        return message

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        elif self._phase is _Phase.ANSWERING:
            self._rest()

    def _rest(self) -> None:
        self._phase = _Phase.IDLE
        self._since = self.loop.time()

    # What takes too long

    def check(self, now: float) -> None:
        limits = self.watch.limits
        if self._is_unread(now):
            self.transport.abort()
        elif self._phase is _Phase.HEADERS and now - self._since > limits.time_for_headers:
            self.evict()
        elif self._phase is _Phase.IDLE and now - self._since > limits.between_requests:
            self.transport.close()
        elif self._phase is _Phase.LINGERING and now - self._since > limits.lingering:
            self.transport.abort()
        elif self._phase is _Phase.BODY and not self.flow.read_paused and self._is_body_late(now):
            self._body_is_late()

    def _is_unread(self, now: float) -> bool:
        """Whether nothing of what we wrote has been taken for too long: slow readers may be slow."""
        unread = self.transport.get_write_buffer_size()
        if self._unread == 0 or unread < self._unread:
            self._unread_since = now
        self._unread = unread
        return unread > 0 and now - self._unread_since > self.watch.limits.without_reading

    def _is_body_late(self, now: float) -> bool:
        limits = self.watch.limits
        elapsed = now - self._body_began
        is_dripping = elapsed > limits.grace and self._body_size < limits.slowest_rate * elapsed
        return is_dripping or now - self._since > limits.between_parts

    def _body_is_late(self) -> None:
        self._is_too_slow = True
        if self.cycle.response_complete:
            self.transport.close()
        else:
            self.cycle.message_event.set()

    def evict(self) -> None:
        self._abandon_cycle()
        self.transport.abort()

    def _refuse(self, status: int) -> None:
        """Say that this cannot be read, and close; requests that came before are answered first."""
        self._is_deaf = True
        cycle: RequestResponseCycle | None = self.cycle
        is_answered = cycle is None or cycle.response_complete
        if self._phase is _Phase.HEADERS and not is_answered:
            self._phase = _Phase.ANSWERING
            self.cycle.keep_alive = False
            return
        may_answer = is_answered or not (self.pipeline or self.cycle.response_started)
        self._abandon_cycle()
        if may_answer:
            text = _PROBLEMS[status]
            self.transport.write(
                b"%bcontent-type: text/plain\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
                % (STATUS_LINE[status], len(text), text)
            )
        self.finish()

    def finish(self) -> None:
        """Close, once the client has had time to stop sending and to read its answer (RFC 9112 §9.6)."""
        self._is_deaf = True
        self._phase = _Phase.LINGERING
        self._since = self.loop.time()
        self.flow.resume_reading()
        self.transport.write_eof()

    def shutdown(self) -> None:
        if self._phase is _Phase.LINGERING:
            self.transport.abort()
        else:
            super().shutdown()

    def _abandon_cycle(self) -> None:
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()


def _without_offer(data: bytes) -> bytes:
    """The parser takes what follows an offer to change the protocol for that protocol, and drops the body.

    Java's client makes the offer with every first request.
    """
    end = data.find(b"\r\n\r\n")
    if _OFFER.search(data, 0, end if end >= 0 else len(data)) is None:
        return data
    head, end_of_head, rest = data.partition(b"\r\n\r\n")
    return _OFFER.sub(_IGNORED_OFFER, head) + end_of_head + rest


async def _answer(
    app: Application,
    connection: GatewayProtocol,
    cycle: RequestResponseCycle,
    scope: Scope,
    _receive: object,
    _send: object,
) -> None:
    await app(scope, partial(connection.receive, cycle), _OnePiece(connection, cycle))


@final
class _OnePiece:
    """An ASGI ``send`` for answers that are a start and one body."""

    __slots__ = ("_connection", "_cycle", "_start")

    def __init__(self, connection: GatewayProtocol, cycle: RequestResponseCycle) -> None:
        self._connection = connection
        self._cycle = cycle
        self._start: Message = {}

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        cycle = self._cycle
        if cycle.flow.write_paused and not cycle.disconnected:
            await cycle.flow.drain()
        if cycle.transport.is_closing():
            cycle.disconnected = True  # of several requests in a row uvicorn tells only the last one
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
        if cycle.keep_alive:
            cycle.on_response()
        elif cycle.more_body:
            self._connection.finish()
        else:
            cycle.transport.close()
