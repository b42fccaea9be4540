"""How long a vendor asks us to wait, wherever it says so."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.exchange import explain

DATE = "Sun, 01 Nov 2026 12:00:30 GMT"
INFO = {"error": {"details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "48.9s"}]}}


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "1"}, 1),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": " 2 "}, 2),
        ({"retry-after": "0"}, 0),
        ({"retry-after": DATE}, 30),
        ({"retry-after": "Sun, 01 Nov 2026 13:00:30 +0100"}, 30),
        ({"retry-after": "Sun, 01 Nov 2026 12:00:30 -0000"}, 30),
        ({"retry-after-ms": "250"}, 0.25),
        # Azure's pair, and the other way round.
        ({"retry-after": "1", "retry-after-ms": "0"}, 1),
        ({"retry-after": "1", "retry-after-ms": "1500"}, 1.5),
        ({"retry-after": "junk", "retry-after-ms": "1500"}, 1.5),
        # Nonsense is ignored, excess is clamped to a day.
        ({"retry-after": "-5"}, None),
        ({"retry-after": "junk"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "Sun, 01 Nov 2026 11:59:59 GMT"}, None),
        ({"retry-after": "Sun, 99 Nov 9999999999 11:59:59 GMT"}, None),
        ({"retry-after": "1e9"}, 86400),
        ({"retry-after": "1000000000"}, 86400),
        ({"retry-after": "9" * 400}, None),
        ({"retry-after": "Sun, 01 Nov 2099 12:00:30 GMT"}, 86400),
        # Rate limits: of those that are used up, the last to be full again.
        ({"x-ratelimit-reset-requests": "1s"}, 1),
        ({"x-ratelimit-reset-tokens": "6m0s", "x-ratelimit-remaining-tokens": "0"}, 360),
        ({"x-ratelimit-reset-tokens": "1h2m3.5s"}, 3723.5),
        ({"x-ratelimit-reset-requests": "12ms"}, 0.012),
        ({"x-ratelimit-reset": "9"}, 9),
        ({"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "7s"}, 7),
        (
            {
                "x-ratelimit-reset-requests": "1s",
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-tokens": "7s",
                "x-ratelimit-remaining-tokens": "12",
            },
            1,
        ),
        ({"x-ratelimit-reset-tokens": "7s", "x-ratelimit-remaining-tokens": "12"}, None),
        ({"x-ratelimit-reset": "1793534400000"}, None),
        ({"x-ratelimit-reset": "tomorrow"}, None),
        ({"x-ratelimit-reset": ""}, None),
        # What is said plainly comes first.
        ({"retry-after": "2", "x-ratelimit-reset": "9"}, 2),
        ({"retry-after": "0", "x-ratelimit-reset": "9"}, 0),
        ({"retry-after": "junk", "x-ratelimit-reset": "9"}, 9),
        ({}, None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_a_vendor_says_how_long_to_wait(headers: dict[str, str], seconds: float | None, status: int) -> None:
    expected = None if seconds is None else timedelta(seconds=seconds)

    assert explain(status, b"", headers).retry_after == expected


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [({}, 48.9), ({"retry-after": "2"}, 2), ({"x-ratelimit-reset": "9"}, 48.9)],
)
@pytest.mark.parametrize("body", [INFO, [INFO]])
def test_google_says_it_in_the_body(headers: dict[str, str], seconds: float, body: object) -> None:
    assert explain(429, body, headers, vendor="gemini-compat").retry_after == timedelta(seconds=seconds)


@given(value=st.text("0123456789.eE+-hms ,:GMTSunDec", max_size=20))
def test_any_header_is_a_delay_within_a_day_or_none(value: str) -> None:
    headers = {"retry-after": value, "retry-after-ms": value, "x-ratelimit-reset": value}

    asked = explain(429, b"", headers).retry_after

    assert asked is None or timedelta(0) <= asked <= timedelta(days=1)
