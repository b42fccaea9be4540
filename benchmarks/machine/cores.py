"""Which core does what: the server has one for itself, everything else shares another."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from msgspec import Struct


class Cores(Struct, frozen=True):
    """``None`` where nothing can be pinned."""

    server: int | None
    load: int | None
    note: str
    """How far the figures can be trusted, for whoever reads them."""


def assign() -> Cores:
    """The first two cores this process may use."""
    if not hasattr(os, "sched_setaffinity"):
        return Cores(None, None, "processes cannot be pinned on this system: server and load share all cores")
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) == 1:
        return Cores(cores[0], cores[0], "one core only: server and load share it, rates say little")
    return Cores(cores[0], cores[1], f"server on core {cores[0]}, load and mock vendor on core {cores[1]}")


def move_to(core: int | None) -> None:
    """This thread, and whatever it starts from now on."""
    if core is not None:
        os.sched_setaffinity(0, {core})


@contextmanager
def on(core: int | None) -> Iterator[None]:
    """What is started within inherits the core."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
