"""Start-time fair queueing in one number: whoever has the smallest rank is claimed next (design §4.1)."""

from typing import Final

from msgspec import Struct

TURNS_PER_PRIORITY_LEVEL: Final = 100


class Turn(Struct, frozen=True):
    """A job's place in its lane. ``tail`` is its virtual time, ``rank`` adds the priority."""

    rank: float
    tail: float


def next_turn(*, virtual_time: float, tail: float, weight: float, priority: int) -> Turn:
    """The turn of a virtual key's next job.

    ``virtual_time`` is how far the lane has come, ``tail`` the virtual time of the key's last job. A key that
    was idle starts at the lane's time, hence before everybody's backlog; a busy one behind its own last job.
    """
    start = max(virtual_time, tail) + 1 / weight
    return Turn(rank=start + priority_offset(priority), tail=start)


def priority_offset(priority: int) -> float:
    return float(TURNS_PER_PRIORITY_LEVEL * (priority - 1))
