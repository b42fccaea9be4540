"""Results as tables: on a terminal, and as Markdown for the documentation."""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.comparing import Pair
from benchmarks.peers.gateways import Peer
from benchmarks.report import Check, Figure
from benchmarks.results import Results
from benchmarks.samples import best_rate, known, least_cpu, typical

CHECK_COLUMNS = ("scenario", "target", "wanted", "measured", "met", "how")
FIGURE_COLUMNS = (
    "scenario",
    "measurement",
    "per second",
    "CPU µs",
    "p50 ms",
    "p99 ms",
    "max ms",
    "load core",
)
Row = tuple[str, ...]


def check_rows(results: Results) -> list[Row]:
    return [
        (
            report.scenario,
            check.name,
            f"{'≥' if check.relation == 'at least' else '≤'} {number(check.target)} {check.unit}".strip(),
            f"{number(check.measured)} {check.unit}".strip(),
            "yes" if check.is_met else "no",
            check.note,
        )
        for report in results.reports
        for check in report.checks
    ]


def figure_rows(results: Results) -> list[Row]:
    return [(report.scenario, *_figure(figure)) for report in results.reports for figure in report.figures]


def _figure(figure: Figure) -> Row:
    rounds = figure.rounds
    cpu = known(sample.cpu_us for sample in rounds)
    latency = known(sample.latency for sample in rounds)
    busy = known(sample.load_busy for sample in rounds)
    return (
        figure.name,
        number(best_rate(rounds)),
        number(least_cpu(rounds)) if cpu else "",
        number(typical(rounds, lambda one: one.p50)) if latency else "",
        number(typical(rounds, lambda one: one.p99)) if latency else "",
        number(max(one.max for one in latency)) if latency else "",
        f"{max(busy):.0%}" if busy else "",
    )


def number(value: float) -> str:
    """Three digits, thousands apart."""
    if abs(value) >= 100:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.3g}"


def show(results: Results, console: Console) -> None:
    console.print(f"[bold]{results.title}[/]", highlight=False)
    console.print(results.conditions, highlight=False)
    console.print(
        _rich(
            "Measurements (rate and CPU: best of the rounds; p50 and p99: their median)",
            FIGURE_COLUMNS,
            figure_rows(results),
        )
    )
    console.print(_rich("Targets", CHECK_COLUMNS, check_rows(results)))
    for report in results.reports:
        if report.failure is not None:
            console.print(f"[red]{report.scenario} failed:[/] {escape(report.failure)}", highlight=False)
    checks = [check for report in results.reports for check in report.checks]
    met = sum(check.is_met for check in checks)
    console.print(f"{met} of {len(checks)} targets met", highlight=False)


def show_pairs(title: str, pairs: Sequence[Pair], console: Console) -> None:
    rows = [
        (
            pair.name,
            pair.unit,
            *map(number, pair.best),
            f"{pair.ratio:.2f}",
            f"{min(pair.ratios):.2f}–{max(pair.ratios):.2f}",
        )
        for pair in pairs
    ]
    columns = ("measurement", "unit", "this tree", "base", "of base", "round by round")
    console.print(_rich(title, columns, rows))


def show_peers(peers: Sequence[Peer], console: Console) -> None:
    columns = ("gateway", "per second", "CPU ms", "p50 ms", "p99 ms", "memory MiB", "ready after s", "note")
    rows = [
        (
            peer.name,
            *(
                (number(peer.rate), number(peer.cpu_ms), number(peer.p50), number(peer.p99))
                if peer.rate
                else ("",) * 4
            ),
            number(peer.memory) if peer.memory else "",
            number(peer.ready) if peer.ready else "",
            peer.note,
        )
        for peer in peers
    ]
    console.print(_rich("The same mock vendor, one process each, 64 clients", columns, rows))


def _rich(title: str, columns: Iterable[str], rows: Iterable[Row]) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(_coloured(cell) for cell in row))
    return table


def _coloured(cell: str) -> str:
    return {"yes": "[green]yes[/]", "no": "[red]no[/]"}.get(cell, cell)


__all__ = ["Check", "check_rows", "figure_rows", "number", "show", "show_pairs", "show_peers"]
