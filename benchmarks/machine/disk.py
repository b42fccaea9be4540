"""The disk the store works on, and yardstick (d): what one fsync costs there."""

import os
import time
from pathlib import Path
from typing import Final

from benchmarks.load.histogram import Histogram

_BLOCK: Final = 4096
_BLOCKS: Final = 256
_IN_MEMORY: Final = frozenset({"tmpfs", "ramfs"})


class NoRealDisk(Exception):
    """The figures would be those of a file system that keeps nothing."""


def file_system_of(directory: Path) -> str:
    best, kind = "", "unknown"
    target = str(directory.resolve())
    for line in Path("/proc/self/mounts").read_text("utf-8", "surrogateescape").splitlines():
        _, point, found, *_ = line.split(" ")
        is_inside = target == point or target.startswith(point.rstrip("/") + "/")
        if is_inside and len(point) >= len(best):
            best, kind = point, found
    return kind


def require_real_disk(directory: Path) -> str:
    """The kind of file system. Raises ``NoRealDisk``."""
    kind = file_system_of(directory)
    if kind in _IN_MEMORY:
        raise NoRealDisk(f"{directory} is on {kind}: name a folder on a disk with --directory")
    return kind


def measure_fsync(directory: Path, seconds: float) -> Histogram:
    """One block after the other written over and synced, as in a log that has been checkpointed; blocking."""
    histogram = Histogram()
    path = directory / "fsync"
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    block = os.urandom(_BLOCK)
    try:
        os.write(handle, block * _BLOCKS)
        os.fsync(handle)
        give_up = time.perf_counter() + seconds
        while time.perf_counter() < give_up:
            began = time.perf_counter_ns()
            os.pwrite(handle, block, histogram.count % _BLOCKS * _BLOCK)
            os.fdatasync(handle)
            histogram.record((time.perf_counter_ns() - began) // 1000)
    finally:
        os.close(handle)
        path.unlink()
    return histogram
