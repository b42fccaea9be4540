"""A request as the handlers see it: headers read once, the body under its limits."""

import re
import zlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any, Final, Self, final
from urllib.parse import parse_qsl

from tidegate.domain.errors import ErrorCode, GatewayError, InvalidRequest, StoreBusy
from tidegate.services.long_work import in_turns

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

MOST_BEING_RECEIVED: Final = 512 * 2**20
_MOST_EXPANSION: Final = 1032
"""What a byte of DEFLATE becomes at most (zlib.net/zlib_tech.html)."""
_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_PLAIN: Final = b"identity"
_DECODERS: Final = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}


class ClientGone(Exception):
    """The client hung up before its body was complete: there is nobody to answer."""


@final
class Inbound:
    """One HTTP request."""

    __slots__ = (
        "_receive",
        "_room",
        "headers",
        "method",
        "path",
        "path_id",
        "query_string",
        "repeated",
        "request_id",
    )

    def __init__(self, scope: Scope, receive: Receive, make_id: Callable[[], str], room: "BodyRoom") -> None:
        self._receive = receive
        self._room = room
        self.method: str = scope["method"]
        self.path: str = scope["raw_path"].decode("latin-1")
        self.query_string: bytes = scope["query_string"]
        self.path_id = ""
        """What the route's ``{id}`` matched."""
        self.headers: dict[bytes, bytes] = {}
        """First value of each header, names in lower case."""
        self.repeated: dict[bytes, list[bytes]] = {}
        """All values of headers that came more than once."""
        for name, raw in scope["headers"]:
            value = raw.strip(b" \t")  # the parser leaves what follows a value
            if name in self.headers:
                self.repeated.setdefault(name, [self.headers[name]]).append(value)
            else:
                self.headers[name] = value
        sent_id = self.headers.get(b"x-request-id")
        is_usable = sent_id is not None and _REQUEST_ID.fullmatch(sent_id) is not None
        self.request_id = sent_id.decode() if sent_id is not None and is_usable else make_id()

    def values(self, name: bytes) -> Sequence[bytes]:
        if name in self.repeated:
            return self.repeated[name]
        return (self.headers[name],) if name in self.headers else ()

    def query(self, allowed: Sequence[str]) -> Mapping[str, list[str]]:
        """Query parameters by name. Raises ``InvalidRequest`` for a name not in ``allowed``."""
        found: dict[str, list[str]] = {}
        try:
            pairs = parse_qsl(self.query_string.decode("ascii"), keep_blank_values=True, max_num_fields=100)
        except ValueError as exc:
            raise InvalidRequest(
                ErrorCode.INVALID_QUERY_PARAMETER, "invalid query string: it cannot be read"
            ) from exc
        for name, value in pairs:
            if name not in allowed:
                known = ", ".join(allowed) or "none"
                raise InvalidRequest(
                    ErrorCode.INVALID_QUERY_PARAMETER,
                    f"unknown query parameter {name!r}: allowed are {known}",
                    param=name,
                )
            found.setdefault(name, []).append(value)
        return found

    def check_body_headers(self, limit: int) -> None:
        """Refuse what the headers already tell. Raises ``GatewayError``."""
        encoding = self._encoding()
        if encoding != _PLAIN and encoding not in _DECODERS:
            raise GatewayError(
                ErrorCode.UNSUPPORTED_CONTENT_ENCODING,
                f'content encoding "{encoding.decode("latin-1")}" is not supported: send gzip, deflate or none',
                param="content-encoding",
            )
        length = self.headers.get(b"content-length")
        if length is not None and length.isdigit() and int(length) > limit:
            raise too_large(limit)

    async def body(self, limit: int) -> bytes:
        """The whole body, decompressed; at most ``limit`` bytes of it, before and after.

        Raises ``GatewayError`` when it is too large, too slow or broken, ``ClientGone`` when it never ends.
        """
        encoding = self._encoding()
        received = await self._received(limit)
        if encoding == _PLAIN:
            return received
        most = len(received) * _MOST_EXPANSION
        return await in_turns(most, _decompress, received, _DECODERS[encoding], limit)

    def _encoding(self) -> bytes:
        if b"content-encoding" not in self.headers:
            return _PLAIN
        return b", ".join(self.values(b"content-encoding")).lower() or _PLAIN

    async def _received(self, limit: int) -> bytes:
        message = await self._next_message()
        first: bytes = message.get("body", b"")
        if len(first) > limit:
            raise too_large(limit)
        if not message.get("more_body", False):
            return first
        with self._room.reserved(self._announced()) as reservation:
            return await self._rest(first, limit, reservation)

    async def _rest(self, first: bytes, limit: int, reservation: "Reservation") -> bytes:
        chunks = [first]
        size = len(first)
        more = True
        while more:
            message = await self._next_message()
            chunk = message.get("body", b"")
            more = message.get("more_body", False)
            size += len(chunk)
            if size > limit:
                raise too_large(limit)
            reservation.grow_to(size)
            chunks.append(chunk)
        return b"".join(chunks)

    def _announced(self) -> int:
        length = self.headers.get(b"content-length", b"")
        return int(length) if length.isdigit() else 0

    async def _next_message(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        return message


@final
class BodyRoom:
    """How much memory bodies may take while they are being received, all together."""

    def __init__(self, size: int = MOST_BEING_RECEIVED) -> None:
        self.free = size

    def reserved(self, size: int) -> "Reservation":
        """Raises ``StoreBusy`` where there is not so much left."""
        reservation = Reservation(self)
        reservation.grow_to(size)
        return reservation


@final
class Reservation:
    """Room for one body, given back when its context is left."""

    def __init__(self, room: BodyRoom) -> None:
        self._room = room
        self._size = 0

    def grow_to(self, size: int) -> None:
        """Raises ``StoreBusy`` where there is not so much left."""
        more = max(0, size - self._size)
        if more > self._room.free:
            raise StoreBusy
        self._room.free -= more
        self._size += more

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._room.free += self._size
        self._size = 0


def _decompress(data: bytes, window_bits: int, limit: int) -> bytes:
    decoder = zlib.decompressobj(window_bits)
    try:
        plain = decoder.decompress(data, limit + 1)
    except zlib.error as exc:
        raise _bad_compression() from exc
    if len(plain) > limit:
        raise too_large(limit)
    if not decoder.eof or decoder.unused_data:
        raise _bad_compression()
    return plain


def _bad_compression() -> InvalidRequest:
    return InvalidRequest(
        ErrorCode.INVALID_ENCODING, "invalid compressed request body", param="content-encoding"
    )


def too_large(limit: int) -> GatewayError:
    return GatewayError(ErrorCode.REQUEST_TOO_LARGE, f"request body exceeds the limit of {limit} bytes")


def too_slow() -> GatewayError:
    return GatewayError(ErrorCode.REQUEST_TIMEOUT, "request body was not received in time")
