"""A whole run: a folder on a real disk, one scenario after the other, everything ended at the end."""

import asyncio
import signal
import tempfile
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from benchmarks import results
from benchmarks.bench import Bench, Pace
from benchmarks.load.connection import LoadFailed
from benchmarks.machine.disk import require_real_disk
from benchmarks.machine.processes import ChildFailed
from benchmarks.progress import Display
from benchmarks.report import Report
from benchmarks.results import Results
from benchmarks.scenarios.catalog import SCENARIOS

T = TypeVar("T")


def in_loop(work: Coroutine[Any, Any, T]) -> T:
    """Run to its end; Ctrl-C and SIGTERM cancel it, so that it ends what it has started."""

    async def cancellable() -> T:
        task = asyncio.current_task()
        if task is not None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await work

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(cancellable())


@contextmanager
def work_folder(parent: Path) -> Iterator[Path]:
    """An empty folder below ``parent``, gone at the end. Raises ``NoRealDisk``."""
    parent.mkdir(parents=True, exist_ok=True)
    require_real_disk(parent)
    with tempfile.TemporaryDirectory(dir=parent, prefix="run-") as folder:
        yield Path(folder)


async def measure(names: Sequence[str], source: Path, directory: Path, pace: Pace) -> Results:
    """The scenarios of these names."""
    with work_folder(directory) as folder, Display(len(names)) as display:
        bench = Bench(source, folder, pace, display.say)
        reports = []
        for name in names:
            display.step(name)
            reports.append(await _report(name, bench))
        machine = results.this_machine(require_real_disk(folder), bench.cores.note)
    return Results(results.commit_of(source.parent), results.now(), pace, machine, reports)


async def _report(name: str, bench: Bench) -> Report:
    """One scenario that cannot be measured leaves the others to be."""
    try:
        return await SCENARIOS[name](bench)
    except (LoadFailed, ChildFailed, OSError, TimeoutError) as error:
        return Report(name, failure=f"{type(error).__name__}: {error}")
