"""Durations and sizes: quantities with a unit, or plain numbers in the unit their setting is known for."""

import math
import re
from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Final

from tidegate.settings.kinds import Kind, number_in, out_of_range, plain, wrong_type
from tidegate.settings.problems import Code, Refused, quoted

_UNITS: Final[Mapping[str, timedelta]] = MappingProxyType(
    {
        "ms": timedelta(milliseconds=1),
        "s": timedelta(seconds=1),
        "m": timedelta(minutes=1),
        "h": timedelta(hours=1),
        "d": timedelta(days=1),
        "w": timedelta(weeks=1),
    }
)
_SIZES: Final[Mapping[str, int]] = MappingProxyType(
    {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
)
_UNIT_NAMES: Final = {"ms": "milliseconds", "s": "seconds", "B": "bytes", "MiB": "MiB"}
_DURATION: Final = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)(ms|s|m|h|d|w)", re.ASCII)
_SIZE: Final = re.compile(r"(\d{1,15})(B|KiB|MiB|GiB|TiB)", re.ASCII)


class Duration(Kind, frozen=True):
    """A span of time: ``25s``, ``10m``, ``7d``, ``500ms``, or a plain number in the setting's own unit."""

    unit: str
    least: timedelta
    most: timedelta

    @property
    def name(self) -> str:
        return "duration"

    @property
    def allowed(self) -> str:
        return (
            f"a duration from {duration_text(self.least)} to {duration_text(self.most)}, "
            f"written like 25s, 10m or 500ms; a plain number counts {_UNIT_NAMES[self.unit]}"
        )

    def read(self, value: object) -> timedelta:
        try:
            duration = self._duration(value)
        except OverflowError:
            raise out_of_range(value) from None
        if not self.least <= duration <= self.most:
            raise out_of_range(value)
        return duration

    def _duration(self, value: object) -> timedelta:
        if isinstance(value, str):
            match = _DURATION.fullmatch(value)
            if match is None:
                raise Refused(Code.INVALID_VALUE, f"Not a duration: found {quoted(value)}.")
            return float(match[1]) * _UNITS[match[2]]
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise wrong_type(value)
        if not math.isfinite(value):
            raise out_of_range(value)
        return value * _UNITS[self.unit]

    def parse(self, text: str) -> object:
        return number_in(text)

    def show(self, value: timedelta) -> object:
        return plain(value / _UNITS[self.unit])

    def json_schema(self) -> dict[str, Any]:
        least, most = self.show(self.least), self.show(self.most)
        return {
            "anyOf": [
                {"type": "number", "minimum": least, "maximum": most},
                {"type": "string", "pattern": f"^{_DURATION.pattern}$"},
            ]
        }


class Size(Kind, frozen=True):
    """A number of bytes: ``20MiB``, or a plain number in the setting's own unit."""

    unit: str
    least: int
    most: int

    @property
    def name(self) -> str:
        return "size"

    @property
    def allowed(self) -> str:
        return (
            f"a size from {size_text(self.least)} to {size_text(self.most)}, written like 20MiB; "
            f"a plain number counts {_UNIT_NAMES[self.unit]}"
        )

    def read(self, value: object) -> int:
        size = self._size(value)
        if not self.least <= size <= self.most:
            raise out_of_range(value)
        return size

    def _size(self, value: object) -> int:
        if isinstance(value, str):
            match = _SIZE.fullmatch(value)
            if match is None:
                raise Refused(Code.INVALID_VALUE, f"Not a size: found {quoted(value)}.")
            return int(match[1]) * _SIZES[match[2]]
        if isinstance(value, bool) or not isinstance(value, int):
            raise wrong_type(value)
        return value * _SIZES[self.unit]

    def parse(self, text: str) -> object:
        return number_in(text)

    def show(self, value: int) -> object:
        whole, rest = divmod(value, _SIZES[self.unit])
        return f"{value}B" if rest else whole

    def json_schema(self) -> dict[str, Any]:
        unit = _SIZES[self.unit]
        return {
            "anyOf": [
                {"type": "integer", "minimum": -(-self.least // unit), "maximum": self.most // unit},
                {"type": "string", "pattern": f"^{_SIZE.pattern}$"},
            ]
        }


def duration_text(duration: timedelta) -> str:
    """In the largest unit that leaves no fraction."""
    for unit, length in reversed(tuple(_UNITS.items())):
        if unit != "w" and duration >= length and duration % length == timedelta(0):
            return f"{duration // length}{unit}"
    return f"{duration / _UNITS['ms']:g}ms" if duration else "0s"


def size_text(size: int) -> str:
    for unit, length in reversed(tuple(_SIZES.items())):
        if size >= length and size % length == 0:
            return f"{size // length}{unit}"
    return "0B"
