"""What the kernel says about a process."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, final

from msgspec import Struct

from benchmarks.samples import Latency, Sample

_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
_UTIME: Final = 11
_STIME: Final = 12
"""Places in ``/proc/PID/stat`` behind the name, which may hold spaces."""


def cpu_seconds(pid: int) -> float:
    """User and system time of all its threads."""
    after_name = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
    return (int(after_name[_UTIME]) + int(after_name[_STIME])) / _TICKS_PER_SECOND


def resident_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text("ascii", "replace").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(f"process {pid} has no memory any more")


def tree_of(pid: int) -> list[int]:
    """The process and everything it has started."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            found += [int(child) for child in task.read_text("ascii").split()]
    return found


class Reading(Struct, frozen=True):
    """What was used between start and stop."""

    seconds: float
    server_cpu: float
    load_cpu: float

    def sample(self, count: int, latency: Latency | None = None) -> Sample:
        return Sample(
            count=count,
            seconds=self.seconds,
            cpu_us=self.server_cpu / count * 1e6 if count else None,
            latency=latency,
            load_busy=self.load_cpu / self.seconds,
        )


@final
class Meter:
    """Wall and CPU time of the processes that are measured and of those that share the load's core."""

    def __init__(self, server: Sequence[int], load: Sequence[int] = ()) -> None:
        self._server = server
        self._load = (os.getpid(), *load)
        self._began = (0.0, 0.0, 0.0)

    def start(self) -> None:
        self._began = self._read()

    def stop(self) -> Reading:
        return Reading(*(now - then for now, then in zip(self._read(), self._began, strict=True)))

    def _read(self) -> tuple[float, float, float]:
        return time.perf_counter(), sum(map(cpu_seconds, self._server)), sum(map(cpu_seconds, self._load))
