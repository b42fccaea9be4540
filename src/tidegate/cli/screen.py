"""Printing: results on stdout, everything else on stderr; tables for people, plain lines for programs."""

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, final

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from tidegate.cli.options import Output
from tidegate.cli.text import harmless, one_line


@final
class Screen:
    """Where a command prints. What comes from outside is text: no markup, no control characters."""

    def __init__(self, options: Output) -> None:
        self._options = options
        self.is_json = options.json
        self.is_quiet = options.quiet
        self.is_terminal = sys.stdout.isatty()
        self.out = _console(sys.stdout, options.color)
        self.err = _console(sys.stderr, options.color)

    def line(self, text: str) -> None:
        """One result, neither wrapped nor cut."""
        self._write(text if not self.is_terminal else harmless(text))

    def document(self, value: Any) -> None:
        """One JSON document, indented where a person reads it."""
        self._write(json.dumps(value, ensure_ascii=False, indent=2 if self.is_terminal else None))

    def entries(self, values: Iterable[Mapping[str, Any]]) -> None:
        """JSON Lines."""
        for value in values:
            self._write(json.dumps(value, ensure_ascii=False))

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """On a terminal a table, else lines with tabs between the values and no heading."""
        if not self.is_terminal:
            for row in rows:
                self._write("\t".join(one_line(value) for value in row))
            return
        lines = [[one_line(value) for value in row] for row in (columns, *rows)]
        widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
        for number, line in enumerate(lines):
            padded = (set_cell_size(value, width) for value, width in zip(line, widths, strict=True))
            text = Text("  ".join(padded).rstrip(), style="bold" if number == 0 else "")
            # A cut id or secret is worthless: the terminal may break the line, we do not.
            self.out.print(text, soft_wrap=True)

    def note(self, text: str) -> None:
        """What is good to know."""
        if not self.is_quiet:
            self.problem(text)

    def detail(self, text: str) -> None:
        """What is good to know for who asked for more."""
        if self._options.verbose:
            self.problem(text)

    def problem(self, text: str) -> None:
        """What has to be known."""
        sys.stderr.write(f"{harmless(text)}\n")
        sys.stderr.flush()

    def moment(self, timestamp: str | None) -> str:
        """A time of the API for people: in the local zone, or in UTC."""
        if timestamp is None:
            return ""
        moment = datetime.fromisoformat(timestamp)
        zoned = moment.astimezone(UTC) if self._options.utc else moment.astimezone()
        return zoned.strftime("%Y-%m-%d %H:%M:%S" + (" UTC" if self._options.utc else ""))

    @staticmethod
    def _write(text: str) -> None:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


def may_ask() -> bool:
    """Whether somebody is there to answer a question."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def _console(file: Any, color: str) -> Console:
    """NO_COLOR counts unless colors were asked for outright."""
    if color == "always":
        return Console(file=file, force_terminal=True, no_color=False, highlight=False)
    is_plain = color == "never" or bool(os.environ.get("NO_COLOR"))
    return Console(file=file, color_system=None if is_plain else "auto", highlight=False)
