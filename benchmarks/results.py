"""One run of the benchmarks as it is kept: a JSON file with every round."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from benchmarks.bench import Pace
from benchmarks.report import Report

FOLDER = Path(__file__).parents[1] / ".cache" / "results"
LATEST = Path(__file__).parents[1] / "docs" / "benchmarks.json"
"""The run whose tables are published."""
CHANGED: Final = "-changed"
NO_COMMIT: Final = "no-commit"


class Machine(Struct, frozen=True):
    """Where it was measured."""

    processor: str
    cores: int
    memory_gib: float
    system: str
    python: str
    file_system: str
    pinning: str


class Results(Struct, frozen=True):
    """One run."""

    commit: str
    measured_at: datetime
    pace: Pace
    machine: Machine
    reports: list[Report]

    @property
    def title(self) -> str:
        return f"Tidegate {self.commit}, {self.measured_at:%Y-%m-%d %H:%M} UTC"

    @property
    def conditions(self) -> str:
        m, pace = self.machine, self.pace
        return (
            f"{m.processor}, {m.cores} cores, {m.memory_gib:.0f} GiB, {m.system}, Python {m.python}, "
            f"{m.file_system}; {m.pinning}; {pace.rounds} rounds of {pace.seconds:g} s"
            f"{', quick look' if pace.is_quick else ''}"
        )


def this_machine(file_system: str, pinning: str) -> Machine:
    return Machine(
        processor=_processor(),
        cores=os.cpu_count() or 1,
        memory_gib=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30,
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        file_system=file_system,
        pinning=pinning,
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def commit_of(checkout: Path) -> str:
    """Short name of the commit that is checked out, marked when the tree has changed since."""
    found = subprocess.run(
        ["git", "describe", "--always", f"--dirty={CHANGED}", "--abbrev=12", "--match="],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip() or NO_COMMIT


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def write(results: Results, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")


def read(path: Path) -> Results:
    """Raises ``OSError`` or ``msgspec.DecodeError``."""
    return msgspec.json.decode(path.read_bytes(), type=Results)
