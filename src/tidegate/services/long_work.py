"""Work that grows with a request: of a large one it is done on a thread, so that everybody else gets a turn."""

import asyncio
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

LARGE: Final = 2**16

P = ParamSpec("P")
R = TypeVar("R")


async def in_turns(size: int, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """What ``work`` returns. Below ``LARGE`` bytes a thread would cost more than it spares."""
    if size <= LARGE:
        return work(*args, **kwargs)
    return await asyncio.to_thread(work, *args, **kwargs)
