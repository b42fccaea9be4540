"""One number orders a lane: by weight between keys, by priority, first come first served within both."""

import itertools
from collections import Counter, defaultdict

import pytest

from tidegate.domain.fairness import TURNS_PER_PRIORITY_LEVEL, Turn, next_turn, priority_offset


@pytest.mark.parametrize(
    ("virtual_time", "tail", "weight", "priority", "turn"),
    [
        pytest.param(0, 0, 1, 1, Turn(rank=1, tail=1), id="the very first job"),
        pytest.param(7, 3, 1, 1, Turn(rank=8, tail=8), id="an idle key starts where the lane is"),
        pytest.param(7, 20, 1, 1, Turn(rank=21, tail=21), id="a busy key queues behind itself"),
        pytest.param(7, 7, 4, 1, Turn(rank=7.25, tail=7.25), id="weight 4 takes quarter steps"),
        pytest.param(7, 7, 0.5, 1, Turn(rank=9, tail=9), id="weight 0.5 takes double steps"),
        pytest.param(7, 3, 1, 3, Turn(rank=208, tail=8), id="a priority moves the rank, not the tail"),
        pytest.param(7, 3, 1, 5, Turn(rank=408, tail=8), id="the last priority"),
    ],
)
def test_a_turn(virtual_time: float, tail: float, weight: float, priority: int, turn: Turn) -> None:
    assert next_turn(virtual_time=virtual_time, tail=tail, weight=weight, priority=priority) == turn


def test_one_level_of_priority_is_worth_about_a_hundred_turns() -> None:
    assert TURNS_PER_PRIORITY_LEVEL == 100
    assert [priority_offset(level) for level in range(1, 6)] == [0, 100, 200, 300, 400]


class Lane:
    """The rule at work, with a sorted list in the place of the index."""

    def __init__(self) -> None:
        self.virtual_time = 0.0
        self.tails: defaultdict[str, float] = defaultdict(float)
        self.queue: list[tuple[float, int, str, int]] = []
        self.arrivals = itertools.count()

    def arrives(self, key: str, count: int = 1, *, weight: float = 1, priority: int = 3) -> None:
        for _ in range(count):
            turn = next_turn(
                virtual_time=self.virtual_time,
                tail=self.tails[key],
                weight=weight,
                priority=priority,
            )
            self.tails[key] = turn.tail
            self.queue.append((turn.rank, next(self.arrivals), key, priority))

    def runs(self, count: int) -> list[str]:
        keys = []
        for _ in range(count):
            self.queue.sort()
            rank, _, key, priority = self.queue.pop(0)
            self.virtual_time = max(self.virtual_time, rank - priority_offset(priority))
            keys.append(key)
        return keys


def test_a_new_keys_first_job_is_next_whatever_the_backlog() -> None:
    lane = Lane()
    lane.arrives("noisy", 1000)
    lane.runs(400)

    lane.arrives("quiet")

    assert "quiet" in lane.runs(2)


def test_keys_share_a_lane_evenly_whatever_their_backlogs() -> None:
    lane = Lane()
    lane.arrives("noisy", 1000)
    lane.arrives("modest", 100)

    assert Counter(lane.runs(200)) == {"noisy": 100, "modest": 100}


def test_keys_share_a_lane_by_weight() -> None:
    lane = Lane()
    lane.arrives("three", 900, weight=3)
    lane.arrives("one", 900, weight=1)

    shares = Counter(lane.runs(400))

    assert shares["three"] == pytest.approx(300, abs=2)


def test_a_key_that_was_idle_has_saved_nothing_up() -> None:
    lane = Lane()
    lane.arrives("steady", 500)
    lane.runs(300)
    lane.arrives("late", 100)

    assert Counter(lane.runs(100))["late"] == pytest.approx(50, abs=1)


def test_a_better_priority_overtakes_about_a_hundred_turns_per_level() -> None:
    lane = Lane()
    lane.arrives("bulk", 500, priority=4)

    lane.arrives("interactive", 1, priority=3)

    assert lane.runs(1) == ["interactive"]


def test_the_last_priority_never_starves() -> None:
    lane = Lane()
    lane.arrives("bulk", 1, priority=5)
    turns = 0

    while True:
        lane.arrives("interactive", 1, priority=1)
        turns += 1
        if lane.runs(1) == ["bulk"]:
            break

    assert turns <= 402


def test_jobs_of_one_key_and_level_keep_their_order() -> None:
    lane = Lane()
    lane.arrives("a", 50)
    ranks = [rank for rank, *_ in lane.queue]

    assert ranks == sorted(ranks)
    assert len(set(ranks)) == 50
