"""Tables of a run in the pages that show them, between two marks that people do not touch."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.results import CHANGED, NO_COMMIT, Results
from benchmarks.tables import CHECK_COLUMNS, FIGURE_COLUMNS, check_rows, figure_rows


class MarksMissing(Exception):
    """A page has no place for a table."""


class NotFitToPublish(Exception):
    """The run does not show what the pages say it shows."""


def require_whole(found: Results, scenarios: Iterable[str]) -> None:
    """Raises ``NotFitToPublish`` for a run that nobody could repeat, or that left something out."""
    if objections := list(_objections(found, scenarios)):
        raise NotFitToPublish("; ".join(objections))


def _objections(found: Results, scenarios: Iterable[str]) -> Iterator[str]:
    reports = {report.scenario: report for report in found.reports}
    if found.pace.is_quick:
        yield "it was a quick look"
    if found.commit == NO_COMMIT or found.commit.endswith(CHANGED):
        yield f"no commit holds what was measured ({found.commit})"
    if missing := [name for name in scenarios if name not in reports]:
        yield f"it lacks {', '.join(missing)}"
    for name, report in reports.items():
        if report.failure is not None:
            yield f"{name} failed: {report.failure}"


def pages(root: Path, found: Results) -> Mapping[Path, str]:
    """What ``README.md`` and ``docs/benchmarks.md`` have to say. Raises ``MarksMissing``."""
    targets = markdown(CHECK_COLUMNS, check_rows(found))
    figures = markdown(FIGURE_COLUMNS, figure_rows(found))
    short = markdown(CHECK_COLUMNS[1:5], [row[1:5] for row in check_rows(found)])
    about = f"{found.title}; {found.conditions}."
    readme, page = root / "README.md", root / "docs" / "benchmarks.md"
    return {
        readme: between(readme, "targets", f"{short}\n\n{about}"),
        page: between(page, "figures", figures, text=between(page, "targets", f"{about}\n\n{targets}")),
    }


def between(path: Path, mark: str, content: str, *, text: str | None = None) -> str:
    text = path.read_text("utf-8") if text is None else text
    pattern = re.compile(rf"(<!-- {mark} -->\n).*?(<!-- /{mark} -->)", re.DOTALL)
    if pattern.search(text) is None:
        raise MarksMissing(f"{path}: no <!-- {mark} --> … <!-- /{mark} -->")
    return pattern.sub(lambda found: f"{found[1]}{content}\n{found[2]}", text)


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cell or ' ' for cell in line)} |" for line in lines)
