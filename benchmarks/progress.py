"""What is being done, on standard error: one line that is written over on a terminal, plain lines elsewhere."""

import sys
import time
from types import TracebackType
from typing import Self, final

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


@final
class Display:
    """Steps of a long run. Drawn only between measurements: a thread of its own would take part in them."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._done = -1
        self._title = ""
        self._began = time.monotonic()
        self._bar: Progress | None = None
        if sys.stderr.isatty():
            self._bar = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed:.0f} of {task.total:.0f}"),
                TimeElapsedColumn(),
                console=Console(stderr=True),
                auto_refresh=False,
                transient=True,
            )
            self._task = self._bar.add_task("", total=steps)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def step(self, title: str) -> None:
        """The next of the steps begins."""
        self._title = title
        self._done += 1
        self.say("")

    def say(self, text: str) -> None:
        """Something within the step."""
        what = f"{self._title}: {text}" if text else self._title
        if self._bar is not None:
            self._bar.update(self._task, description=what, completed=self._done)
            self._bar.refresh()
            return
        elapsed = time.monotonic() - self._began
        sys.stderr.write(f"{elapsed:6.0f} s  {what}\n")
        sys.stderr.flush()
