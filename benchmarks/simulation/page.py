"""Figures and outcomes as tables: on a terminal, and in ``docs/scale.md``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from benchmarks.publishing import between, markdown
from benchmarks.simulation import model, scenarios
from benchmarks.simulation.costs import Statement, costs_of
from benchmarks.simulation.figures import Figures
from benchmarks.simulation.scenarios import Check, Row
from benchmarks.tables import number

PATH: Final = Path(__file__).parents[2] / "docs" / "scale.md"

CASE_COLUMNS: Final = (
    "jobs/s",
    "what is built",
    "settled/s",
    "breaks first",
    "fullest",
    "rows an accept",
    "WAL MB/s",
)
COST_COLUMNS: Final = (
    "statement",
    "server µs",
    "+ a row",
    "+ a KB",
    "client µs",
    "+ a row",
    "+ a KB",
    "WAL bytes a row",
    "+ a KB",
)
CHECK_COLUMNS: Final = ("processes", "jobs going round", "measured jobs/s", "simulated", "of measured")


def case_rows(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    return [
        (
            number(row.case.layout.rate),
            row.case.name,
            "" if row.broken == model.CONNECTIONS else number(row.outcome.settled),
            row.broken or "nothing",
            ", ".join(f"{name} {share:.0%}" for name, share in row.fullest),
            number(row.outcome.rows_per_accept),
            number(row.outcome.wal_mb_s),
        )
        for row in rows
    ]


def cost_rows(figures: Figures) -> list[tuple[str, ...]]:
    costs = costs_of(figures)
    statements = (
        ("accept", costs.accept),
        ("claim", costs.claim),
        ("settle", costs.settle),
        ("prune", costs.prune),
    )
    return [(name, *_statement(statement)) for name, statement in statements]


def _statement(one: Statement) -> tuple[str, ...]:
    values = (
        one.server.fixed, one.server.row, one.server_kb,
        one.client.fixed, one.client.row, one.client_kb,
        one.wal.row, one.wal_kb,
    )  # fmt: skip
    return tuple(map(number, values))


def check_rows(checks: Sequence[Check]) -> list[tuple[str, ...]]:
    return [
        (
            str(check.measured.processes),
            number(check.measured.population),
            number(check.measured.jobs_per_second),
            number(check.simulated.settled),
            f"{check.ratio:.2f}",
        )
        for check in checks
    ]


def filled(path: Path, figures: Figures, rows: Sequence[Row]) -> str:
    """The page with its tables as they have to be. Raises ``MarksMissing``."""
    where, gateway = figures.conditions, figures.gateway
    about = (
        f"Store {where.commit}, {where.measured_at:%Y-%m-%d %H:%M} UTC; PostgreSQL {where.postgresql} on "
        f"{where.server_cores} core, client on another; {where.processor}, {where.note}. "
        f"CPU of the processes from the run of {gateway.commit}."
    )
    tables = {
        "costs": f"{about}\n\n{markdown(COST_COLUMNS, cost_rows(figures))}",
        "reproduced": markdown(CHECK_COLUMNS, check_rows(scenarios.reproduce(figures))),
        "simulated": markdown(CASE_COLUMNS, case_rows(rows)),
    }
    text = path.read_text("utf-8")
    for mark, content in tables.items():
        text = between(path, mark, content, text=text)
    return text


def show(rows: Sequence[Row], console: Console) -> None:
    table = Table(
        title="Simulated: the first thing that breaks, and what its remedy gives", title_justify="left"
    )
    for column in CASE_COLUMNS:
        table.add_column(column, overflow="fold")
    for row, cells in zip(rows, case_rows(rows), strict=True):
        table.add_row(*cells, style="" if row.keeps_up else "red")
    console.print(table)
