"""Every call the mock vendor received, and how it ended: what a test compares the gateway's own books with."""

import hashlib
import itertools
from collections import Counter, deque
from collections.abc import Sequence
from datetime import datetime
from typing import Any, BinaryIO, final

import msgspec
from msgspec import Struct

from tidegate.mock_vendor.clock import Now
from tidegate.mock_vendor.dialect import Usage

RawHeaders = Sequence[tuple[bytes, bytes]]

_SHOWN_AT_THE_END = 4


class Call(Struct, gc=False):
    """One request. Members below ``digest`` are filled in as it goes on."""

    n: int
    at: datetime
    method: str
    path: str
    header_lines: bytes
    """Names and values in turn: one object instead of dozens, since a thousand calls are kept."""
    digest: str
    """SHA-256 of the body, in hexadecimal."""
    body: bytes | None = None
    """Kept on request only."""
    model: str = ""
    user: Any = None
    metadata: Any = None
    status: int | None = None
    """What was sent; ``None`` while nothing was."""
    usage: Usage | None = None
    """What is billed; ``None`` unless an answer went out."""
    over_limit: bool = False
    ended_at: datetime | None = None
    hung_up_at: datetime | None = None
    """When the client left before the end of the reply."""

    @property
    def hung_up(self) -> bool:
        return self.hung_up_at is not None

    @property
    def headers(self) -> dict[str, str]:
        """As received, names in lower case; of a credential only the end is shown."""
        lines = self.header_lines.decode("latin-1").split("\n")
        return {name: _shown(name, value) for name, value in zip(lines[::2], lines[1::2], strict=True)}

    def shown(self) -> dict[str, Any]:
        return {
            "n": self.n,
            "at": self.at,
            "method": self.method,
            "path": self.path,
            "model": self.model,
            "headers": self.headers,
            "digest": self.digest,
            "user": self.user,
            "metadata": self.metadata,
            "status": self.status,
            "usage": self.usage,
            "over_limit": self.over_limit,
            "ended_at": self.ended_at,
            "hung_up": self.hung_up,
            "hung_up_at": self.hung_up_at,
        }


@final
class Journal:
    """Totals of all calls, the last ``size`` of them, and a file with one line per ended call if wanted."""

    def __init__(self, now: Now, *, size: int, keep_bodies: bool, file: BinaryIO | None) -> None:
        self._now = now
        self._calls: deque[Call] = deque(maxlen=size)
        self._keep_bodies = keep_bodies
        self._file = file
        self._last_n = 0
        self.is_closed = False
        self.in_flight = 0
        self.clear()

    def clear(self) -> None:
        self._calls.clear()
        self.total = 0
        self.hung_up = 0
        self.over_limit = 0
        self.most_in_flight = self.in_flight
        self._by_status: Counter[int] = Counter()

    @property
    def calls(self) -> list[Call]:
        return list(self._calls)

    def begin(self, method: str, path: str, headers: RawHeaders, body: bytes) -> Call:
        self._last_n += 1
        self.total += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        digest = hashlib.sha256(body).hexdigest()
        kept = body if self._keep_bodies else None
        header_lines = b"\n".join(itertools.chain.from_iterable(headers))
        call = Call(self._last_n, self._now(), method, path, header_lines, digest, kept)
        self._calls.append(call)
        return call

    def note_over_limit(self, call: Call) -> None:
        call.over_limit = True
        self.over_limit += 1

    def note_hang_up(self, call: Call) -> None:
        # When the vendor itself stops, it cuts every connection; that says nothing about the clients.
        if call.hung_up_at is None and not self.is_closed:
            call.hung_up_at = self._now()
            self.hung_up += 1

    def end(self, call: Call) -> None:
        self.in_flight -= 1
        call.ended_at = self._now()
        if call.status is not None:
            self._by_status[call.status] += 1
        if self._file is not None:
            self._file.write(msgspec.json.encode(call.shown()) + b"\n")

    def shown(self, *, full: bool) -> dict[str, Any]:
        totals = {
            "total": self.total,
            "by_status": {str(status): count for status, count in sorted(self._by_status.items())},
            "hung_up": self.hung_up,
            "over_limit": self.over_limit,
            "in_flight": self.in_flight,
            "most_in_flight": self.most_in_flight,
            "kept": len(self._calls),
        }
        return totals | {"calls": [call.shown() for call in self._calls]} if full else totals


def _shown(name: str, value: str) -> str:
    if name not in {"authorization", "api-key", "x-api-key"}:
        return value
    return f"***{value[-_SHOWN_AT_THE_END:]}"
