"""The mock vendor's own time and chance: it stands alone, so it cannot borrow the gateway's."""

import random  # noqa: TID251 – the one place where this package takes it from
from collections.abc import Callable
from datetime import UTC, datetime

Now = Callable[[], datetime]
Chance = random.Random


def utc_now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 – the one place where this package takes it from


def seeded(seed: int) -> Chance:
    """Plays the same trouble every time."""
    return Chance(seed)
