"""Places at which a test has the process killed, as by ``kill -9``, to see what the next start makes of it.

Each is named in the code by one call of ``reached``, which does nothing unless ``arm`` was called with both
variables set. One alone is refused: a gateway that dies on purpose must never start by mistake.

In SQLite the points that begin with ``in_`` lie within a transaction. In PostgreSQL most of these transactions are one
statement each, which no process can die in: there the points lie behind it, before anything follows from it.
"""

import os
import signal
from collections.abc import Mapping
from typing import Final, Literal, get_args

from msgspec import Struct

Point = Literal[
    "before_commit",
    "after_commit_before_reply",
    "after_claim",
    "before_call",
    "after_call_before_settle",
    "in_settle",
    "in_release",
    "in_rescue",
    "in_prune",
    "in_migration",
    "in_copy",
]
POINTS: Final[tuple[Point, ...]] = get_args(Point)
TEST_BUILD: Final = "TIDEGATE_TEST_BUILD"
FAULT_POINT: Final = "TIDEGATE_FAULT_POINT"


class FaultPointRefused(Exception):
    """The variables do not make sense together; the message says which and what to do."""


class _Fuse(Struct):
    point: str
    left: int
    """How often the point is still passed, the last time included."""


_fuses: Final[list[_Fuse]] = []
"""Empty in every gateway that is not under test."""


def reached(point: Point) -> None:
    """The process may end here."""
    for fuse in _fuses:
        if fuse.point == point:
            _burn(fuse)


def arm(environ: Mapping[str, str]) -> None:
    """Do as the environment says: ``TIDEGATE_FAULT_POINT=name`` or ``name:nth``. Raises ``FaultPointRefused``."""
    wanted = environ.get(FAULT_POINT)
    if wanted is None:
        return
    if environ.get(TEST_BUILD) != "1":
        raise FaultPointRefused(
            f"{FAULT_POINT} is set: this gateway would kill itself, which only tests want, and they set "
            f"{TEST_BUILD}=1 as well. Unset {FAULT_POINT}."
        )
    name, _, nth = wanted.partition(":")
    if name not in POINTS or not (nth or "1").isdecimal() or int(nth or 1) < 1:
        raise FaultPointRefused(
            f"{FAULT_POINT}={wanted}: use name or name:nth, with one of {', '.join(POINTS)}"
        )
    _fuses.append(_Fuse(name, int(nth or 1)))


def _burn(fuse: _Fuse) -> None:
    fuse.left -= 1
    if fuse.left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
