"""Tables of a run in the pages that show them, between two marks that people do not touch."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.results import Results
from benchmarks.tables import CHECK_COLUMNS, FIGURE_COLUMNS, check_rows, figure_rows


class MarksMissing(Exception):
    """A page has no place for a table."""


def pages(root: Path, found: Results) -> Mapping[Path, str]:
    """What ``README.md`` and ``docs/benchmarks.md`` have to say. Raises ``MarksMissing``."""
    targets = _markdown(CHECK_COLUMNS, check_rows(found))
    figures = _markdown(FIGURE_COLUMNS, figure_rows(found))
    short = _markdown(CHECK_COLUMNS[1:5], [row[1:5] for row in check_rows(found)])
    about = f"{found.title}; {found.conditions}."
    readme, page = root / "README.md", root / "docs" / "benchmarks.md"
    return {
        readme: _between(readme, "targets", f"{short}\n\n{about}"),
        page: _between(page, "figures", figures, text=_between(page, "targets", f"{about}\n\n{targets}")),
    }


def _between(path: Path, mark: str, content: str, *, text: str | None = None) -> str:
    text = path.read_text("utf-8") if text is None else text
    pattern = re.compile(rf"(<!-- {mark} -->\n).*?(<!-- /{mark} -->)", re.DOTALL)
    if pattern.search(text) is None:
        raise MarksMissing(f"{path}: no <!-- {mark} --> … <!-- /{mark} -->")
    return pattern.sub(lambda found: f"{found[1]}{content}\n{found[2]}", text)


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cell or ' ' for cell in line)} |" for line in lines)
