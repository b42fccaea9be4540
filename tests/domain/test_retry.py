"""What next after a failure: the table of contract §9.2, the ends of an attempt (§9.5), and that it always ends."""

import itertools
from datetime import timedelta
from random import Random
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.domain.failures import Failure, FailureCode, code_of_status
from tidegate.domain.retry import (
    End,
    GiveUp,
    NextCandidate,
    Retry,
    RetryCall,
    RetryPolicy,
    RotateKey,
    Step,
    after_attempt,
    attempt_backoff,
    call_backoff,
    next_step,
)

HOUR: Final = timedelta(hours=1)
HALF: Final = timedelta(milliseconds=250)
"""The first backoff when chance says one half."""


def seconds(value: float) -> timedelta:
    return timedelta(seconds=value)


def failed(code: str, retry_after: float | None = None, status: int | None = None) -> Failure:
    wait = None if retry_after is None else seconds(retry_after)
    return Failure(FailureCode(code), "…", upstream_status=status, retry_after=wait)


def said(status: int, retry_after: float | None = None) -> Failure:
    return failed(code_of_status(status), retry_after, status)


def step(failure: Failure, **changes: Any) -> Step:
    facts: dict[str, Any] = {
        "policy": RetryPolicy(),
        "retries_used": 0,
        "another_key_is_eligible": False,
        "is_primary": True,
        "time_left": HOUR,
        "chance": 0.5,
    }
    return next_step(failure, **(facts | changes))


ROTATE: Final = RotateKey()
RETRY: Final = RetryCall(HALF, another_key=False)
NEXT: Final = NextCandidate()
GIVE_UP: Final = GiveUp()

# The rows of contract §9.2: what the primary does, what a fallback does.
ROWS: Final[dict[str, tuple[Failure, Step, Step]]] = {
    "401": (said(401), ROTATE, ROTATE),
    "402": (said(402), ROTATE, ROTATE),
    "403": (said(403), ROTATE, ROTATE),
    "429 that says quota": (failed("upstream_key_refused", 60, 429), ROTATE, ROTATE),
    "other 429": (said(429), RETRY, RETRY),
    "500": (said(500), RETRY, RETRY),
    "502": (said(502), RETRY, RETRY),
    "503": (said(503), RETRY, RETRY),
    "529": (said(529), RETRY, RETRY),
    "408": (said(408), RETRY, RETRY),
    "409": (said(409), RETRY, RETRY),
    "425": (said(425), RETRY, RETRY),
    "network": (failed("upstream_connection_failed"), RETRY, RETRY),
    "timeout": (failed("upstream_timeout"), RETRY, RETRY),
    "404 for the model": (said(404), NEXT, NEXT),
    "400": (said(400), GIVE_UP, NEXT),
    "400 that says too long": (failed("context_length_exceeded", status=400), GIVE_UP, NEXT),
    "400 that says content refused": (failed("content_policy_violation", status=400), GIVE_UP, NEXT),
    "other 404": (failed("upstream_rejected", status=404), GIVE_UP, NEXT),
    "413": (said(413), GIVE_UP, NEXT),
    "422": (said(422), GIVE_UP, NEXT),
    "501": (said(501), NEXT, NEXT),
    "301": (said(301), NEXT, NEXT),
    "other 4xx": (said(418), NEXT, NEXT),
    "unusable 2xx body": (failed("upstream_invalid_response", status=200), NEXT, NEXT),
    "oversized 2xx body": (failed("response_too_large", status=200), NEXT, NEXT),
    "unsupported_content": (failed("unsupported_content"), NEXT, NEXT),
    "no eligible key": (failed("no_eligible_keys"), NEXT, NEXT),
}


@pytest.mark.parametrize(("failure", "as_primary", "as_fallback"), ROWS.values(), ids=ROWS)
def test_a_failed_call_goes_on_as_its_row_says(failure: Failure, as_primary: Step, as_fallback: Step) -> None:
    assert step(failure) == as_primary
    assert step(failure, is_primary=False) == as_fallback


def test_only_a_rate_limit_asks_for_another_key_when_there_is_one() -> None:
    assert step(said(429), another_key_is_eligible=True) == RetryCall(HALF, another_key=True)
    assert step(said(500), another_key_is_eligible=True) == RetryCall(HALF, another_key=False)


