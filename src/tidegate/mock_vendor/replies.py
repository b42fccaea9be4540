"""From a rule to a reply: which body goes out, with which headers, piece by piece where it is large."""

import itertools
import zlib
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final

from msgspec import Struct

from tidegate.mock_vendor import dialect
from tidegate.mock_vendor.dialect import Answer, ChatRequest
from tidegate.mock_vendor.script import Bomb, Rule

Headers = list[tuple[bytes, bytes]]

JSON: Final = b"application/json"

_PIECE: Final = 64 * 1024
_PLACE_OF_CONTENT: Final = "@"


class Reply(Struct):
    """What goes out; ``length`` is ``None`` where the end is not known in advance."""

    status: int
    headers: Headers
    body: Iterable[bytes]
    length: int | None
    answer: Answer | None = None
    """The completion it carries; ``None`` for errors and arbitrary bodies."""


def plain(status: int, data: bytes, content_type: bytes = JSON) -> Reply:
    return Reply(status, [(b"content-type", content_type)], (data,), len(data))


def answered(status: int, answer: Answer) -> Reply:
    return Reply(status, [(b"content-type", JSON)], (answer.body,), len(answer.body), answer)


def answer_to(request: ChatRequest, rule: Rule, *, n: int, at: datetime) -> Answer:
    content = request.echo if rule.size is None else _PLACE_OF_CONTENT
    tokens = rule.tokens
    if tokens is None:
        tokens = (len(content) if rule.size is None else rule.size) // dialect.CHARACTERS_PER_TOKEN + 1
    return dialect.complete(request, content, tokens=tokens, finish_reason=rule.finish_reason, n=n, at=at)


def limited(rule: Rule, reason: str) -> Reply:
    """429, with the rule's ``retry_after`` or one second."""
    reply = plain(429, dialect.error(429, reason))
    reply.headers.append(
        (b"retry-after", _number_or_text(1 if rule.retry_after is None else rule.retry_after))
    )
    return reply


def scripted(rule: Rule, status: int, *, failed: bool, answer: Answer) -> Reply:
    """What the rule says is sent with ``status``; ``answer`` is the completion in case it says nothing."""
    reply = _scripted_body(rule, status, failed=failed, answer=answer)
    if rule.retry_after is not None and status >= 300:
        reply.headers.append((b"retry-after", _number_or_text(rule.retry_after)))
    if rule.endless:
        reply.body, reply.length = _for_ever(b"".join(reply.body)), None
    if status in (204, 304):
        reply.body, reply.length = (), None
    reply.headers = _with_own(reply.headers, rule)
    return reply


def _scripted_body(rule: Rule, status: int, *, failed: bool, answer: Answer) -> Reply:
    if rule.error is not None and (failed or rule.fail_rate is None):
        return _of_text(
            status, rule.error if isinstance(rule.error, str) else dialect.encode(rule.error).decode()
        )
    if failed:
        return plain(status, dialect.error(status, f"The mock vendor was told to fail with {status}."))
    if rule.bomb is not None:
        headers = [(b"content-type", JSON), (b"content-encoding", rule.bomb.encoding.encode())]
        return Reply(status, headers, _bomb(rule.bomb), None)
    if rule.body is not None:
        return _of_text(status, rule.body)
    if status >= 300:
        return plain(status, dialect.error(status, f"The mock vendor was told to answer {status}."))
    if rule.size is not None:
        return _sized(status, answer, rule.size)
    return answered(status, answer)


def _for_ever(data: bytes) -> Iterable[bytes]:
    return itertools.repeat(data * (_PIECE // len(data) + 1))


def _of_text(status: int, text: str) -> Reply:
    start = text.lstrip()[:1]
    content_type = JSON if start in ("{", "[") else b"text/html" if start == "<" else b"text/plain"
    return plain(status, text.encode(), content_type)


def _sized(status: int, answer: Answer, size: int) -> Reply:
    """``answer`` with ``size`` letters in the place of its content, never in memory as a whole."""
    before, after = answer.body.split(f'"content":"{_PLACE_OF_CONTENT}"'.encode())
    before, after = before + b'"content":"', b'"' + after
    letters = b"x" * _PIECE
    pieces = itertools.chain(
        (before,), itertools.repeat(letters, size // _PIECE), (letters[: size % _PIECE] + after,)
    )
    return Reply(status, [(b"content-type", JSON)], pieces, len(before) + size + len(after), answer)


def _bomb(bomb: Bomb) -> Iterator[bytes]:
    """Zeros, compressed. After a full flush the coder remembers nothing, so one piece serves for all."""
    zeros = bytes(1024 * 1024)
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    piece = packer.compress(zeros) + packer.flush(zlib.Z_FULL_FLUSH)
    whole, rest = divmod(bomb.size, len(zeros))
    is_gzip = bomb.encoding == "gzip"
    checksum, update = (0, zlib.crc32) if is_gzip else (1, zlib.adler32)
    yield b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff" if is_gzip else b"\x78\xda"
    for _ in range(whole):
        checksum = update(zeros, checksum)
        yield piece
    checksum = update(zeros[:rest], checksum)
    yield packer.compress(zeros[:rest]) + packer.flush()
    if is_gzip:
        yield checksum.to_bytes(4, "little") + (bomb.size % 2**32).to_bytes(4, "little")
    else:
        yield checksum.to_bytes(4, "big")


def _with_own(headers: Headers, rule: Rule) -> Headers:
    """The rule's headers in the place of ours that have the same name."""
    own = [
        (name.lower().encode(), value.encode("latin-1"))
        for name, values in rule.headers.items()
        for value in ([values] if isinstance(values, str) else values)
    ]
    replaced = {name for name, _ in own}
    return [header for header in headers if header[0] not in replaced] + own


def _number_or_text(value: float | str) -> bytes:
    return value.encode("latin-1") if isinstance(value, str) else f"{value:.15g}".encode()
