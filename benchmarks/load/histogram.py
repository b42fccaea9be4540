"""Latencies in buckets whose width grows with the value: three digits of precision, constant memory."""

from collections.abc import Iterator
from typing import Final, final

_EXACT: Final = 2048
"""Below this, every microsecond has a bucket; above, a bucket is at most 1/1024 of its value wide."""
_HALF: Final = _EXACT // 2
_LONGEST: Final = 2**32 - 1


@final
class Histogram:
    """A high dynamic range histogram of microseconds, up to 71 minutes."""

    def __init__(self) -> None:
        self._counts = [0] * (_index(_LONGEST) + 1)
        self.count = 0
        self.longest = 0

    def record(self, microseconds: int) -> None:
        """What took less than nothing, because a clock was read in between, counts as nothing."""
        value = min(max(microseconds, 0), _LONGEST)
        # _index(), written out: this runs once for every request, on the core of the load.
        shift = value.bit_length() - 11
        self._counts[value if shift <= 0 else (shift << 10) + (value >> shift)] += 1
        self.count += 1
        self.longest = max(self.longest, value)

    def percentile(self, share: float) -> int:
        """Microseconds that ``share`` (0 to 1) of the values do not exceed; 0 when there are none."""
        wanted = max(1, -int(-share * self.count // 1))
        seen = 0
        for index, count in self._filled():
            seen += count
            if seen >= wanted:
                return min(_largest_in(index), self.longest)
        return 0

    def _filled(self) -> Iterator[tuple[int, int]]:
        return ((index, count) for index, count in enumerate(self._counts) if count)


def _index(value: int) -> int:
    shift = value.bit_length() - 11
    return value if shift <= 0 else (shift << 10) + (value >> shift)


def _largest_in(index: int) -> int:
    """The largest value that falls into a bucket."""
    if index < _EXACT:
        return index
    shift = (index >> 10) - 1
    return ((index - (shift << 10) + 1) << shift) - 1