def test_a_refused_key_is_replaced_even_without_retries_or_time() -> None:
    assert step(said(401), retries_used=2, time_left=seconds(0)) == ROTATE


@pytest.mark.parametrize(("used", "outcome"), [(0, RetryCall), (1, RetryCall), (2, NextCandidate)])
def test_there_are_two_retries(used: int, outcome: type[Step]) -> None:
    assert isinstance(step(said(500), retries_used=used), outcome)


def test_no_retries_can_be_asked_for() -> None:
    assert step(said(500), policy=RetryPolicy(max_retries=0)) == NEXT


@pytest.mark.parametrize(
    ("retry_after", "outcome"),
    [
        pytest.param(0.1, RetryCall(HALF, another_key=False), id="the longer of the two waits: ours"),
        pytest.param(7, RetryCall(seconds(7), another_key=False), id="the longer of the two waits: theirs"),
        pytest.param(30, RetryCall(seconds(30), another_key=False), id="30 s is waited for"),
        pytest.param(30.001, NEXT, id="above 30 s the candidate ends at once"),
        pytest.param(0, RetryCall(HALF, another_key=False), id="zero asks for nothing"),
    ],
)
@pytest.mark.parametrize("status", [429, 503, 408, 409])
def test_retry_after_is_honoured(status: int, retry_after: float, outcome: Step) -> None:
    assert step(said(status, retry_after)) == outcome


def test_how_long_is_waited_inline_is_configured() -> None:
    policy = RetryPolicy(retry_after_inline_max=seconds(3))

    assert step(said(429, 3), policy=policy) == RetryCall(seconds(3), another_key=False)
    assert step(said(429, 4), policy=policy) == NEXT


def test_the_wish_of_a_limited_key_does_not_hold_back_another_one() -> None:
    assert step(said(429, 600), another_key_is_eligible=True) == RetryCall(HALF, another_key=True)


@pytest.mark.parametrize(
    ("time_left", "outcome"),
    [(0.2, NEXT), (0.25, NEXT), (0.26, RETRY)],
    ids=["past the deadline", "at the deadline", "before the deadline"],
)
def test_a_retry_begins_before_the_deadline_or_not_at_all(time_left: float, outcome: Step) -> None:
    assert step(said(500), time_left=seconds(time_left)) == outcome


@pytest.mark.parametrize(
    ("used", "ceiling"), [(0, 0.5), (1, 1), (2, 2), (3, 4), (4, 5), (5, 5), (60, 5)], ids=str
)
def test_the_pause_between_calls_is_full_jitter_below_a_doubling_ceiling(used: int, ceiling: float) -> None:
    policy = RetryPolicy()

    assert call_backoff(policy, used, 0.0) == seconds(0)
    assert call_backoff(policy, used, 0.5) == seconds(ceiling / 2)
    assert seconds(0.99 * ceiling) <= call_backoff(policy, used, 0.999) < seconds(ceiling)


@pytest.mark.parametrize(
    ("attempts", "longest"), [(1, 15), (2, 30), (3, 60), (4, 120), (5, 240), (6, 300), (10, 300)], ids=str
)
def test_the_pause_between_attempts_lies_between_half_and_all_of_a_doubling_time(
    attempts: int, longest: float
) -> None:
    assert attempt_backoff(attempts, 0.0) == seconds(longest / 2)
    assert seconds(0.99 * longest) < attempt_backoff(attempts, 0.999) <= seconds(longest)


def after(*failures: Failure, **changes: Any) -> Retry | End:
    facts: dict[str, Any] = {"failed_attempts": 1, "max_attempts": 3, "time_left": HOUR, "chance": 0.0}
    return after_attempt(failures, **(facts | changes))


def test_an_attempt_that_failed_for_transient_reasons_is_repeated_later() -> None:
    assert after(said(503), said(429), failed("provider_busy"), failed("provider_cooling")) == Retry(
        seconds(7.5)
    )


@pytest.mark.parametrize(
    "permanent",
    [said(404), said(501), said(400), failed("upstream_credentials_exhausted"), failed("model_blocked")],
    ids=lambda failure: str(failure.code),
)
def test_one_permanent_failure_ends_the_job_with_the_primarys_error(permanent: Failure) -> None:
    assert after(said(503), permanent) == End(said(503))
    assert after(permanent, said(503)) == End(permanent)


