"""This tree and another commit, measured in turns: only over HTTP, so that any commit can be the other one."""

import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from benchmarks.bench import Bench, Measure, Server
from benchmarks.jobs import run_jobs
from benchmarks.load import requests
from benchmarks.machine.proc import resident_bytes
from benchmarks.samples import Sample
from benchmarks.scenarios import memory, poll, submit

_JOBS: Final = 3000
_KIB: Final = 1024
_MIB: Final = 2**20
_RESIDENT: Final = "resident_mib"

Best = Callable[[Iterable[float]], float]
Quantity = Callable[[Sample], float | None]

# What a sample may hold, and which of its rounds was disturbed least.
_QUANTITIES: Final[Mapping[str, tuple[Quantity, Best]]] = {
    "per second": (lambda sample: sample.rate or None, max),
    "CPU µs": (lambda sample: sample.cpu_us, min),
    "MiB": (lambda sample: sample.facts.get(_RESIDENT), min),
}


class NoSuchCommit(Exception):
    """There is nothing to compare with."""


class Pair(Struct, frozen=True):
    """One quantity of one measurement: the rounds of both."""

    name: str
    unit: str
    here: list[float]
    base: list[float]

    @property
    def best(self) -> tuple[float, float]:
        """Of this tree, and of the base."""
        _, best = _QUANTITIES[self.unit]
        return best(self.here), best(self.base)

    @property
    def ratio(self) -> float:
        """This tree, of the base."""
        here, base = self.best
        return here / base

    @property
    def ratios(self) -> list[float]:
        """Round by round."""
        return [here / base for here, base in zip(self.here, self.base, strict=True)]


@contextmanager
def checkout(root: Path, revision: str, place: Path) -> Iterator[Path]:
    """A work tree of ``revision`` at ``place``, gone at the end. Raises ``NoSuchCommit``."""
    commit = _commit(root, revision)
    _git(root, "worktree", "prune")
    _git(root, "worktree", "add", "--quiet", "--force", "--detach", str(place), commit)
    try:
        yield place
    finally:
        _git(root, "worktree", "remove", "--force", str(place))


def _commit(root: Path, revision: str) -> str:
    try:
        return _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    except subprocess.CalledProcessError:
        raise NoSuchCommit(f"{revision!r} names no commit of {root}") from None


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()


async def compare(bench: Bench, base: Path) -> list[Pair]:
    """``base`` is the ``src`` of the other checkout; round by round, one right after the other."""
    async with AsyncExitStack() as stack:
        here = await _measures(bench, stack, bench.source)
        there = await _measures(bench, stack, base)
        return await in_turns(bench.pace.rounds, bench.say, here, there)


async def in_turns(
    rounds: int, say: Callable[[str], None], here: Mapping[str, Measure], base: Mapping[str, Measure]
) -> list[Pair]:
    """Whoever went first goes second in the next round: what the first leaves behind meets both."""
    found: dict[str, tuple[list[Sample], list[Sample]]] = {name: ([], []) for name in here}
    for number in range(1, rounds + 1):
        for name, (mine, theirs) in found.items():
            say(f"round {number} of {rounds}: {name}")
            turns = [(mine, here[name]), (theirs, base[name])]
            for samples, measure in turns if number % 2 else reversed(turns):
                samples.append(await measure())
    return [pair for name, (mine, theirs) in found.items() for pair in _pairs(name, mine, theirs)]


def _pairs(name: str, here: Sequence[Sample], base: Sequence[Sample]) -> Iterator[Pair]:
    for unit, (quantity, _) in _QUANTITIES.items():
        mine, theirs = ([quantity(sample) for sample in samples] for samples in (here, base))
        if all(mine) and all(theirs):
            yield Pair(name, unit, [one or 0.0 for one in mine], [one or 0.0 for one in theirs])


async def _measures(bench: Bench, stack: AsyncExitStack, source: Path) -> Mapping[str, Measure]:
    vendor = await stack.enter_async_context(bench.vendor())
    running = await stack.enter_async_context(bench.gateway(vendor, source=source))
    blocked = await submit.blocked_gateway(bench, stack, source)
    finished = await poll.finished_jobs(bench, stack, vendor, source)
    return {
        "durable submit, 1 KB": submit.submits(bench, blocked, _KIB),
        "durable submit, 20 KB": submit.submits(bench, blocked, 20 * _KIB),
        "poll of finished jobs": poll.polls(bench, finished.gateway, finished.ids),
        "end to end": lambda: _jobs(running, vendor),
        "start until ready": lambda: memory.start(bench, source),
        "at rest": lambda: _at_rest(bench, source),
    }


async def _jobs(gateway: Server, vendor: Server) -> Sample:
    """With the memory that is held after them."""
    sample = await run_jobs(gateway, vendor, requests.submit(requests.chat_body(_KIB)), _JOBS)
    return replace(sample, facts={_RESIDENT: resident_bytes(gateway.child.pid) / _MIB})


async def _at_rest(bench: Bench, source: Path) -> Sample:
    """Memory alone: nothing happens, so there is no rate."""
    return Sample(0, 1.0, facts={_RESIDENT: await memory.idle_memory(bench, source)})
