"""Dashboard and alerts ask for metrics that exist."""

import re
from collections import Counter
from typing import Any, Final

import pytest

from deploy.files import DEPLOY, read_json, read_yaml
from deploy.promql import REAL, complaints

BOARD: Final = read_json(DEPLOY / "grafana" / "tidegate.json")
TARGETS: Final = [target for panel in BOARD["panels"] for target in panel["targets"]]
RULES: Final = [
    rule for group in read_yaml(DEPLOY / "prometheus" / "alerts.yaml")["groups"] for rule in group["rules"]
]
QUERIES: Final = [*(target["expr"] for target in TARGETS), *(rule["expr"] for rule in RULES)]


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_asks_for_what_is_there(query: str) -> None:
    assert complaints(query) == []


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        ("sum(tidegate_jobs_waiting)", "no metric tidegate_jobs_waiting"),
        ("rate(tidegate_jobs_submitted[5m])", "no metric tidegate_jobs_submitted"),
        ("max by (lane) (tidegate_jobs_pending)", "no label lane"),
        ('tidegate_jobs_pending{model="x"}', "no label model"),
        ("tidegate_jobs_pending_total", "no metric tidegate_jobs_pending_total"),
    ],
)
def test_a_query_for_what_is_not_there_is_found(query: str, complaint: str) -> None:
    assert complaints(query) == [complaint]


def test_a_query_that_is_none_is_found() -> None:
    with pytest.raises(ValueError, match="unclosed"):
        complaints("sum(tidegate_jobs_pending")


def test_every_metric_but_few_can_be_seen() -> None:
    shown = {name for query in QUERIES for name in re.findall(r"tidegate_[a-z_]+", query)}
    seen = {re.sub(r"_(bucket|count|sum)$", "", name) for name in shown}

    assert {re.sub(r"_(bucket|count|sum)$", "", name) for name in REAL} == seen


def test_the_queue_is_never_summed_over_processes() -> None:
    """Each of them tells of the one database; the inner aggregation has to be max."""
    shared = r"tidegate_(?:jobs_pending|jobs_processing|oldest_pending)"
    for query in QUERIES:
        named, at_most = (re.findall(text + shared, query) for text in ("", r"max(?: by \(priority\) )?\("))
        assert len(named) == len(at_most), query


def test_panels_ask_the_source_that_was_chosen_and_do_not_overlap() -> None:
    places: Counter[tuple[int, int]] = Counter()
    for panel in BOARD["panels"]:
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        grid: dict[str, Any] = panel["gridPos"]
        assert grid["x"] + grid["w"] <= 24
        places.update(
            (x, y)
            for x in range(grid["x"], grid["x"] + grid["w"])
            for y in range(grid["y"], grid["y"] + grid["h"])
        )

    assert set(places.values()) == {1}
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])
    assert [variable["name"] for variable in BOARD["templating"]["list"]] == ["datasource"]


def test_every_alert_says_what_and_what_next() -> None:
    for rule in RULES:
        assert set(rule["annotations"]) == {"summary", "next"}
        assert rule["labels"]["severity"] in {"page", "warn"}
