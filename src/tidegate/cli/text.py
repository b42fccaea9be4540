"""Text that comes from elsewhere, made safe to print."""

from typing import Final

_KEPT: Final = frozenset("\n\t")


def harmless(text: str) -> str:
    """Without anything that could move a terminal's cursor or change what it shows."""
    return "".join(one if one.isprintable() or one in _KEPT else repr(one)[1:-1] for one in text)


def one_line(text: str) -> str:
    return harmless(text).replace("\n", "\\n").replace("\t", "\\t")
