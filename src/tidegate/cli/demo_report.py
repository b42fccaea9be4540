"""How the demonstration tells its story, and what it found out."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, final

from msgspec import Struct, field
from msgspec.structs import asdict
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from tidegate.cli.exits import Exit
from tidegate.cli.job_views import answer_text, error_text
from tidegate.cli.screen import Screen
from tidegate.cli.text import harmless


class Tally(Struct):
    """What came of the jobs."""

    accepted: int
    kills: int
    completed: int = 0
    failed: int = 0
    lost: int = 0
    """Accepted, and gone or without an end."""
    duplicates: int = 0
    """Results beyond one per job."""
    wrong_answers: int = 0
    """Completed with the answer of another job."""
    in_flight: list[int] = field(default_factory=list)
    """Calls under way at each kill."""
    first_claims: list[float | None] = field(default_factory=list)
    """Seconds from each restart of the process to the first job that ran again."""
    vendor_calls: int = 0

    @property
    def is_perfect(self) -> bool:
        return self.completed == self.accepted and not (self.duplicates or self.wrong_answers)


class Report(Struct, frozen=True):
    """What there is to tell at the end."""

    model: str
    question: str
    answer: str | None
    tally: Tally


@final
class Story:
    """Told as it happens; with ``--json`` only its end is told."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen

    def started(self, what: str, url: str, seconds: float) -> None:
        self._say(f"Started the {what} at {url} ({seconds:.1f} s).")

    def without_model(self, reason: str) -> None:
        self._say(f"No real model: {reason}", "yellow")
        self._say("The mock vendor answers instead, with an echo.")

    @contextmanager
    def download(self) -> Iterator[Callable[[int, int], None]]:
        """A bar for the weights, which appears only when there is something to fetch."""
        bar = Progress(
            TextColumn("Fetching the weights of the local model, once"),
            BarColumn(),
            DownloadColumn(),
            console=self._screen.err,
            disable=self._screen.is_json,
            transient=True,
        )

        def advance(done: int, total: int) -> None:
            if not bar.tasks:
                bar.add_task("", total=total)
                bar.start()
            bar.update(bar.tasks[0].id, completed=done)

        try:
            yield advance
        finally:
            bar.stop()

    def asks(self, path: str, request: dict[str, Any]) -> None:
        self._say(f"\nPOST {path}", "bold")
        self._say(json.dumps(request, indent=2, ensure_ascii=False))

    def accepted(self, receipt: dict[str, Any]) -> None:
        self._say("\n202 Accepted: the job is on disk.", "bold")
        self._say(json.dumps(receipt, indent=2))

    def answered(self, path: str, job: dict[str, Any], *, seconds: float) -> None:
        self._say(f"\nGET {path}", "bold")
        self._say(f"200 OK, {job['status']} after {seconds:.1f} s:", "bold")
        self._say(answer_text(job["result"]) if job["status"] == "completed" else error_text(job))
        self._say("\nNow the promise: a 202 means the job will reach an end.", "bold")

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Callable[[], None]]:
        bar = Progress(
            TextColumn(f"{what:<10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._screen.out,
            disable=self._screen.is_json,
        )
        with bar:
            task = bar.add_task(what, total=total)
            yield lambda: bar.advance(task)

    def killed(self, pid: int, in_flight: int) -> None:
        self._say(f"kill -9 {pid}, with {in_flight} calls under way at the vendor.", "red")

    def end(self, report: Report, *, seconds: float) -> Exit:
        tally = report.tally
        if self._screen.is_json:
            self._screen.document(
                {"model": report.model, "question": report.question, "answer": report.answer}
                | asdict(tally)
                | {"seconds": round(seconds, 1)}
            )
        else:
            self._screen.out.print(_table(tally))
            self._verdict(tally, seconds)
        return Exit.OK if tally.is_perfect else Exit.FAILED

    def _verdict(self, tally: Tally, seconds: float) -> None:
        if tally.is_perfect:
            self._say(
                f"Every job ended, once, with its own answer: 0 lost, in {seconds:.0f} s.", "bold green"
            )
        else:
            self._say("The promise was broken. Please report this.", "bold red")

    def _say(self, text: str, style: str = "") -> None:
        if not self._screen.is_json:
            self._screen.out.print(Text(harmless(text), style=style), soft_wrap=True)


def _table(tally: Tally) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column(justify="right")
    claims = ", ".join("-" if seconds is None else f"{seconds:.2f} s" for seconds in tally.first_claims)
    facts = {
        "accepted": tally.accepted,
        "completed": tally.completed,
        "failed": tally.failed,
        "lost": tally.lost,
        "duplicate results": tally.duplicates,
        "wrong answers": tally.wrong_answers,
        "kills": tally.kills,
        "in flight at the kill": ", ".join(map(str, tally.in_flight)),
        "restart to first job": claims,
        "calls at the vendor": tally.vendor_calls,
    }
    table.add_row()
    for name, value in facts.items():
        table.add_row(name, str(value))
    table.add_row()
    return table
