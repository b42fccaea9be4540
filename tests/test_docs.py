"""The documentation names what exists."""

import re
from datetime import UTC, datetime
from pathlib import Path

from tidegate.domain.jobs import QueueCounts
from tidegate.domain.models import Catalog
from tidegate.metrics import GatewayMetrics

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "tidegate"
PAGE = (ROOT / "docs" / "logs-and-metrics.md").read_text(encoding="utf-8")


def words(first: str) -> set[str]:
    """What the first column of the table under a heading names."""
    rows = PAGE.partition(f"## {first}")[2].partition("\n## ")[0].splitlines()
    return {
        name for row in rows if row.startswith("| `") for name in re.findall(r"`([^`]+)`", row.split("|")[1])
    }


def test_every_event_that_is_logged_is_documented() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py"))
    logged = set(re.findall(r'(?:problem|_log\.\w+)\(\s*"([a-z_]+\.[a-z_]+)"', code))
    logged |= set(re.findall(r'return "(job\.[a-z]+)"', code)) | {"job.superseded"}
    logged |= {f"key.{action}" for action in re.findall(r'self\._note\("([a-z]+)"', code)}

    assert words("Logs") == logged


def test_every_metric_is_documented() -> None:
    metrics = GatewayMetrics(Catalog(providers={}, known=frozenset()))

    page = metrics.render(QueueCounts({}, {}, {}), datetime.now(UTC), {}, {}).decode()

    assert words("Metrics") == set(re.findall(r"# HELP tidegate_(\S+)", page))