def test_the_last_attempt_ends_the_job() -> None:
    assert after(said(503), failed_attempts=2) == Retry(seconds(15))
    assert after(said(503), failed_attempts=3) == End(said(503))
    assert after(said(503), failed_attempts=1, max_attempts=1) == End(said(503))


@pytest.mark.parametrize(
    ("failures", "delay"),
    [
        pytest.param((said(429, 3),), 7.5, id="a short wish is met anyway"),
        pytest.param((said(429, 100),), 100, id="not before the Retry-After"),
        pytest.param((said(429, 100), said(503, 40)), 40, id="the smallest of several"),
        pytest.param((said(503), said(429, 40)), 40, id="the only one"),
        pytest.param((said(429, 100), said(503, 0)), 7.5, id="zero is the smallest"),
    ],
)
def test_the_next_attempt_waits_for_the_smallest_retry_after(
    failures: tuple[Failure, ...], delay: float
) -> None:
    assert after(*failures) == Retry(seconds(delay))


def test_an_attempt_that_would_begin_after_the_deadline_ends_the_job_now() -> None:
    assert after(said(503), time_left=seconds(7.6)) == Retry(seconds(7.5))
    assert after(said(503), time_left=seconds(7.5)) == End(said(503))
    assert after(said(429, 3000), time_left=seconds(2000)) == End(said(429, 3000))


# S8: whatever vendors answer, a job's walk keeps to its limits and ends.

TIMES: Final = [seconds(value) for value in (0, 0.01, 0.3, 1, 7.5, 29, 30, 31, 120, 3600, 90_000)]
FAILURES: Final = [Failure(code, "…", retry_after=asked) for code in FailureCode for asked in (None, *TIMES)]
MOSTLY_TRANSIENT: Final = FAILURES + 3 * [failure for failure in FAILURES if failure.failure_class.may_heal]
SEEDS: Final = st.integers(0, 2**32 - 1)
"""Each stands for one story: drawing every failure from hypothesis itself takes ten times as long."""


@settings(max_examples=2500, deadline=None)
@given(seed=SEEDS)
def test_a_candidate_is_called_within_its_limits_and_left(seed: int) -> None:
    random = Random(seed)
    policy = RetryPolicy(
        max_retries=random.randrange(8),
        backoff_initial=random.choice(TIMES[1:-1]),
        backoff_max=random.choice(TIMES[1:-1]),
        retry_after_inline_max=random.choice(TIMES[:-1]),
    )
    is_primary = random.random() < 0.5
    time_left = random.choice(TIMES)
    keys = alive = random.randint(1, 4)
    retries = 0
    for calls in itertools.count(1):
        assert calls <= 1 + policy.max_retries + keys
        failure = random.choice(MOSTLY_TRANSIENT)
        decided = next_step(
            failure,
            policy=policy,
            retries_used=retries,
            another_key_is_eligible=alive > 1,
            is_primary=is_primary,
            time_left=time_left,
            chance=random.random(),
        )
        match decided:
            case RotateKey():
                alive -= 1
                if not alive:
                    return
            case RetryCall(delay=delay, another_key=another_key):
                retries += 1
                assert retries <= policy.max_retries
                assert timedelta(0) <= delay < time_left
                assert delay <= max(policy.backoff_max, policy.retry_after_inline_max)
                assert another_key or delay >= (failure.retry_after or timedelta(0))
                time_left -= delay
            case _:
                assert decided == NEXT or is_primary
                return


@settings(max_examples=2500, deadline=None)
@given(seed=SEEDS)
def test_a_job_is_attempted_within_its_limits_and_ends(seed: int) -> None:
    random = Random(seed)
    max_attempts = random.randint(1, 10)
    time_left = random.choice(TIMES)
    for attempts in itertools.count(1):
        assert attempts <= max_attempts
        seen = random.choices(MOSTLY_TRANSIENT, k=random.randint(1, 3))
        decided = after_attempt(
            seen,
            failed_attempts=attempts,
            max_attempts=max_attempts,
            time_left=time_left,
            chance=random.random(),
        )
        if isinstance(decided, End):
            assert decided.failure is seen[0]
            return
        assert all(failure.failure_class.may_heal for failure in seen)
        assert seconds(7.5) <= decided.delay < time_left
        asked = [failure.retry_after for failure in seen if failure.retry_after is not None]
        assert decided.delay >= min(asked, default=timedelta(0))
        time_left -= decided.delay
