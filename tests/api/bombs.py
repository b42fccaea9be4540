"""Bodies made to harm: large, deep, wide, dense, broken (security.md §6, F32), and honest ones that look alike."""

import base64
import gzip
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from support.bombs import bomb

MEBIBYTE = 2**20
LIMIT = 32 * MEBIBYTE
"""Of a body; the default of the configuration."""
_START = b'{"model":"openai/echo","messages":[{"role":"user","content":"'
_END = b'"}]}'
_ROOM = LIMIT - len(_START + _END) - 16
WAVE = "\N{WATER WAVE}".encode()


@dataclass(frozen=True)
class Bomb:
    """One request; the body is made when it is needed."""

    body: Callable[[], bytes]
    code: str | None = "invalid_json"
    """Of the refusal; ``None`` where the input is legal, and accepted."""
    problem: str = ""
    """What the message says, in part."""
    headers: dict[str, str] = field(default_factory=dict)
    inside: int = 0
    """What it is when decompressed, in bytes, as far as the gateway reads it."""


def content(text: bytes) -> bytes:
    """A chat with this text, as it stands in JSON."""
    return _START + text + _END


def filled(unit: bytes, size: int = _ROOM) -> bytes:
    return content(unit * (size // len(unit)))


def listed(item: bytes, count: int) -> bytes:
    return b"[" + b",".join([item] * count) + b"]"


def beside(members: bytes) -> bytes:
    """A chat with further members that the gateway does not know."""
    return b'{"model":"openai/echo","messages":[{"role":"user"}],' + members + b"}"


def messages(count: int, message: bytes) -> bytes:
    return b'{"model":"openai/echo","messages":' + listed(message, count) + b"}"


def nested(opening: bytes, depth: int, closing: bytes) -> bytes:
    return opening * depth + b"1" + closing * depth


def squeezed(body: bytes) -> bytes:
    return gzip.compress(body, 6)


def _chat(**members: Any) -> bytes:
    return json.dumps({"model": "openai/echo", "messages": [{"role": "user"}], **members}).encode()


_VALUES = "too complex: more than 100000 members and items"
_DEEP = "too complex: nested deeper than 128 levels"
_WIDE = "too complex: more than 8388608 bytes of text that is not ASCII"
_OUTSIDE = "too complex: more than 8388608 bytes outside strings"
_ESCAPES = "too complex: more than 2000000 escapes"
_UTF8 = "not UTF-8"
_GZIP = {"content-encoding": "gzip"}
_DEFLATE = {"content-encoding": "deflate"}

SHAPES = {
    "200,000 lists deep": Bomb(lambda: b"[" * 200_000, problem=_VALUES),
    "200,000 objects deep": Bomb(lambda: nested(b'{"a":', 200_000, b"}"), problem=_VALUES),
    "100,000 lists deep": Bomb(lambda: b"[" * 100_000, problem=_DEEP),
    "129 deep": Bomb(lambda: nested(b'{"a":', 129, b"}"), problem=_DEEP),
    "129 deep behind much text": Bomb(
        lambda: beside(b'"x":"' + b"[," * MEBIBYTE + b'","y":' + nested(b"[", 128, b"]")), problem=_DEEP
    ),
    "129 deep, then nothing but ends": Bomb(lambda: b"[" * 129 + b"]" * (LIMIT - 129), problem=_VALUES),
    "1,000,000 members": Bomb(
        lambda: b"{" + b",".join(b'"m%d":1' % number for number in range(1_000_000)) + b"}", problem=_VALUES
    ),
    "680,000 tiny messages": Bomb(lambda: messages(680_000, b'{"role":"user","content":"x"}'), problem=_VALUES),
    "9,000,000 integers": Bomb(lambda: listed(b"1", 9_000_000), problem=_VALUES),
    "empty lists": Bomb(lambda: listed(b"[]", LIMIT // 3 - 1), problem=_VALUES),
    "empty strings": Bomb(lambda: listed(b'""', LIMIT // 3 - 1), problem=_VALUES),
    "strings of commas": Bomb(lambda: listed(b'",,"', LIMIT // 5 - 1), problem=_VALUES),
    "empty strings and no commas": Bomb(lambda: b'""' * (LIMIT // 2), problem=_VALUES),
    "nothing but commas": Bomb(lambda: b"," * LIMIT, problem=_VALUES),
    "nothing but quotes": Bomb(lambda: b'"' * LIMIT, problem=_VALUES),
    "nothing but backslashes": Bomb(lambda: b"\\" * LIMIT, problem=_ESCAPES),
    "nothing but spaces": Bomb(lambda: b" " * LIMIT, problem=_OUTSIDE),
    "a string without an end": Bomb(lambda: b'"' + b"x" * (LIMIT - 1), problem=f"malformed JSON at byte {LIMIT}"),
    "line breaks": Bomb(lambda: filled(b"\\n"), problem=_ESCAPES),
    "escaped quotes": Bomb(lambda: filled(b'\\"'), problem=_ESCAPES),
    "emoji": Bomb(lambda: filled(WAVE), problem=_WIDE),
    "escaped characters": Bomb(lambda: filled(b"\\u00e9"), problem=_WIDE),
    "one emoji that quadruples the rest": Bomb(lambda: content(b"x" * _ROOM + WAVE), problem=_WIDE),
    "one escaped emoji that quadruples the rest": Bomb(
        lambda: content(b"x" * _ROOM + b"\\ud83c\\udf0a"), problem=_WIDE
    ),
    "strings that each hold one wide character": Bomb(
        lambda: messages(20_000, b'{"role":"user","content":"' + b"x" * 1500 + WAVE + b'"}'), problem=_WIDE
    ),
}  # fmt: skip

BROKEN = {
    "an integer of 1,000,000 digits": Bomb(
        lambda: beside(b'"x":' + b"7" * 1_000_000), problem="a number is out of range"
    ),
    "an integer of the whole limit": Bomb(lambda: b"7" * LIMIT, problem=_OUTSIDE),
    "a negative one": Bomb(lambda: beside(b'"x":-' + b"7" * 1_000_000), problem="a number is out of range"),
    "1e999": Bomb(lambda: beside(b'"x":1e999'), problem="a number is out of range"),
    "an exponent of 1,000,000 digits": Bomb(
        lambda: beside(b'"x":1e' + b"9" * 1_000_000), problem="a number is out of range"
    ),
    "NaN": Bomb(lambda: beside(b'"x":NaN')),
    "Infinity": Bomb(lambda: beside(b'"x":Infinity')),
    "-Infinity": Bomb(lambda: beside(b'"x":-Infinity')),
    "high surrogate": Bomb(lambda: content(b"\\ud800")),
    "low surrogate": Bomb(lambda: content(b"\\udc00")),
    "surrogates in the wrong order": Bomb(lambda: content(b"\\udc00\\ud800")),
    "surrogate in a skipped member": Bomb(lambda: beside(b'"x":"\\udfff"')),
    "surrogate in a skipped name": Bomb(lambda: beside(b'"\\ud800":1')),
    "surrogate as UTF-8": Bomb(lambda: beside(b'"x":"\xed\xa0\x80"'), problem=_UTF8),
    "invalid UTF-8 in a skipped member": Bomb(lambda: beside(b'"x":{"y":["\xff"]}'), problem=_UTF8),
    "invalid UTF-8 in a skipped name": Bomb(lambda: beside(b'"\xff":1'), problem=_UTF8),
    "overlong UTF-8": Bomb(lambda: beside(b'"x":"\xc0\xaf"'), problem=_UTF8),
    "cut UTF-8": Bomb(lambda: beside(b'"x":"' + WAVE[:3] + b'"'), problem=_UTF8),
    "invalid UTF-8 behind much text": Bomb(lambda: content(b"x" * (8 * MEBIBYTE - 99) + b"\xff"), problem=_UTF8),
    "a byte order mark": Bomb(lambda: b"\xef\xbb\xbf" + content(b""), problem="malformed JSON at byte 0"),
    "UTF-16": Bomb(lambda: content(b"").decode().encode("utf-16")),
    "UTF-16 without a mark": Bomb(lambda: content(b"").decode().encode("utf-16-le")),
    "UTF-32": Bomb(lambda: content(b"").decode().encode("utf-32")),
    "trailing bytes": Bomb(lambda: content(b"") + b"{}"),
    "a trailing NUL": Bomb(lambda: content(b"") + b"\0"),
    "two texts in lines": Bomb(lambda: content(b"") + b"\n" + content(b"")),
    "nothing": Bomb(bytes, problem="malformed JSON at byte 0"),
    "a space": Bomb(lambda: b" "),
}  # fmt: skip

COMPRESSED = {
    "a gibibyte of zeros": Bomb(
        lambda: b"".join(part for part, _ in zip(bomb("gzip"), range(1024), strict=False)),
        "request_too_large", headers=_GZIP, inside=LIMIT,
    ),
    "the same in deflate": Bomb(
        lambda: b"".join(part for part, _ in zip(bomb("deflate"), range(1024), strict=False)),
        "request_too_large", headers=_DEFLATE, inside=LIMIT,
    ),
    "one byte too many": Bomb(
        lambda: squeezed(b" " * (LIMIT + 1)), "request_too_large", headers=_GZIP, inside=LIMIT
    ),
    "integers": Bomb(
        lambda: squeezed(listed(b"1", LIMIT // 2 - 1)), headers=_GZIP, inside=LIMIT, problem=_VALUES
    ),
    "gzip in gzip": Bomb(lambda: squeezed(squeezed(content(b""))), headers=_GZIP),
    "gzip in gzip, and saying so": Bomb(
        lambda: squeezed(squeezed(content(b""))),
        "unsupported_content_encoding", headers={"content-encoding": "gzip, gzip"},
    ),
    "deflate without its frame": Bomb(
        lambda: zlib.compress(content(b""), wbits=-15), "invalid_encoding", headers=_DEFLATE
    ),
    "deflate that says gzip": Bomb(lambda: zlib.compress(content(b"")), "invalid_encoding", headers=_GZIP),
    "a wrong checksum": Bomb(
        lambda: squeezed(content(b""))[:-8] + bytes(8), "invalid_encoding", headers=_GZIP
    ),
    "two members": Bomb(lambda: squeezed(b"{}") * 2, "invalid_encoding", headers=_GZIP),
    "a stream without an end": Bomb(
        lambda: squeezed(content(b"x" * MEBIBYTE))[:-9], "invalid_encoding", headers=_GZIP
    ),
    "a preset dictionary": Bomb(
        lambda: bytes.fromhex("78bb 0d18 0312") + bytes(64), "invalid_encoding", headers=_DEFLATE
    ),
}  # fmt: skip

HONEST = {
    "8,000,000 spaces of indentation": Bomb(lambda: b" " * 8_000_000 + content(b"x"), None),
    "128 deep": Bomb(lambda: beside(b'"x":' + nested(b"[", 127, b"]")), None),
    "duplicate members": Bomb(lambda: b'{"model":"nobody/x","temperature":9,' + _chat(temperature=1)[1:], None),
    "100,000 members and items": Bomb(lambda: beside(b'"x":' + listed(b"1", 100_000 - 5)), None),
    "20,000 messages": Bomb(lambda: messages(20_000, b'{"role":"user","content":"x"}'), None),
    "48,000 messages with a role alone": Bomb(lambda: messages(48_000, b'{"role":"user"}'), None),
    "text that looks like structure": Bomb(lambda: filled(b'",[{}]:'.replace(b'"', b"")), None),
    "a file in base64": Bomb(lambda: content(base64.b64encode(bytes(range(256)) * (_ROOM // 344))), None),
    "a file as PHP writes it": Bomb(
        lambda: content(base64.b64encode(bytes(range(256)) * (_ROOM // 400)).replace(b"/", b"\\/")), None
    ),
    "eight mebibytes of text with an emoji": Bomb(lambda: content(b"x" * (8 * MEBIBYTE - 99) + WAVE), None),
    "eight mebibytes of emoji": Bomb(lambda: filled(WAVE, 8 * MEBIBYTE - 99), None),
    "a fraction of 1,000,000 digits": Bomb(lambda: beside(b'"x":0.' + b"7" * 1_000_000), None),
    "NUL and every other escape": Bomb(lambda: content(b'\\u0000\\b\\f\\n\\r\\t\\"\\\\\\/'), None),
    "a compressed chat": Bomb(
        lambda: squeezed(content(b"x" * _ROOM)), None, headers=_GZIP, inside=LIMIT
    ),
}  # fmt: skip
