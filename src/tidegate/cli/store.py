"""``tidegate store``: moving an installation to another database."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Final

from cyclopts import App, Parameter
from msgspec import Struct
from msgspec.structs import replace
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tidegate.cli.exits import CliError, Exit
from tidegate.cli.options import DEFAULT_OUTPUT, Flag, Output, examples
from tidegate.cli.screen import Screen
from tidegate.cli.start import arm_fault_points
from tidegate.clock import SystemClock
from tidegate.settings import Settings
from tidegate.settings.check_server import STORE_URLS, with_place
from tidegate.settings.problems import Refused
from tidegate.settings.schema import StoreSettings
from tidegate.store import copying
from tidegate.store.copying import Census, Comparison, Source, SourceDamaged, Target
from tidegate.store.migrate import SchemaMismatch
from tidegate.store.refusal import StoreRefused
from tidegate.store.sqlite import AlreadyRunning
from tidegate.stores import open_source, open_target

_EXAMPLES: Final = examples(
    "tidegate store copy sqlite:///data/tidegate.db postgresql://db/new",
    "tidegate store copy sqlite:///data/tidegate.db postgresql://db/new --dry-run",
)
_DIGITS: Final = 16
"""Of a digest, where a person compares them; JSON has all."""

app = App(name="store", help_prologue=_EXAMPLES)


class _Outcome(Struct, frozen=True):
    """What a copy came to."""

    source: str
    target: str
    held: Census
    """What the source holds."""
    already_there: int
    """Jobs that an earlier run had copied."""
    released: int
    finished_at: int | None
    """When an earlier run had finished, in milliseconds."""
    found: Comparison | None


@app.command(
    name="copy",
    help_prologue=_EXAMPLES,
    help_epilogue="Stop every gateway and worker of both databases first. Run again after an interruption, it goes on "
    "where it was. A password may stand in PGPASSWORD or ~/.pgpass, where no process list shows it. Exit code 4 if a "
    "database cannot be used or is damaged, 5 if the two are not the same at the end.",
)
def copy(
    source: Annotated[str, Parameter(name="FROM", help="Store to copy: sqlite:///… or postgresql://….")],
    target: Annotated[str, Parameter(name="TO", help="Empty database to fill: postgresql://….")],
    /,
    *,
    dry_run: Annotated[
        Flag, Parameter(help="Only look whether it could be done, and how much it is.")
    ] = False,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Copy everything a store holds into an empty PostgreSQL database, and compare the two."""
    screen = Screen(output)
    ends = _settings_at("FROM", source), _settings_at("TO", target)
    if not ends[1].store.is_shared:
        raise CliError(f"TO: a copy goes into PostgreSQL only, not into {ends[1].store.place}", Exit.USAGE)
    arm_fault_points()
    try:
        outcome = asyncio.run(_copy(*ends, screen, is_dry=dry_run))
    except (StoreRefused, SchemaMismatch, SourceDamaged) as error:
        raise CliError(str(error), Exit.STORE) from error
    except AlreadyRunning as error:
        raise CliError(f"{error}: stop it first", Exit.STORE) from error
    except KeyboardInterrupt as error:
        raise CliError("Interrupted: the same command goes on from here.", Exit.INTERRUPTED) from error
    return _report(screen, outcome, is_dry=dry_run)


def _settings_at(name: str, url: str) -> Settings:
    """Raises ``CliError``, without quoting what may hold a password."""
    try:
        return replace(Settings(), store=with_place(StoreSettings(url=url)))
    except Refused as reason:
        raise CliError(f"{name}: {reason} Use {STORE_URLS}.", Exit.USAGE) from reason


async def _copy(old: Settings, new: Settings, screen: Screen, *, is_dry: bool) -> _Outcome:
    source = await open_source(old, SystemClock())
    try:
        target = await open_target(new, is_dry=is_dry)
        try:
            return await _copy_between(source, target, screen, is_dry=is_dry)
        finally:
            await target.close()
    finally:
        await source.close()


