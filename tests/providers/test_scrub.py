"""A vendor's words are shown without secrets, without control characters and not at length."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.exchange import explain
from tidegate.domain.inference import UpstreamDetail


def shown(message: str) -> str:
    """What is left of a vendor's message."""
    return explain(400, {"error": {"message": message}}).message.removeprefix("provider openai: ")


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("key sk-proj-abcDEF123456 is bad", "key *** is bad"),
        ("key sk-abc********wxyz is bad", "key *** is bad"),
        ("sk-bf-0123456789abcdef", "***"),
        ("Incorrect API key provided: abc123. See docs", "Incorrect API key provided: *** See docs"),
        ("Your api key: ****1234 is invalid", "Your api key: *** is invalid"),
        ('{"api_key": "abc"}', '{"api_key": ***"}'),
        ("sent Authorization: Bearer abc.def-1", "sent Authorization: Bearer ***"),
        ("Basic dXNlcjpwYXNzd29yZA==", "Basic ***"),
        ("token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln ended", "token *** ended"),
        ("AIzaSyA1234567890abcdefghij", "***"),
        ("https://x.example/v1?key=abc123&alt=json", "https://x.example/v1?key=***&alt=json"),
        ("postgres://user:hunter2@db/x", "postgres://***@db/x"),
        ("gsk_abcdef0123456789 xai-abcdef0123 hf_abcdefghij", "*** *** ***"),
        ("AKIAIOSFODNN7EXAMPLE", "***"),
        ("0123456789abcdef0123456789abcdef", "***"),
        # What is none stays readable.
        ("The model `gpt-4o-mini` does not exist", "The model `gpt-4o-mini` does not exist"),
        ("Bearer authentication is required", "Bearer authentication is required"),
        ("the basic plan allows 5 keys", "the basic plan allows 5 keys"),
        ("maximum is 1048565 tokens", "maximum is 1048565 tokens"),
        ("request 123e4567-e89b-12d3-a456-426614174000", "request 123e4567-e89b-12d3-a456-426614174000"),
    ],
)
def test_what_looks_like_a_credential_is_masked(message: str, expected: str) -> None:
    assert shown(message) == expected


def test_control_characters_are_removed() -> None:
    assert shown("a\x00b\x1b[31mc\x9bd\u202ee\nf\tg") == "ab[31mcde f g"


def test_a_message_is_cut_at_2000_characters() -> None:
    assert shown("é" * 5_000) == "é" * 2_000


def test_a_secret_across_the_cut_is_masked_whole() -> None:
    assert shown("x " * 995 + "sk-" + "a1" * 30) == "x " * 995 + "***"


def test_type_and_code_are_made_fit_to_show_too() -> None:
    failure = explain(400, {"error": {"type": "sk-abcdef123456\n", "code": "c" * 500}})

    assert failure.upstream == UpstreamDetail("***", "c" * 100)


@pytest.mark.parametrize("seed", ["a-", "eyJaaaaaa-", "sk-", "model ", "key ", "://a:", "1a", "bearer "])
def test_a_hostile_message_costs_little(seed: str) -> None:
    body = json.dumps({"error": {"message": seed * (1_000_000 // len(seed))}}).encode()

    started = time.process_time()
    explain(400, body)

    assert time.process_time() - started < 1


SECRETS = st.sampled_from(
    [
        "sk-proj-Zx81Qw92Er73",
        "eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.c2ln",
        "AIzaSyZx81Qw92Er73Ty",
        "gsk_Zx81Qw92Er73",
        "Zx81Qw92Er73Ty64Ui55Op46As37Df28",
    ]
)
TEXT = st.text("ab \"'\n:=,.<>{}[]", max_size=30)


@given(secret=SECRETS, before=TEXT, after=TEXT, status=st.sampled_from([400, 401, 404, 429, 500]))
def test_a_secret_is_never_shown(secret: str, before: str, after: str, status: int) -> None:
    text = f"{before} {secret} {after}"

    for body in (text.encode(), {"error": {"message": text, "type": text, "code": text}}, {"detail": text}):
        assert secret not in repr(explain(status, body))
