"""The long versions of the tests that break things, one after the other, with a table at the end.

``python tests/support/chaos.py [--scale 0.01] [--only NAME]``: the numbers are those of a night before a release;
scaled down they show that it runs. What each test says it tried is what the table tells, here and in
``.cache/chaos.json``. Exit code 1 when anything was lost.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

ROOT: Final = Path(__file__).resolve().parents[2]
CACHE: Final = ROOT / ".cache"


@dataclass(frozen=True)
class Trial:
    """A test, and how often it is to try."""

    name: str
    test: str
    variable: str
    count: int
    least: int = 20


TRIALS: Final = (
    Trial("cuts", "tests/store/test_power_cuts.py", "TIDEGATE_CUTS", 10_000),
    Trial("errors", "tests/store/test_io_errors.py", "TIDEGATE_IO_ERRORS", 100_000, least=100_000),
    Trial("flips", "tests/store/test_flipped_bits.py", "TIDEGATE_FLIPS", 2_000, least=50),
    Trial("kills", "tests/scenarios/test_crash.py", "TIDEGATE_KILLS", 200),
    Trial(
        "fleet",
        "tests/fleet/test_kills.py::test_random_processes_are_killed_under_load",
        "TIDEGATE_FLEET_KILLS",
        300,
    ),
    Trial(
        "database",
        "tests/fleet/test_kills.py::test_the_database_is_killed_under_load",
        "TIDEGATE_DATABASE_KILLS",
        20,
        least=3,
    ),
    Trial("restarts", "tests/fleet/test_restarts.py", "TIDEGATE_DATABASE_RESTARTS", 20, least=2),
    Trial("failovers", "tests/fleet/test_failover.py", "TIDEGATE_FAILOVERS", 10, least=1),
    Trial("pooler", "tests/fleet/test_pooler.py", "TIDEGATE_POOLER_RESTARTS", 20, least=2),
    Trial("seeds", "tests/simulation", "TIDEGATE_SEEDS", 20_000),
    Trial("sequences", "tests/properties", "TIDEGATE_SEQUENCES", 50_000),
)


@dataclass(frozen=True)
class Outcome:
    """What became of a trial; ``losses`` are the tests that found one, each at its first."""

    name: str
    tried: int
    losses: int
    seconds: float


def attempt(trial: Trial, scale: float) -> Outcome:
    count = max(trial.least, round(trial.count * scale))
    report = CACHE / f"chaos-{trial.name}.xml"
    report.unlink(missing_ok=True)
    began = time.monotonic()
    # Only the older form of the report tells what single tests say of themselves.
    form = ["-o", "junit_family=xunit1", f"--junitxml={report}"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *form, trial.test],
        cwd=ROOT,
        env={**os.environ, trial.variable: str(count)},
        check=False,
    )
    return outcome_of(trial.name, report, done.returncode, time.monotonic() - began)


def outcome_of(name: str, report: Path, exit_code: int, seconds: float) -> Outcome:
    """A run that did not come to its end, or did nothing, counts as a loss."""
    cases = list(ET.parse(report).iter("testcase")) if report.exists() else []  # noqa: S314 – written just now
    said = [
        entry.get("value", "0")
        for case in cases
        for entry in case.iter("property")
        if entry.get("name") == "tried"
    ]
    failed = sum(case.find("failure") is not None or case.find("error") is not None for case in cases)
    tried = sum(map(int, said))
    is_well = exit_code == 0 and tried > 0
    return Outcome(name, tried, failed if is_well else max(1, failed), round(seconds, 1))


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--scale", type=float, default=1.0, help="part of the full numbers")
    parser.add_argument("--only", choices=[trial.name for trial in TRIALS], help="one of the trials")
    wanted = parser.parse_args()
    CACHE.mkdir(exist_ok=True)
    outcomes = [attempt(trial, wanted.scale) for trial in TRIALS if wanted.only in {None, trial.name}]
    sys.stdout.write(f"{'':<12} {'tried':>8} {'losses':>8} {'seconds':>10}\n")
    for outcome in outcomes:
        sys.stdout.write(f"{outcome.name:<12} {outcome.tried:>8} {outcome.losses:>8} {outcome.seconds:>10}\n")
    table = [asdict(outcome) for outcome in outcomes]
    (CACHE / "chaos.json").write_text(json.dumps(table, indent=1) + "\n", "utf-8")
    return int(any(outcome.losses for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
