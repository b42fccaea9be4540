"""The parts of a limit add up to the limit, however many share it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.domain.fleet import ALONE, Fleet, Share


@given(limit=st.integers(0, 1000), of=st.integers(1, 50))
def test_all_parts_are_the_whole_and_none_is_larger_by_two(limit: int, of: int) -> None:
    parts = [Share(place, of).part(limit) for place in range(of)]

    assert sum(parts) == limit
    assert max(parts) - min(parts) <= 1


@pytest.mark.parametrize(
    ("provider", "place", "share"),
    [
        ("openai", 0, Share(0, 2)),
        ("openai", 2, Share(1, 2)),
        ("groq", 0, Share(0, 3)),
        ("groq", 1, Share(1, 3)),
        ("other", 0, Share(0, 2)),
        ("other", 1, Share(1, 3)),  # it does not serve it, and takes no part away from those who do
    ],
)
def test_only_those_who_serve_a_provider_share_it(provider: str, place: int, share: Share) -> None:
    members = ((), ("groq",), ())

    assert Fleet(members, place).share(provider) == share


def test_alone_one_has_everything() -> None:
    assert ALONE.share("openai").part(50) == 50
