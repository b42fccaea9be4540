"""The counters of fair queueing: remembered between transactions, written once per transaction."""

from typing import Final, final

import apsw

from tidegate.domain.fairness import Turn, next_turn, priority_offset
from tidegate.store.sqlite.damage import understood

_MOST_REMEMBERED: Final = 20_000


@final
class Turns:
    """How far each lane has come and where each owner's queue in it ends (``lanes``, ``tails``)."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._lanes: dict[str, float] = {}
        self._tails: dict[tuple[str, str], float] = {}
        self._changed_lanes: set[str] = set()
        self._changed_tails: set[tuple[str, str]] = set()

    @understood
    def give(self, *, lane: str, owner: str, weight: float, priority: int) -> Turn:
        """The next turn of ``owner`` in ``lane``."""
        turn = next_turn(
            virtual_time=self._virtual_time(lane),
            tail=self._tail(lane, owner),
            weight=weight,
            priority=priority,
        )
        self._tails[lane, owner] = turn.tail
        self._changed_tails.add((lane, owner))
        return turn

    @understood
    def claimed(self, *, lane: str, rank: float, priority: int) -> None:
        """The lane has come as far as this job; a priority is no progress."""
        reached = rank - priority_offset(priority)
        if reached > self._virtual_time(lane):
            self._lanes[lane] = reached
            self._changed_lanes.add(lane)

    def flush(self) -> None:
        """Write what has changed; called before COMMIT."""
        for lane in self._changed_lanes:
            self._connection.execute(
                "INSERT INTO lanes (lane, virtual_time) VALUES (?1, ?2)"
                " ON CONFLICT (lane) DO UPDATE SET virtual_time = ?2",
                (lane, self._lanes[lane]),
            )
        for lane, owner in self._changed_tails:
            self._connection.execute(
                "INSERT INTO tails (lane, owner, tail) VALUES (?1, ?2, ?3)"
                " ON CONFLICT (lane, owner) DO UPDATE SET tail = ?3",
                (lane, owner, self._tails[lane, owner]),
            )
        self._changed_lanes.clear()
        self._changed_tails.clear()
        if len(self._tails) > _MOST_REMEMBERED:
            self._tails.clear()

    def forget(self) -> None:
        """After a rollback: what was remembered may never have happened."""
        self._lanes.clear()
        self._tails.clear()
        self._changed_lanes.clear()
        self._changed_tails.clear()

    def _virtual_time(self, lane: str) -> float:
        if lane not in self._lanes:
            self._lanes[lane] = self._read("SELECT virtual_time FROM lanes WHERE lane = ?", (lane,))
        return self._lanes[lane]

    def _tail(self, lane: str, owner: str) -> float:
        if (lane, owner) not in self._tails:
            self._tails[lane, owner] = self._read(
                "SELECT tail FROM tails WHERE lane = ? AND owner = ?", (lane, owner)
            )
        return self._tails[lane, owner]

    def _read(self, sql: str, bindings: tuple[str, ...]) -> float:
        row = self._connection.execute(sql, bindings).fetchone()
        return float(row[0]) if row is not None else 0.0
