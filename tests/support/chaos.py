"""The long versions of the tests that break things, one after the other, with a table at the end.

``python tests/support/chaos.py [--scale 0.01]``: the numbers are those of a night before a release; scaled down they
show that it runs. The table is written to ``.cache/chaos.json`` as well. Exit code 1 when anything was lost.
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

ROOT: Final = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Trial:
    """A test, and how often it is to try."""

    name: str
    test: str
    variable: str
    count: int


TRIALS: Final = (
    Trial("power cuts", "tests/store/test_power_cuts.py", "TIDEGATE_CUTS", 10_000),
    Trial("I/O errors, up to the n-th call", "tests/store/test_io_errors.py", "TIDEGATE_IO_ERRORS", 100_000),
    Trial("flipped bits and cut files", "tests/store/test_flipped_bits.py", "TIDEGATE_FLIPS", 2_000),
    Trial("kills under load", "tests/scenarios/test_crash.py", "TIDEGATE_KILLS", 200),
    Trial("simulated lives", "tests/simulation", "TIDEGATE_SEEDS", 20_000),
    Trial("sequences of store operations", "tests/properties", "TIDEGATE_SEQUENCES", 50_000),
)


@dataclass(frozen=True)
class Outcome:
    name: str
    tried: int
    seconds: float
    is_well: bool


def attempt(trial: Trial, scale: float) -> Outcome:
    count = max(20, round(trial.count * scale))
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", trial.test],
        cwd=ROOT,
        env={**os.environ, trial.variable: str(count)},
        check=False,
    )
    return Outcome(trial.name, count, round(time.monotonic() - began, 1), done.returncode == 0)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--scale", type=float, default=1.0, help="part of the full numbers")
    scale = parser.parse_args().scale
    outcomes = [attempt(trial, scale) for trial in TRIALS]
    for outcome in outcomes:
        verdict = "0 lost" if outcome.is_well else "FAILED, see above"
        sys.stdout.write(f"{outcome.name:<34} {outcome.tried:>8} {outcome.seconds:>8.1f} s   {verdict}\n")
    place = ROOT / ".cache" / "chaos.json"
    place.parent.mkdir(exist_ok=True)
    place.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1) + "\n", "utf-8")
    return int(not all(outcome.is_well for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
