"""Which metrics a query asks for, held against those that are there."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from prometheus_client.parser import text_string_to_metric_families
from promql_parser import AggregateExpr, Expr, MatrixSelector, VectorSelector, parse, walk

from tidegate.domain.jobs import QueueCounts
from tidegate.domain.models import Catalog
from tidegate.metrics import GatewayMetrics

ATTACHED: Final = {"instance", "job", "le", "namespace", "role", "service"}
"""Labels that come from the scraper, or from the format itself."""
_SUFFIXES: Final = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}


def real_metrics() -> Mapping[str, frozenset[str]]:
    """Every series that a gateway may show, with its labels."""
    metrics = GatewayMetrics(Catalog(providers={}, known=frozenset()))
    labels = {
        tally.name: frozenset(tally._labels)
        for tally in vars(metrics).values()
        if hasattr(tally, "_labels") and hasattr(tally, "name")
    }
    page = metrics.render(QueueCounts({}, {}, {}), datetime.now(UTC), {}, {}).decode()
    return {
        f"{family.name}{suffix}": labels.get(family.name, frozenset({"version"}))
        for family in text_string_to_metric_families(page)
        for suffix in _SUFFIXES[family.type]
    }


REAL: Final = real_metrics()


def complaints(query: str) -> list[str]:
    """What a query asks for that is not there. Raises ``ValueError`` for one that is none."""
    expression = parse(query.replace("$__rate_interval", "5m"))
    found: list[str] = []
    names: set[str] = set()
    labels: set[str] = set()

    def visit(node: Expr) -> bool:
        if isinstance(node, MatrixSelector):
            node = node.vector_selector
        if isinstance(node, VectorSelector):
            names.add(node.name or "")
            labels.update(matcher.name for matcher in node.matchers.matchers)
        if isinstance(node, AggregateExpr) and node.modifier is not None:
            labels.update(node.modifier.labels)
        return True

    walk(expression, visit)
    found += [f"no metric {name}" for name in sorted(names - REAL.keys() - {"up"})]
    known = ATTACHED.union(*(REAL[name] for name in names & REAL.keys()))
    return found + [f"no label {label}" for label in sorted(labels - known)]
