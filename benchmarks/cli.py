"""The command line of the benchmarks."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter
from msgspec.structs import replace
from rich.console import Console

from benchmarks import comparing, publishing, results, soaking, tables
from benchmarks.bench import QUICK, Bench, LoadFailed, Pace
from benchmarks.machine.disk import NoRealDisk, require_real_disk
from benchmarks.machine.processes import ChildFailed
from benchmarks.peers import gateways, queues
from benchmarks.progress import Display
from benchmarks.running import in_loop, measure, work_folder
from benchmarks.scenarios.catalog import SCENARIOS, about
from benchmarks.simulation import figures as measured
from benchmarks.simulation import page, scenarios

ROOT = Path(__file__).parents[1]
_EXPECTED = (
    ChildFailed,
    LoadFailed,
    NoRealDisk,
    comparing.NoSuchCommit,
    publishing.MarksMissing,
    publishing.NotFitToPublish,
)

app = App(name="python -m benchmarks", help="Measure the gateway beside its yardsticks.", version_flags=[])


@app.command
def run(
    *names: Annotated[str, Parameter(help="Scenarios; all of them if none is named.")],
    rounds: Annotated[int | None, Parameter(help="How often each is measured; 5.")] = None,
    seconds: Annotated[float | None, Parameter(help="Length of a round; 3.")] = None,
    quick: Annotated[
        bool, Parameter(help="Two short rounds of smaller loads, for a look.", negative="")
    ] = False,
    json: Annotated[Path | None, Parameter(help="Where the results go; .cache/results/COMMIT.json.")] = None,
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


@app.command
def compare(
    base: Annotated[str, Parameter(help="A git revision.")],
    /,
    *,
    rounds: Annotated[int | None, Parameter(help="How often each is measured; 5.")] = None,
    seconds: Annotated[float | None, Parameter(help="Length of a round; 3.")] = None,
    quick: Annotated[bool, Parameter(help="Two short rounds.", negative="")] = False,
    directory: Annotated[Path, Parameter(help="Folder on a real disk for stores.")] = ROOT
    / ".cache"
    / "bench",
) -> int:
    """Measure this tree and another commit in turns, and print the ratios."""
    pace = _pace(quick=quick, rounds=rounds, seconds=seconds)
    with (
        work_folder(directory) as folder,
        comparing.checkout(ROOT, base, folder / "base") as other,
        Display(1) as display,
    ):
        bench = Bench(ROOT / "src", folder, pace, display.say)
        pairs = in_loop(comparing.compare(bench, other / "src"))
    tables.show_pairs(f"{results.commit_of(ROOT)} against {base}", pairs, _console())
    return 0


@app.command
def soak(
    *,
    minutes: Annotated[float, Parameter(help="How long.")] = 10.0,
    rate: Annotated[
        float | None, Parameter(help="Jobs a second; half of what the gateway can do by default.")
    ] = None,
    postgres: Annotated[bool, Parameter(help="On PostgreSQL instead of SQLite.", negative="")] = False,
    json: Annotated[Path | None, Parameter(help="Where the result goes, if anywhere.")] = None,
    directory: Annotated[Path, Parameter(help="Folder on a real disk for stores.")] = ROOT
    / ".cache"
    / "bench",
) -> int:
    """A steady load for minutes: nothing may grow, nothing get lost. Exit code 1 when something does."""
    with work_folder(directory) as folder, Display(1) as display:
        bench = Bench(ROOT / "src", folder, Pace(), display.say)
        report = in_loop(soaking.soak(bench, minutes, rate=rate, on_postgres=postgres))
        machine = results.this_machine(require_real_disk(folder), bench.cores.note)
    found = results.Results(results.commit_of(ROOT), results.now(), bench.pace, machine, [report])
    if json is not None:
        results.write(found, json)
    tables.show(found, _console())
    return int(not all(check.is_met for check in report.checks))


@app.command
def peers(
    *,
    only: Annotated[
        Literal["gateways", "queues"] | None, Parameter(help="One kind of peers; both by default.")
    ] = None,
    requests: Annotated[int, Parameter(help="Calls through each gateway before it is measured.")] = 2000,
    quick: Annotated[bool, Parameter(help="Queues: two rounds of fewer jobs.", negative="")] = False,
    directory: Annotated[Path, Parameter(help="Folder on a real disk; peers are installed in it.")] = ROOT
    / ".cache"
    / "peers",
) -> int:
    """Run others beside this gateway: gateways on the same mock vendor, job queues on the same PostgreSQL.

    Installs them first, from their registries.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with work_folder(ROOT / ".cache" / "bench") as folder, Display(1) as display:
        bench = Bench(ROOT / "src", folder, QUICK if quick else Pace(), display.say)
        machine = results.this_machine(require_real_disk(folder), bench.cores.note)
        if only != "queues":
            tables.show_peers(in_loop(gateways.measure(bench, directory, requests)), _console())
        if only != "gateways":
            reports = in_loop(queues.measure(bench, directory))
            found = results.Results(results.commit_of(ROOT), results.now(), bench.pace, machine, reports)
            tables.show(found, _console())
    return 0


@app.command
def publish(
    json: Annotated[Path, Parameter(help="Results of a run.")] = results.LATEST,
    /,
) -> int:
    """Write the tables of a run into README.md and docs/benchmarks.md, and keep the run beside them."""
    found = results.read(json)
    publishing.require_whole(found, SCENARIOS)
    pages = publishing.pages(ROOT, found)
    results.write(found, results.LATEST)
    for path, text in pages.items():
        path.write_text(text, "utf-8")
    return 0


@app.command
def simulate(
    *,
    json: Annotated[Path | None, Parameter(help="Where the result goes, if anywhere.")] = None,
    publish: Annotated[
        bool, Parameter(help="Write the tables into docs/scale.md as well.", negative="")
    ] = False,
) -> int:
    """Many machines on paper: what breaks first at 1 000, 10 000 and 100 000 jobs a second, and what helps."""
    figures = measured.read()
    rows = scenarios.run(figures)
    page.show(rows, _console())
    if json is not None:
        scenarios.write(rows, json)
    if publish:
        page.PATH.write_text(page.filled(page.PATH, figures, rows), "utf-8")
    return 0


def _console() -> Console:
    """As wide as the terminal; wide enough for the tables where there is none."""
    return Console(width=None if sys.stdout.isatty() else 160)


def _pace(*, quick: bool, rounds: int | None, seconds: float | None) -> Pace:
    pace = QUICK if quick else Pace()
    return replace(pace, rounds=rounds or pace.rounds, seconds=seconds or pace.seconds)


def main() -> int:
    try:
        found = app()
    except _EXPECTED as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.stderr.write("stopped before the end: there are no figures\n")
        return 130
    return found if isinstance(found, int) else 0
