"""Child processes: started on their core, asked in JSON lines, and gone at the end whatever happens."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, final

from benchmarks.machine import cores, proc

_TIME_TO_STOP: Final = 10.0
_LOG_SHOWN: Final = 2000
_ROOT: Final = Path(__file__).parents[2]


class ChildFailed(Exception):
    """A process did not do what it was started for; the message ends with what it said."""


@final
class Child:
    """One running process, in a session of its own: a Ctrl-C reaches us alone, and we end it."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def pids(self) -> list[int]:
        """With everything it has started."""
        return proc.tree_of(self.pid)

    def check(self) -> None:
        """Raises ``ChildFailed`` when it has ended."""
        code = self._process.poll()
        if code is not None:
            raise self.failure(f"ended with {code}")

    def failure(self, what: str) -> ChildFailed:
        said = self._log.read_text("utf-8", "replace")[-_LOG_SHOWN:].strip()
        return ChildFailed(f"{self._log.stem} {what}: {said or 'it said nothing'}")

    async def ask(self, what: str, **facts: Any) -> Any:
        """One command to a program of ``children``, and its answer."""
        return await asyncio.to_thread(self._ask, json.dumps({"do": what, **facts}))

    def _ask(self, line: str) -> Any:
        assert self._process.stdin is not None  # noqa: S101 – a pipe, see below
        assert self._process.stdout is not None  # noqa: S101
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self.failure("is gone") from None
        answer = self._process.stdout.readline()
        if not answer:
            self._process.wait(_TIME_TO_STOP)
            raise self.failure("ended instead of answering")
        return json.loads(answer)

    def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Gone when it returns, and whatever it has started with it."""
        if self._process.poll() is None:
            self._process.send_signal(number)
            try:
                self._process.wait(_TIME_TO_STOP)
            except subprocess.TimeoutExpired:
                self._process.kill()
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


@contextmanager
def running(
    command: Sequence[str],
    *,
    core: int | None,
    log: Path,
    environment: Mapping[str, str],
    answers: bool = False,
) -> Iterator[Child]:
    """A process on ``core`` that writes to ``log``; one that ``answers`` keeps standard output for ``ask``."""
    with log.open("wb") as errors, cores.on(core):
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if answers else errors,
            stderr=errors,
            env=dict(environment),
            cwd=log.parent,
            start_new_session=True,
        )
    child = Child(process, log)
    try:
        yield child
    finally:
        child.end()


def environment_for(source: Path) -> dict[str, str]:
    """As a user starts Tidegate, from the checkout whose ``src`` is given."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "TIDEGATE"))},
        "NO_COLOR": "1",
        "PYTHONPATH": os.pathsep.join((str(source), str(_ROOT))),
    }


def python(module: str, *arguments: str, interpreter: str = sys.executable) -> list[str]:
    return [interpreter, "-m", module, *arguments]
