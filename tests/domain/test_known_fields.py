"""Which members are known is told from the typed request itself."""

from typing import Annotated, Any

import pytest
from msgspec import Meta, Struct

from tidegate.domain.chat import ChatRequest
from tidegate.domain.known_fields import MOST_DROPPED, keep_known, shape_of


class Leaf(Struct):
    value: int | None = None
    free: dict[str, Any] | None = None


class Tree(Struct):
    leaf: Leaf | None = None
    leaves: Annotated[list[Leaf] | None, Meta(description="many")] = None
    either: str | list[Leaf] | None = None
    choice: str | Leaf | None = None
    words: list[str] | None = None
    anything: Any = None


def kept(value: Any) -> tuple[Any, list[str]]:
    dropped: list[str] = []
    return keep_known(value, shape_of(Tree), "", dropped), dropped


@pytest.mark.parametrize(
    ("sent", "expected", "dropped"),
    [
        ({}, {}, []),
        ({"words": ["a"]}, {"words": ["a"]}, []),
        ({"x": 1}, {}, ["x"]),
        ({"x": None}, {}, ["x"]),
        ({"leaf": None}, {}, []),
        ({"leaf": {"value": 1, "x": 2}}, {"leaf": {"value": 1}}, ["leaf.x"]),
        ({"leaf": {"value": None}}, {"leaf": {}}, []),
        ({"leaf": {"free": {"any": {"thing": None}}}}, {"leaf": {"free": {"any": {"thing": None}}}}, []),
        (
            {"leaves": [{"x": 1}, {"value": 2, "y": 3}]},
            {"leaves": [{}, {"value": 2}]},
            ["leaves[0].x", "leaves[1].y"],
        ),
        ({"either": "text"}, {"either": "text"}, []),
        ({"either": [{"x": 1}]}, {"either": [{}]}, ["either[0].x"]),
        ({"choice": "text"}, {"choice": "text"}, []),
        ({"choice": {"value": 1, "x": 1}}, {"choice": {"value": 1}}, ["choice.x"]),
        ({"anything": {"x": [None]}}, {"anything": {"x": [None]}}, []),
        ({"Leaf": {}, "leaf ": {}}, {}, ["Leaf", "leaf "]),
    ],
    ids=str,
)
def test_unknown_members_go_and_are_named_by_their_path(sent: Any, expected: Any, dropped: list[str]) -> None:
    assert kept(sent) == (expected, dropped)


def test_the_order_of_members_stays() -> None:
    value, _ = kept({"words": [], "x": 1, "leaf": {"free": {"b": 1, "a": 2}}, "anything": 1})

    assert list(value) == ["words", "leaf", "anything"]
    assert list(value["leaf"]["free"]) == ["b", "a"]


def test_at_most_a_thousand_are_named() -> None:
    _, dropped = kept({f"x{number}": 1 for number in range(MOST_DROPPED + 50)})

    assert len(dropped) == MOST_DROPPED == 1000


def test_the_shape_of_a_chat_request_reaches_its_leaves() -> None:
    shape = shape_of(ChatRequest)

    message = shape["messages"]
    assert message is not None
    part = message["content"]
    assert part is not None
    assert part["image_url"] == {"url": None, "detail": None}
    assert shape["metadata"] is None
    assert shape["response_format"] is None
    tool = shape["tools"]
    assert tool is not None
    function = tool["function"]
    assert function is not None
    assert function["parameters"] is None
