"""This tree and another commit, measured in turns: only over HTTP, so that any commit can be the other one."""

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Final

from msgspec import Struct

from benchmarks.bench import Bench, Measure
from benchmarks.jobs import run_jobs
from benchmarks.load import requests
from benchmarks.samples import Sample, best_rate, known, least_cpu
from benchmarks.scenarios import memory, poll, submit

HERE: Final = "this tree"
BASE: Final = "base"
_JOBS: Final = 3000
_KIB: Final = 1024


class Pair(Struct, frozen=True):
    """One measurement of both."""

    name: str
    here: list[Sample]
    base: list[Sample]

    @property
    def rate(self) -> float:
        """How many times as fast this tree is."""
        return best_rate(self.here) / best_rate(self.base)

    @property
    def cpu(self) -> float | None:
        """What part of the base's CPU time this tree takes."""
        if not known(sample.cpu_us for sample in self.base):
            return None
        return least_cpu(self.here) / least_cpu(self.base)


@contextmanager
def checkout(root: Path, revision: str, place: Path) -> Iterator[Path]:
    """A work tree of ``revision`` at ``place``, gone at the end. Raises ``CalledProcessError``."""
    subprocess.run(["git", "worktree", "prune"], cwd=root, check=True)
    subprocess.run(
        ["git", "worktree", "add", "--quiet", "--force", "--detach", str(place), revision],
        cwd=root,
        check=True,
    )
    try:
        yield place
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", str(place)], cwd=root, check=True)


async def compare(bench: Bench, base: Path) -> list[Pair]:
    """``base`` is the ``src`` of the other checkout; round by round, one right after the other."""
    sources = {HERE: bench.source, BASE: base}
    async with AsyncExitStack() as stack:
        measures = {
            f"{name}, {side}": measure
            for side, source in sources.items()
            for name, measure in (await _measures(bench, stack, source)).items()
        }
        found = await bench.rounds({name: measures[name] for name in sorted(measures)})
    names = dict.fromkeys(name.rpartition(", ")[0] for name in measures)
    return [Pair(name, found[f"{name}, {HERE}"], found[f"{name}, {BASE}"]) for name in names]


async def _measures(bench: Bench, stack: AsyncExitStack, source: Path) -> Mapping[str, Measure]:
    vendor = await stack.enter_async_context(bench.vendor())
    running = await stack.enter_async_context(bench.gateway(vendor, source=source))
    blocked = await submit.blocked_gateway(bench, stack, source)
    finished = await poll.finished_jobs(bench, stack, vendor, source)
    job = requests.submit(requests.chat_body(_KIB))
    return {
        "durable submit, 1 KB": submit.submits(bench, blocked, _KIB),
        "durable submit, 20 KB": submit.submits(bench, blocked, 20 * _KIB),
        "poll of finished jobs": poll.polls(bench, finished.gateway, finished.ids),
        "end to end": lambda: run_jobs(running, vendor, job, _JOBS),
        "start until ready": lambda: memory.start(bench, source),
    }
