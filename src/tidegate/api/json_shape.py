"""The shape of a JSON text, surveyed before anything of it is built.

A parser holds the interpreter until it is done, on a thread as well, so what would keep it busy for long is refused
beforehand. The survey goes in slices: between two of them others get their turn.
"""

from array import array
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Final, final

from tidegate.domain.errors import ErrorCode, InvalidRequest

DEEPEST_NESTING: Final = 128
MOST_VALUES: Final = 100_000
"""Members and items of one body."""
MOST_ESCAPES: Final = 2_000_000
"""Backslashes. Base64 with every slash escaped, as PHP has it, holds a quarter of that at most."""
MOST_OUTSIDE_STRINGS: Final = 8 * 2**20
"""Bytes of numbers, punctuation and white space: a hundred thousand values leave room for eighty each."""
MOST_WIDE_TEXT: Final = 8 * 2**20
"""Bytes of strings with characters beyond ASCII: one such character makes four bytes of every other one."""

_SLICE: Final = 2**16
# A value may come with a name: two strings, four quotes.
_MOST_QUOTES: Final = 4 * MOST_VALUES
_MOST_BRACKETS: Final = 2 * MOST_VALUES
_STEPS: Final = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_NOT_MARKS: Final = bytes(set(range(256)) - set(b"[]{},"))


def check_shape(body: bytes) -> None:
    """Raises ``InvalidRequest`` for what would take long to build."""
    is_narrow = len(body) <= _SLICE and body.count(b"[") + body.count(b"{") <= DEEPEST_NESTING
    if not is_narrow:
        _Survey().read(body)


@final
class _Survey:
    """One walk over a text. Of a malformed one it may mistake what follows the first mistake; nothing reads that."""

    def __init__(self) -> None:
        self._in_string = False
        self._escapes = 0
        self._quotes = 0
        self._values = 0
        self._outside = 0
        self._brackets = bytearray()
        self._length = 0
        """Of the string being read."""
        self._is_wide = False
        self._wide_text = 0

    def read(self, body: bytes) -> None:
        counts_text = len(body) > MOST_WIDE_TEXT
        for part in _slices(body):
            escapes = part.count(b"\\")
            self._escapes += escapes
            pieces = (_without_escaped_quotes(part) if escapes else part).split(b'"')
            self._quotes += len(pieces) - 1
            outside, inside = pieces[self._in_string :: 2], pieces[not self._in_string :: 2]
            self._in_string ^= len(pieces) % 2 == 0
            self._count_values(b"".join(outside))
            if counts_text:
                self._count_text(inside)
            self._check()
        if _depth(self._brackets) > DEEPEST_NESTING:
            raise _too_complex(f"nested deeper than {DEEPEST_NESTING} levels")

    def _count_values(self, structure: bytes) -> None:
        self._outside += len(structure)
        marks = structure.translate(None, _NOT_MARKS)
        self._values += sum(map(marks.count, (b",", b"[", b"{")))
        self._brackets += marks.replace(b",", b"")

    def _count_text(self, inside: Sequence[bytes]) -> None:
        """The last piece ends with the slice; its string may go on."""
        for index, piece in enumerate(inside, start=1):
            self._length += len(piece)
            self._is_wide = self._is_wide or _is_wide(piece)
            goes_on = self._in_string and index == len(inside)
            if self._is_wide:
                self._wide_text += self._length
                self._length = 0
            if not goes_on:
                self._length = 0
                self._is_wide = False

    def _check(self) -> None:
        if self._values > MOST_VALUES or self._quotes > _MOST_QUOTES or len(self._brackets) > _MOST_BRACKETS:
            raise _too_complex(f"more than {MOST_VALUES} members and items")
        if self._outside > MOST_OUTSIDE_STRINGS:
            raise _too_complex(f"more than {MOST_OUTSIDE_STRINGS} bytes outside strings")
        if self._escapes > MOST_ESCAPES:
            raise _too_complex(f"more than {MOST_ESCAPES} escapes")
        if self._wide_text > MOST_WIDE_TEXT:
            raise _too_complex(f"more than {MOST_WIDE_TEXT} bytes of text that is not ASCII")


def _slices(body: bytes) -> Iterator[bytes]:
    """``body`` in pieces that do not cut an escape in two."""
    start = 0
    while start < len(body):
        part = body[start : start + _SLICE]
        if (len(part) - len(part.rstrip(b"\\"))) % 2:
            part = body[start : start + _SLICE + 1]
        yield part
        start += len(part)


def _without_escaped_quotes(part: bytes) -> bytes:
    return part.replace(b"\\\\", b"").replace(b'\\"', b"")


def _is_wide(text: bytes) -> bool:
    return not text.isascii() or (b"\\" in text and b"\\u" in text)


def _depth(brackets: bytearray) -> int:
    return max(accumulate(array("b", brackets.translate(_STEPS))), default=0)


def _too_complex(problem: str) -> InvalidRequest:
    return InvalidRequest(ErrorCode.INVALID_JSON, f"invalid request format: too complex: {problem}")
