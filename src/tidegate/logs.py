"""Where log lines go and what they look like: readable on a terminal, JSON elsewhere, secrets masked."""

import asyncio
import io
import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, Final, TextIO, final

import msgspec
import structlog

LEVELS: Final = ("debug", "info", "warning", "error")

_SECRET: Final = re.compile(
    r"sk-[A-Za-z0-9_-]{4,}|eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_.-]+|AIza[A-Za-z0-9_-]{10,}"
    r"|(?i:bearer\s+)[^\s\\\"',]+|(?i:\bkey=)[^\s\\&\"']+"
)
_SIGNS: Final = ("sk-", "eyJ", "AIza", "earer", "EARER", "ey=", "EY=")
"""One of these is part of whatever ``_SECRET`` matches; looking for them is much cheaper than matching."""


def mask(text: str) -> str:
    """``text`` with whatever looks like a credential replaced."""
    for sign in _SIGNS:
        if sign in text:
            return _SECRET.sub("***", text)
    return text


def configure_logging(level: str, stream: TextIO = sys.stderr, *, has_colors: bool = True) -> None:
    """Send events of ``level`` and above to ``stream``; colors are for terminals only."""
    lines = _Lines(stream)
    structlog.configure(
        processors=_for_people(has_colors=has_colors) if stream.isatty() else _for_machines(),
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=lambda *_names: lines,
        cache_logger_on_first_use=False,
    )


def _for_people(*, has_colors: bool) -> list[Any]:
    return [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        _escape_control_characters,
        structlog.dev.ConsoleRenderer(
            colors=has_colors, timestamp_key="ts", exception_formatter=_write_traceback
        ),
        _mask_line,
    ]  # fmt: skip


def _for_machines() -> list[Any]:
    return [
        structlog.processors.ExceptionRenderer(
            structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        ),
        _JsonLine(),
    ]


@final
class _JsonLine:
    """One event as one line of JSON, masked: time, level and name first."""

    def __init__(self) -> None:
        self._stamp = structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts")

    def __call__(self, logger: Any, method: str, event: MutableMapping[str, Any]) -> str:
        line: dict[str, Any] = {}
        self._stamp(logger, method, line)
        line["level"] = method
        line["event"] = event.pop("event")
        line |= event
        return _harmless(mask(msgspec.json.encode(line, enc_hook=str).decode()))


def _harmless(text: str) -> str:
    """JSON leaves C1 and bidirectional controls as they are; a terminal that shows the log obeys them."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else _escaped(one) for one in text)


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))


def _mask_line(_logger: Any, _method: str, line: str) -> str:
    return mask(line)


def _escape_control_characters(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """One event is one line, whatever a caller put into a name (JSON escapes by itself)."""
    for name, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[name] = value.encode("unicode_escape").decode("ascii")
    return event


def _write_traceback(stream: TextIO, exc_info: Any) -> None:
    """Never with local variables: they hold requests and keys. Indented, so that no line of it looks like an event."""
    plain = io.StringIO()
    structlog.dev.plain_traceback(plain, exc_info)
    lines = plain.getvalue().splitlines()
    stream.write("\n".join(f"  {_harmless(line)}" for line in lines))


@final
class _Lines:
    """A logger that writes all lines of one turn of the event loop in one piece."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._waiting: list[str] = []

    def msg(self, line: str) -> None:
        self._waiting.append(line + "\n")
        if len(self._waiting) > 1:
            return  # whoever wrote the first has seen to it
        try:
            asyncio.get_running_loop().call_soon(self.flush)
        except RuntimeError:
            self.flush()

    log = debug = info = warning = warn = error = critical = fatal = exception = msg

    def flush(self) -> None:
        lines, self._waiting = self._waiting, []
        self._stream.write("".join(lines))
        self._stream.flush()
