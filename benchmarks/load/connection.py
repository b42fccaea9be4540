"""One keep-alive connection of the load generator: nothing but a parser between the socket and a callback."""

import asyncio
from collections.abc import Callable
from typing import Protocol, cast, final

import httptools


class LoadFailed(Exception):
    """The server did not do what a measurement rests on; the message shows what it did."""


class OnReply(Protocol):
    def __call__(self, connection: "Connection", status: int, body: bytes) -> None: ...


@final
class Connection(asyncio.Protocol):
    """Sends requests as they are given, one at a time.

    ``on_reply`` hears of every complete answer, ``on_lost`` of why no more will come.
    """

    __slots__ = ("_body", "_on_lost", "_on_reply", "_parser", "_transport", "sent_at")

    def __init__(self, on_reply: OnReply, on_lost: Callable[[str], None]) -> None:
        self._on_reply = on_reply
        self._on_lost = on_lost
        self._parser = httptools.HttpResponseParser(self)
        self._body = b""
        self._transport: asyncio.WriteTransport | None = None
        self.sent_at = 0
        """When the request under way was sent, or should have been, in nanoseconds."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not checked: uvloop's transports are not registered as what they are.
        self._transport = cast(asyncio.WriteTransport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._transport = None
            self._on_lost("the server closed a connection under load")

    def send(self, request: bytes) -> None:
        if self._transport is None:
            raise LoadFailed("the server closed a connection that was to be used again")
        self._transport.write(request)

    def close(self) -> None:
        """From here on nobody is called."""
        if self._transport is not None:
            transport, self._transport = self._transport, None
            transport.abort()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.close()
            self._on_lost(f"an answer could not be read: {error.__context__ or error}")

    # What the parser calls:

    def on_body(self, body: bytes) -> None:
        self._body = self._body + body if self._body else body

    def on_message_complete(self) -> None:
        body, self._body = self._body, b""
        self._on_reply(self, self._parser.get_status_code(), body)
