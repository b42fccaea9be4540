"""Answers: status, headers and body, with the headers every answer carries (contract §2.6)."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct

from tidegate.api.inbound import Send

Header = tuple[bytes, bytes]

_JSON: Final = (b"content-type", b"application/json")
_SAFETY: Final[tuple[Header, ...]] = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
)
_NO_FRAMES: Final = (b"content-security-policy", b"frame-ancestors 'none'")
# Their length would be that of the body they stand for (RFC 9110 §8.6).
_WITHOUT_BODY: Final = frozenset({204, 304})
NO_STORE: Final = (b"cache-control", b"no-store")


class Answer(Struct, frozen=True):
    """A complete answer; ``headers`` are those of this answer alone."""

    status: int
    body: bytes
    headers: tuple[Header, ...] = (_JSON,)
    policy: Header = _NO_FRAMES
    """Content-Security-Policy; pages that run scripts have one of their own."""

    async def send(
        self, send: Send, request_id: str, *, is_head: bool, also: tuple[Header, ...] = ()
    ) -> None:
        """``also`` are headers that the request calls for, whatever the answer."""
        headers = [*self.headers, (b"x-request-id", request_id.encode()), self.policy, *_SAFETY, *also]
        if self.status not in _WITHOUT_BODY:
            headers.append((b"content-length", b"%d" % len(self.body)))
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if is_head else self.body})


def json_answer(status: int, value: Any, *headers: Header) -> Answer:
    return Answer(status, msgspec.json.encode(value), (_JSON, *headers))


def json_bytes(status: int, body: bytes, *headers: Header) -> Answer:
    return Answer(status, body, (_JSON, *headers))


def header(name: str, value: str | int) -> Header:
    return name.encode(), str(value).encode("latin-1")


def compact(members: Mapping[str, Any]) -> dict[str, Any]:
    """Absent, never null: members without a value are left out."""
    return {name: value for name, value in members.items() if value is not None}
