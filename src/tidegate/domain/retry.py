"""What next after a failure: pure decisions, time and chance are arguments (contract §9)."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from msgspec import Struct

from tidegate.domain.failures import Failure, FailureClass

_NONE: Final = timedelta(0)


class RetryPolicy(Struct, frozen=True):
    """How one provider's calls are repeated within an attempt."""

    max_retries: int = 2
    backoff_initial: timedelta = timedelta(milliseconds=500)
    backoff_max: timedelta = timedelta(seconds=5)
    retry_after_inline_max: timedelta = timedelta(seconds=30)
    """A longer ``Retry-After`` ends the candidate instead of holding the job."""


class RotateKey(Struct, frozen=True, tag=True):
    """The key is dead: use another one at once; costs no retry."""


class RetryCall(Struct, frozen=True, tag=True):
    """Call the same candidate again after ``delay``; with another key if one is left."""

    delay: timedelta
    another_key: bool


class NextCandidate(Struct, frozen=True, tag=True):
    """Nothing more to be had here."""


class GiveUp(Struct, frozen=True, tag=True):
    """The request itself was refused: ask nobody else."""


Step = RotateKey | RetryCall | NextCandidate | GiveUp


def next_step(
    failure: Failure,
    *,
    policy: RetryPolicy,
    retries_used: int,
    another_key_is_eligible: bool,
    is_primary: bool,
    time_left: timedelta,
    chance: float,
) -> Step:
    """Decide after one failed call. ``chance`` is uniform in [0, 1); a retry that would begin after the
    deadline is not begun."""
    match failure.failure_class:
        case FailureClass.KEY_REFUSED:
            return RotateKey()
        case FailureClass.CALLERS_FAULT:
            # A fallback's refusal says more about the fallback than about the caller.
            return GiveUp() if is_primary else NextCandidate()
        case FailureClass.PERMANENT:
            return NextCandidate()
        case FailureClass.RATE_LIMITED | FailureClass.TRANSIENT:
            pass
    if retries_used >= policy.max_retries:
        return NextCandidate()
    rotates = failure.failure_class is FailureClass.RATE_LIMITED and another_key_is_eligible
    # A Retry-After speaks of the key that was limited, so it does not hold back another one.
    asked = _NONE if rotates else (failure.retry_after or _NONE)
    if asked > policy.retry_after_inline_max:
        return NextCandidate()
    delay = max(asked, call_backoff(policy, retries_used, chance))
    return NextCandidate() if delay >= time_left else RetryCall(delay, another_key=rotates)


def call_backoff(policy: RetryPolicy, retries_used: int, chance: float) -> timedelta:
    """Full jitter: uniform in [0, min(max, initial · 2ᵏ)]."""
    # 2**30 times any initial value is past any maximum; a larger power would only overflow.
    ceiling = min(policy.backoff_max, policy.backoff_initial * float(1 << min(retries_used, 30)))
    return ceiling * chance


class Retry(Struct, frozen=True, tag=True):
    """The job goes back to the queue for ``delay``."""

    delay: timedelta


class End(Struct, frozen=True, tag=True):
    """The job ends with this failure."""

    failure: Failure


def after_attempt(
    failures: Sequence[Failure],
    *,
    failed_attempts: int,
    max_attempts: int,
    time_left: timedelta,
    chance: float,
) -> Retry | End:
    """Decide when every candidate has failed. ``failures`` holds the last one of each, the primary's first.

    ``failed_attempts`` counts this attempt too. One failure that waiting cannot heal ends the job, since
    waiting would repeat it.
    """
    primary = failures[0]
    if not all(failure.failure_class.may_heal for failure in failures) or failed_attempts >= max_attempts:
        return End(primary)
    asked = min(
        (failure.retry_after for failure in failures if failure.retry_after is not None), default=_NONE
    )
    delay = max(asked, attempt_backoff(failed_attempts, chance))
    return End(primary) if delay >= time_left else Retry(delay)


def attempt_backoff(failed_attempts: int, chance: float) -> timedelta:
    """Uniform in [d/2, d] with d = min(300 s, 15 s · 2ⁿ⁻¹) after the n-th failed attempt."""
    longest = min(timedelta(seconds=300), timedelta(seconds=15) * float(1 << min(failed_attempts - 1, 10)))
    return longest * (0.5 + chance / 2)
