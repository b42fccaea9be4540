"""Token counts are the vendor's, put in one shape and never invented."""

from typing import Any

import pytest

from providers.exchange import ANSWER, parse
from tidegate.domain.inference import Completion, Usage


def completion_of(reported: object) -> Completion:
    completion = parse(ANSWER | {"usage": reported})
    assert isinstance(completion, Completion)
    return completion


@pytest.mark.parametrize(
    ("reported", "counted", "shown"),
    [
        (
            {"prompt_tokens": 3, "completion_tokens": 4},
            Usage(3, 4, 7),
            {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
        ),
        (
            {"prompt_tokens": 3.0, "completion_tokens": 4.0, "total_tokens": 9.0},
            Usage(3, 4, 9),
            {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 9},
        ),
        ({"total_tokens": 9}, Usage(0, 0, 9), {"total_tokens": 9}),
        ({"prompt_tokens": 3}, Usage(3, 0, 3), {"prompt_tokens": 3, "total_tokens": 3}),
        (
            {"prompt_tokens": True, "completion_tokens": -1, "total_tokens": 10**30},
            None,
            {"prompt_tokens": True, "completion_tokens": -1, "total_tokens": 10**30},
        ),
        ({"prompt_tokens": 0.5, "total_tokens": "9"}, None, {"prompt_tokens": 0.5, "total_tokens": "9"}),
        (
            {"total_tokens": 9, "prompt_cache_hit_tokens": 4},
            Usage(0, 0, 9),
            {
                "total_tokens": 9,
                "prompt_cache_hit_tokens": 4,
                "prompt_tokens_details": {"cached_tokens": 4},
            },
        ),
        (
            {"total_tokens": 9, "cached_tokens": 4, "prompt_tokens_details": {"cached_tokens": 5}},
            Usage(0, 0, 9),
            {"total_tokens": 9, "cached_tokens": 4, "prompt_tokens_details": {"cached_tokens": 5}},
        ),
        (
            {"total_tokens": 9, "cost": 0.25},
            Usage(0, 0, 9),
            {"total_tokens": 9, "cost": {"total_cost": 0.25}},
        ),
        (
            {"total_tokens": 9, "cost": {"total_cost": 0.25}},
            Usage(0, 0, 9),
            {"total_tokens": 9, "cost": {"total_cost": 0.25}},
        ),
    ],
)
def test_usage_is_what_was_reported_and_its_sum(
    reported: dict[str, Any], counted: Usage | None, shown: dict[str, Any]
) -> None:
    completion = completion_of(reported)

    assert completion.usage == counted
    assert completion.result["usage"] == shown


@pytest.mark.parametrize("reported", [None, {}, [], "none"])
def test_usage_is_never_invented(reported: object) -> None:
    completion = completion_of(reported)

    assert completion.usage is None
    assert "usage" not in completion.result
