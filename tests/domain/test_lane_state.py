"""When a provider's lane closes, what gets through while it opens, and what opens it (reliability §5)."""

import pytest

from tidegate.domain.lane_state import FAILURES_IN_A_ROW, FIRST_PAUSE, LONGEST_PAUSE, LaneState

NOW = 1000.0
LIMIT = 8


def closed_by_failures(now: float = NOW) -> LaneState:
    lane = LaneState()
    for _ in range(FAILURES_IN_A_ROW):
        lane.failed(now)
    return lane


def test_a_new_lane_is_open_up_to_its_limit() -> None:
    lane = LaneState()

    assert not lane.is_closed(NOW)
    assert lane.opens_in(NOW) == 0
    assert [lane.capacity(LIMIT, running, NOW) for running in (0, 5, 8, 9)] == [8, 3, 0, 0]


def test_ten_failures_in_a_row_close_it_for_fifteen_seconds() -> None:
    lane = LaneState()
    for _ in range(9):
        lane.failed(NOW)
    assert not lane.is_closed(NOW)

    lane.failed(NOW)

    assert lane.is_closed(NOW)
    assert lane.opens_in(NOW) == 15
    assert lane.capacity(LIMIT, 0, NOW) == 0
    assert lane.is_closed(NOW + 14.9)
    assert not lane.is_closed(NOW + 15)


@pytest.mark.parametrize("answer", ["succeeded", "refused"])
def test_an_answer_breaks_the_row(answer: str) -> None:
    lane = LaneState()
    for _ in range(9):
        lane.failed(NOW)

    getattr(lane, answer)(NOW)
    for _ in range(9):
        lane.failed(NOW)

    assert not lane.is_closed(NOW)


def test_failures_while_it_is_closed_change_nothing() -> None:
    lane = closed_by_failures()

    for _ in range(50):
        lane.failed(NOW + 5)

    assert lane.opens_in(NOW + 5) == 10


def test_on_opening_one_probe_gets_through() -> None:
    lane = closed_by_failures()
    opening = NOW + FIRST_PAUSE

    assert lane.capacity(LIMIT, 0, opening) == 1
    lane.enter(opening)
    assert lane.capacity(LIMIT, 1, opening) == 0


def test_calls_that_still_hang_from_before_do_not_hold_the_probe_back() -> None:
    lane = closed_by_failures()
    opening = NOW + FIRST_PAUSE

    assert lane.capacity(LIMIT, 5, opening) == 1
    assert lane.capacity(LIMIT, LIMIT, opening) == 0


def test_each_further_probe_waits_twice_as_long_up_to_two_minutes() -> None:
    lane = closed_by_failures()
    now = NOW
    pauses = []

    for _ in range(6):
        pauses.append(lane.opens_in(now))
        now += lane.opens_in(now)
        lane.enter(now)
        lane.failed(now + 1)

    assert pauses == [15, 30, 60, 120, 120, 120]


def test_a_probe_that_never_answers_is_followed_by_another() -> None:
    lane = closed_by_failures()
    lane.enter(NOW + 15)

    assert lane.capacity(LIMIT, 1, NOW + 44) == 0
    assert lane.capacity(LIMIT, 1, NOW + 45) == 1


def test_a_success_opens_it() -> None:
    lane = closed_by_failures()
    lane.enter(NOW + 15)

    lane.succeeded(NOW + 16)

    assert lane.capacity(LIMIT, 1, NOW + 16) == LIMIT - 1


def test_after_a_success_the_pauses_begin_anew() -> None:
    lane = closed_by_failures()
    lane.enter(NOW + 15)
    lane.succeeded(NOW + 16)

    for _ in range(FAILURES_IN_A_ROW):
        lane.failed(NOW + 20)

    assert lane.opens_in(NOW + 20) == FIRST_PAUSE


def test_a_refused_probe_lets_the_next_one_through_at_once() -> None:
    lane = closed_by_failures()
    lane.enter(NOW + 15)

    lane.refused(NOW + 16)

    assert lane.capacity(LIMIT, 0, NOW + 16) == 1
    lane.enter(NOW + 16)
    assert lane.opens_in(NOW + 16) == FIRST_PAUSE


def test_a_refusal_does_not_open_a_lane_that_sent_no_probe_yet() -> None:
    lane = closed_by_failures()

    lane.refused(NOW + 5)

    assert lane.opens_in(NOW + 5) == 10


def test_an_open_lane_takes_no_notice_of_who_enters() -> None:
    lane = LaneState()

    lane.enter(NOW)

    assert lane.capacity(LIMIT, 1, NOW) == LIMIT - 1


def test_it_closes_for_as_long_as_the_provider_asked() -> None:
    lane = LaneState()

    lane.limited(NOW, 40)

    assert lane.opens_in(NOW) == 40


def test_the_longest_of_several_wishes_counts() -> None:
    lane = LaneState()

    lane.limited(NOW, 40)
    lane.limited(NOW + 1, 5)

    assert lane.opens_in(NOW + 1) == 39


def test_nobody_can_close_it_for_a_day() -> None:
    lane = LaneState()

    lane.limited(NOW, 86_400)

    assert lane.opens_in(NOW) == LONGEST_PAUSE


def test_a_success_of_a_call_that_began_before_does_not_overrule_the_provider() -> None:
    lane = LaneState()
    lane.limited(NOW, 40)

    lane.succeeded(NOW + 3)

    assert lane.opens_in(NOW + 3) == 37


def test_a_success_after_the_time_the_provider_asked_for_opens_it() -> None:
    lane = LaneState()
    lane.limited(NOW, 40)
    assert lane.capacity(LIMIT, 0, NOW + 40) == 1

    lane.succeeded(NOW + 41)

    assert lane.capacity(LIMIT, 0, NOW + 41) == LIMIT


def test_the_providers_word_counts_more_than_our_guess() -> None:
    lane = closed_by_failures()

    lane.limited(NOW + 1, 2)

    assert lane.opens_in(NOW + 1) == 2


def test_a_probe_that_is_limited_waits_as_long_as_the_provider_asks() -> None:
    lane = LaneState()
    lane.limited(NOW, 2)
    lane.enter(NOW + 2)

    lane.limited(NOW + 3, 2)

    assert lane.opens_in(NOW + 3) == 2
