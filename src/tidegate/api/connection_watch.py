"""How long and how much a connection may take: limits of ours, since the server beneath has none (F31)."""

import asyncio
from typing import Final, Protocol, final

from msgspec import Struct


class ConnectionLimits(Struct, frozen=True):
    """Sizes in bytes, times in seconds."""

    url: int = 8 * 1024
    header_line: int = 16 * 1024
    headers: int = 32 * 1024
    header_count: int = 100
    framing: int = 64 * 1024
    """What may lie between two parts of a body: chunk sizes, extensions, trailers."""
    time_for_headers: float = 10.0
    """From the connect, later from the first byte of a request."""
    most_without_headers: int = 1000
    """Connections whose headers are not complete; the oldest goes first. There is no limit per address: it would
    lock out everybody behind one proxy."""
    between_requests: float = 30.0
    between_parts: float = 30.0
    slowest_rate: int = 1024
    """Bytes of body per second, on average, once ``grace`` is over."""
    grace: float = 30.0
    without_reading: float = 30.0
    """How long a client may leave an answer lying."""
    lingering: float = 2.0
    """How long what a refused client still sends is read and thrown away: closing at once would tear up the answer."""
    look_every: float = 1.0


DEFAULT_LIMITS: Final = ConnectionLimits()


class Watched(Protocol):
    """A connection, as its watch sees it."""

    def check(self, now: float) -> None:
        """Close what has taken too long."""

    def evict(self) -> None: ...


@final
class ConnectionWatch:
    """Looks at every connection once a second: timers of their own would cost more than most requests."""

    def __init__(self, limits: ConnectionLimits = DEFAULT_LIMITS) -> None:
        self.limits = limits
        self._connections: set[Watched] = set()
        self._without_headers: dict[Watched, None] = {}
        """Oldest first."""
        self._is_looking = False

    def opened(self, connection: Watched) -> None:
        self._connections.add(connection)
        self.waits_for_headers(connection)
        if not self._is_looking:
            self._is_looking = True
            self._look_later()

    def closed(self, connection: Watched) -> None:
        self._connections.discard(connection)
        self._without_headers.pop(connection, None)

    def waits_for_headers(self, connection: Watched) -> None:
        self._without_headers.setdefault(connection)
        if len(self._without_headers) > self.limits.most_without_headers:
            oldest = next(iter(self._without_headers))
            del self._without_headers[oldest]
            oldest.evict()

    def has_headers(self, connection: Watched) -> None:
        self._without_headers.pop(connection, None)

    def _look_later(self) -> None:
        asyncio.get_running_loop().call_later(self.limits.look_every, self._look)

    def _look(self) -> None:
        now = asyncio.get_running_loop().time()
        for connection in list(self._connections):
            connection.check(now)
        self._is_looking = bool(self._connections)
        if self._is_looking:
            self._look_later()
