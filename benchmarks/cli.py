"""The command line of the benchmarks."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from msgspec.structs import replace
from rich.console import Console

from benchmarks import results, tables
from benchmarks.bench import QUICK, Pace
from benchmarks.running import in_loop, measure
from benchmarks.scenarios.catalog import SCENARIOS, about

ROOT = Path(__file__).parents[1]

app = App(name="python -m benchmarks", help="Measure the gateway beside its yardsticks.", version_flags=[])


@app.command
def run(
    *names: Annotated[str, Parameter(help="Scenarios; all of them if none is named.")],
    rounds: Annotated[int | None, Parameter(help="How often each is measured; 5.")] = None,
    seconds: Annotated[float | None, Parameter(help="Length of a round; 3.")] = None,
    quick: Annotated[
        bool, Parameter(help="Two short rounds of smaller loads, for a look.", negative="")
    ] = False,
    json: Annotated[
        Path | None, Parameter(help="Where the results go; benchmarks/results/COMMIT.json.")
    ] = None,
    directory: Annotated[Path, Parameter(help="Folder on a real disk for stores.")] = ROOT
    / ".cache"
    / "bench",
    source: Annotated[Path, Parameter(help="The src of another checkout to measure.")] = ROOT / "src",
    list_: Annotated[bool, Parameter(name="--list", help="Only name the scenarios.", negative="")] = False,
) -> int:
    """Measure scenarios, print the tables, write the JSON."""
    if list_:
        for name, scenario in SCENARIOS.items():
            sys.stdout.write(f"{name:<12} {about(scenario)}\n")
        return 0
    if unknown := [name for name in names if name not in SCENARIOS]:
        sys.stderr.write(f"no scenario {unknown[0]}: there are {', '.join(SCENARIOS)}\n")
        return 2
    pace = _pace(quick=quick, rounds=rounds, seconds=seconds)
    found = in_loop(measure(names or tuple(SCENARIOS), source.resolve(), directory, pace))
    path = json or results.FOLDER / f"{found.commit}.json"
    results.write(found, path)
    tables.show(found, _console())
    sys.stdout.write(f"{path}\n")
    return int(any(report.failure is not None for report in found.reports))


def _console() -> Console:
    """As wide as the terminal; wide enough for the tables where there is none."""
    return Console(width=None if sys.stdout.isatty() else 160)


def _pace(*, quick: bool, rounds: int | None, seconds: float | None) -> Pace:
    pace = QUICK if quick else Pace()
    return replace(pace, rounds=rounds or pace.rounds, seconds=seconds or pace.seconds)


def main() -> int:
    found = app()
    return found if isinstance(found, int) else 0
