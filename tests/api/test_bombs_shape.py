"""The survey of a JSON text counts exactly what a parser would build, wherever its slices end."""

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tidegate.api import json_shape
from tidegate.api.json_shape import MOST_ESCAPES, MOST_VALUES, MOST_WIDE_TEXT, check_shape
from tidegate.api.wire import decode_json
from tidegate.domain.errors import InvalidRequest

TEXTS = st.text(st.sampled_from('[]{},:"\\xu\n\u00e9\U0001f30a'), max_size=12)
VALUES = st.recursive(
    TEXTS | st.integers() | st.none(),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(TEXTS, inner, max_size=6),
    max_leaves=40,
)


def size_of(value: Any) -> tuple[int, int]:
    """Commas and opening brackets, and levels of nesting."""
    if not isinstance(value, dict | list):
        return 0, 0
    inner = [size_of(item) for item in (value.values() if isinstance(value, dict) else value)]
    marks = 1 + max(0, len(inner) - 1) + sum(count for count, _ in inner)
    return marks, 1 + max((depth for _, depth in inner), default=0)


def wide_text_of(value: Any) -> int:
    """Length in JSON of the strings that hold more than ASCII."""
    if isinstance(value, str):
        return 0 if value.isascii() else len(_escaped(value))
    if isinstance(value, dict):
        return sum(wide_text_of(part) for pair in value.items() for part in pair)
    return sum(map(wide_text_of, value)) if isinstance(value, list) else 0


def _escaped(text: str) -> bytes:
    """As it stands between its quotes; an escaped quote and an escaped backslash are left out by the survey."""
    written = json.dumps(text, ensure_ascii=False)[1:-1]
    return written.replace("\\\\", "").replace('\\"', "").encode()


def refusal(body: bytes) -> str:
    try:
        check_shape(body)
    except InvalidRequest as error:
        return error.message.partition("too complex: ")[2]
    return ""


@given(value=VALUES, slice_size=st.integers(1, 9), is_ascii=st.booleans())
@example(value=["\\", '"', "\\\\", ["x"]], slice_size=1, is_ascii=False)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_the_survey_agrees_with_the_parser(value: Any, slice_size: int, *, is_ascii: bool) -> None:
    body = json.dumps(value, ensure_ascii=is_ascii).encode()
    values, depth = size_of(value)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_shape, "_SLICE", slice_size)
        patch.setattr(json_shape, "MOST_VALUES", values)
        patch.setattr(json_shape, "DEEPEST_NESTING", depth)
        patch.setattr(json_shape, "MOST_ESCAPES", body.count(b"\\"))
        within = refusal(body)
        patch.setattr(json_shape, "DEEPEST_NESTING", depth - 1)
        too_deep = refusal(body)
        patch.setattr(json_shape, "MOST_VALUES", values - 1)
        too_many = refusal(body)

    assert within == ""
    if depth and len(body) > slice_size:
        assert too_deep.startswith("nested deeper")
        assert too_many.startswith("more than")


@given(value=VALUES, slice_size=st.integers(1, 9))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_wide_text_is_counted_string_by_string(value: Any, slice_size: int) -> None:
    body = json.dumps(value, ensure_ascii=False).encode()
    wide = wide_text_of(value)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_shape, "_SLICE", slice_size)
        patch.setattr(json_shape, "MOST_WIDE_TEXT", wide)
        within = refusal(body)
        patch.setattr(json_shape, "MOST_WIDE_TEXT", wide - 1)
        beyond = refusal(body)

    assert within == ""
    if wide and len(body) > slice_size:
        assert beyond.endswith("text that is not ASCII")


@given(body=st.lists(st.sampled_from([b"[", b"]", b"{", b"}", b",", b'"', b"\\", b"x", b"\xff", b"[" * 140])))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_rubbish_is_refused_and_nothing_else_happens(body: list[bytes]) -> None:
    """A parser that met more depth than it bears would raise something else."""
    text = b"".join(body)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_shape, "_SLICE", 3)
        try:
            decode_json(text)
        except InvalidRequest:
            return

    json.loads(text)


def listed(count: int) -> bytes:
    """``count`` members and items, the list itself included."""
    return b"[" + b",".join([b"1"] * count) + b"]"


@pytest.mark.parametrize(
    ("within", "beyond"),
    [
        (listed(MOST_VALUES), listed(MOST_VALUES + 1)),
        (b"[" * 128 + b"]" * 128, b"[" * 129 + b"]" * 129),
        (b'"' + b"\\n" * MOST_ESCAPES + b'"', b'"' + b"\\n" * (MOST_ESCAPES + 1) + b'"'),
        (
            b'"' + b"x" * (MOST_WIDE_TEXT - 2) + b'\xc3\xa9"',
            b'"' + b"x" * (MOST_WIDE_TEXT - 1) + b'\xc3\xa9"',
        ),
        (
            b'["\xc3\xa9","' + b"x" * 2 * MOST_WIDE_TEXT + b'"]',
            b'["' + b"x" * 2 * MOST_WIDE_TEXT + b'","' + b"x" * MOST_WIDE_TEXT + b'\\u0041"]',
        ),
    ],
    ids=["values", "depth", "escapes", "wide text", "wide text beside plain text"],
)
def test_every_limit_is_inclusive(within: bytes, beyond: bytes) -> None:
    decode_json(within)

    with pytest.raises(InvalidRequest, match="too complex"):
        decode_json(beyond)
