"""A secret shows itself only where ``reveal`` is written."""

import copy
import logging
import pickle

import msgspec
import pytest

from tidegate.domain.secret import Secret

VALUE = "sk-bf-0123456789012345678901234567a1b2"
SECRET = Secret(VALUE)


@pytest.mark.parametrize(
    "shown",
    [
        str(SECRET),
        repr(SECRET),
        f"{SECRET}",
        f"{SECRET!r:>80}",
        "%s" % SECRET,  # noqa: UP031 – the way loggers format
        "{}".format(SECRET),  # noqa: UP032 – one of the ways text is made
        str([SECRET]),
        str({"key": SECRET}),
        logging.LogRecord("x", 1, "f", 1, "key %s", (SECRET,), None).getMessage(),
    ],
)
def test_every_way_to_print_it_shows_a_mask(shown: str) -> None:
    assert VALUE not in shown
    assert "sk-bf-…a1b2" in shown


def test_reveal_gives_it() -> None:
    assert SECRET.reveal() == VALUE


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (VALUE, "sk-bf-…a1b2"),
        (VALUE.upper(), "sk-bf-…A1B2"),
        ("x" * 16 + "abcd", "…abcd"),
        ("x" * 15 + "abcd", "***"),
        ("short", "***"),
        ("", "***"),
    ],
)
def test_the_hint_says_too_little_to_use_it(value: str, hint: str) -> None:
    assert Secret(value).hint() == hint


def test_equality_is_of_the_value() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert hash(Secret("a")) == hash(Secret("a")) != hash("a")
    assert {Secret("a"): 1}[Secret("a")] == 1


@pytest.mark.parametrize(("value", "is_there"), [("a", True), (" ", True), ("", False)])
def test_an_empty_one_is_false(value: str, *, is_there: bool) -> None:
    assert bool(Secret(value)) is is_there


@pytest.mark.parametrize(
    "leak", [pickle.dumps, copy.copy, copy.deepcopy, msgspec.json.encode, msgspec.to_builtins]
)
def test_it_cannot_be_carried_away(leak: object) -> None:
    with pytest.raises((TypeError, NotImplementedError)):
        leak(SECRET)  # type: ignore[operator]


def test_it_has_no_place_for_other_attributes() -> None:
    assert not hasattr(SECRET, "__dict__")
    assert VALUE not in str(vars(Secret))
