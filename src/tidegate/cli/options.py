"""What many commands understand: how to print, which gateway to talk to, how to write a duration."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from cyclopts import Group, Parameter, Token

_OUTPUT: Final = Group("Output", sort_key=8)
_CONNECTION: Final = Group("Connection", sort_key=9)
_DURATION: Final = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)(ms|s|m|h|d|w)?", re.ASCII)
_UNITS: Final = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
DURATION_FORM: Final = "a duration such as 30s, 10m or 7d; a plain number counts seconds"


def examples(*lines: str) -> str:
    """The beginning of a command's help."""
    return "\n".join(("Examples", *(f"  {line}" for line in lines)))


def read_duration(text: str) -> timedelta | None:
    """``90``, ``90s``, ``10m``, ``7d``; ``None`` for anything else."""
    match = _DURATION.fullmatch(text)
    return None if match is None else float(match[1]) * _UNITS[match[2] or "s"]


def _convert_duration(_type: Any, tokens: Sequence[Token]) -> timedelta:
    duration = read_duration(tokens[0].value)
    if duration is None:
        raise ValueError(f'"{tokens[0].value}" is not {DURATION_FORM}')
    return duration


Duration = Annotated[timedelta, Parameter(converter=_convert_duration, n_tokens=1, metavar="DURATION")]
Flag = Annotated[bool, Parameter(show_default=False)]


@Parameter(name="*", group=_OUTPUT)
@dataclass(frozen=True, slots=True)
class Output:
    """How results are printed. They go to stdout, everything else goes to stderr."""

    json: Annotated[Flag, Parameter(help="Print JSON: one document, or one line per entry of a list.")] = (
        False
    )
    color: Annotated[
        Literal["auto", "always", "never"], Parameter(help="Colors; auto obeys the terminal and NO_COLOR.")
    ] = "auto"
    utc: Annotated[Flag, Parameter(help="Show times in UTC instead of the local zone.")] = False
    quiet: Annotated[Flag, Parameter(alias="-q", help="Only results and errors.")] = False
    verbose: Annotated[Flag, Parameter(alias="-v", help="Say more on stderr.")] = False


@Parameter(name="*", group=_CONNECTION)
@dataclass(frozen=True, slots=True)
class Source:
    """Where the configuration and the data are."""

    config: Annotated[Path | None, Parameter(help="Configuration file; else TIDEGATE_CONFIG, else none.")] = (
        None
    )
    data: Annotated[
        Path | None, Parameter(help="Data directory; else the configuration's, else ./tidegate-data.")
    ] = None


@Parameter(name="*", group=_CONNECTION)
@dataclass(frozen=True, slots=True)
class Connection(Source):
    """Which gateway, and as whom."""

    url: Annotated[
        str | None, Parameter(help="The gateway; else TIDEGATE_URL, else the address in the configuration.")
    ] = None
    key: Annotated[
        str | None,
        Parameter(
            help="Virtual key or token; better in TIDEGATE_KEY, where no process list shows it. "
            "Without one, a short admin token of the data directory's own issuer."
        ),
    ] = None


DEFAULT_OUTPUT: Final = Output()
DEFAULT_SOURCE: Final = Source()
DEFAULT_CONNECTION: Final = Connection()