async def _copy_between(source: Source, target: Target, screen: Screen, *, is_dry: bool) -> _Outcome:
    for text in target.warnings:
        screen.note(f"{target.place}: {text}")
    begun = await target.progress(source.identity, source.place)
    outcome = _Outcome(
        source=source.place,
        target=target.place,
        held=await source.census(),
        already_there=begun.jobs if begun is not None else 0,
        released=begun.released if begun is not None else 0,
        finished_at=begun.finished_at if begun is not None else None,
        found=None,
    )
    if is_dry or outcome.finished_at is not None:
        return outcome
    if begun is None:
        begun = await target.begin(source.identity, source.place)
    with _bar(screen, "Copying") as on_progress:
        done = await copying.copy(source, target, begun, on_progress)
    with _bar(screen, "Comparing") as on_progress:
        found = await copying.compare(source, target, begun.started_at, on_progress)
    if found.is_equal:
        await target.finish(source.identity)
    return replace(outcome, released=done.released, found=found)


@contextmanager
def _bar(screen: Screen, what: str) -> Iterator[Callable[[int, int], None]]:
    bar = Progress(
        TextColumn(f"{what:<10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("jobs"),
        TimeRemainingColumn(),
        console=screen.err,
        disable=screen.is_json or screen.is_quiet or not screen.err.is_terminal,
    )
    with bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _report(screen: Screen, outcome: _Outcome, *, is_dry: bool) -> int:
    if screen.is_json:
        screen.document(_document(outcome, is_dry=is_dry))
    elif outcome.found is not None:
        _show(screen, outcome, outcome.found)
    else:
        _show_untouched(screen, outcome)
    return Exit.OK if outcome.found is None or outcome.found.is_equal else Exit.PARTLY


def _document(outcome: _Outcome, *, is_dry: bool) -> dict[str, object]:
    found = outcome.found
    document: dict[str, object] = {
        "from": outcome.source,
        "to": outcome.target,
        "dry_run": is_dry,
        "already_there": outcome.already_there,
        "released": outcome.released,
        "was_finished": outcome.finished_at is not None,
        "source": {"tables": dict(outcome.held.tables), "jobs": dict(outcome.held.statuses)},
    }
    if found is None:
        return document
    return document | {
        "is_equal": found.is_equal,
        "differing_job": found.differing,
        "passed_over": list(found.passed_over),
        "tables": [
            {
                "name": part.name,
                "from": part.source,
                "to": part.target,
                "from_sha256": part.source_digest,
                "to_sha256": part.target_digest,
            }
            for part in found.parts
        ],
        "jobs": [{"status": status, "from": old, "to": new} for status, old, new in found.statuses],
    }


def _show_untouched(screen: Screen, outcome: _Outcome) -> None:
    rows = [(name, str(count)) for name, count in outcome.held.tables.items()]
    rows += [(f"jobs {status}", str(count)) for status, count in sorted(outcome.held.statuses.items())]
    screen.table(("of the source", "rows"), rows)
    if outcome.finished_at is not None:
        screen.note(f"{outcome.target} has all of it already, compared and found the same. Nothing was done.")
    elif outcome.already_there:
        screen.note(f"{outcome.already_there} jobs are there already; the copy would go on after them.")
    else:
        screen.note("Nothing stands in the way of the copy.")


def _show(screen: Screen, outcome: _Outcome, found: Comparison) -> None:
    rows = [
        (
            part.name,
            str(part.source),
            str(part.target),
            part.source_digest[:_DIGITS],
            part.target_digest[:_DIGITS],
        )
        for part in found.parts
    ]
    rows += [(f"jobs {status}", str(old), str(new), "", "") for status, old, new in found.statuses]
    screen.table(("compared", "source", "target", "SHA-256 of source", "SHA-256 of target"), rows)
    if outcome.already_there:
        screen.note(f"{outcome.already_there} jobs were there from an earlier run.")
    if outcome.released:
        screen.note(f"{outcome.released} jobs were running when the gateway ended: they wait again.")
    if found.is_equal:
        screen.note(f"{outcome.target} holds the same as {outcome.source}.")
    elif found.differing is not None:
        screen.problem(
            f"Job {found.differing} is not the same on both sides: do not use {outcome.target}; "
            "copy again into an empty database."
        )
    else:
        names = [part.name for part in found.parts if not part.is_equal] or list(found.passed_over)
        screen.problem(
            f"{', '.join(names)}: not the same on both sides, or not all of it can be reached. "
            f"Do not use {outcome.target}; check the source with `tidegate doctor`, then copy again into an empty database."
        )
