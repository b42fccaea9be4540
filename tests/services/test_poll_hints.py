"""When to ask again (contract §4.4)."""

from datetime import timedelta

import pytest

from support.fakes import FakeClock
from tidegate.domain.inference import RequestType
from tidegate.domain.jobs import JobId, JobState, Status
from tidegate.services.poll_hints import PollHints


def job(clock: FakeClock, model: str = "openai/x", runs_in: float | None = None) -> JobState:
    return JobState(
        id=JobId("019cadd4-663b-7c7e-b323-ca2bfd566729"),
        request_type=RequestType.CHAT_COMPLETION,
        model=model,
        request_id="r",
        status=Status.PENDING,
        created_at=clock.now(),
        next_run_at=None if runs_in is None else clock.now() + timedelta(seconds=runs_in),
    )


def hint_after(*seconds: float) -> int:
    """For a model that has taken this long."""
    clock = FakeClock()
    hints = PollHints(clock)
    for taken in seconds:
        hints.note("openai/x", timedelta(seconds=taken))
    return hints.retry_after(job(clock))


@pytest.mark.parametrize(
    ("durations", "seconds"),
    [
        ((), 1),
        ((0.01,), 1),
        ((1.4,), 1),
        ((2.6,), 3),
        ((4,), 4),
        ((5.4,), 5),
        ((600,), 5),
        ((600, *(0.1,) * 40), 1),
        ((0.1, 0.1, 20), 4),
    ],
)
def test_it_follows_the_model_s_recent_durations_between_1_and_5(
    durations: tuple[float, ...], seconds: int
) -> None:
    assert hint_after(*durations) == seconds


def test_models_are_told_apart() -> None:
    clock = FakeClock()
    hints = PollHints(clock)
    hints.note("openai/slow", timedelta(seconds=30))

    assert hints.retry_after(job(clock, "openai/slow")) == 5
    assert hints.retry_after(job(clock, "openai/fast")) == 1


@pytest.mark.parametrize(
    ("runs_in", "seconds"),
    [(0, 1), (-5, 1), (0.2, 1), (1, 1), (1.001, 2), (7, 7), (45.5, 46), (60, 60), (61, 60), (3600, 60)],
)
def test_a_waiting_job_says_until_when_at_most_a_minute(runs_in: float, seconds: int) -> None:
    clock = FakeClock()
    hints = PollHints(clock)
    hints.note("openai/x", timedelta(seconds=3))

    assert hints.retry_after(job(clock, runs_in=runs_in)) == seconds


def test_the_wait_shrinks_as_time_goes_by() -> None:
    clock = FakeClock()
    hints = PollHints(clock)
    waiting = job(clock, runs_in=30)

    clock.advance(timedelta(seconds=12))

    assert hints.retry_after(waiting) == 18


def test_what_is_remembered_is_bounded() -> None:
    """Callers invent models."""
    hints = PollHints(FakeClock())

    for number in range(2500):
        hints.note(f"openai/{number}", timedelta(seconds=1))

    assert len(hints._averages) <= 1000
