"""Work of a large request happens on a thread, of a small one right here."""

import threading

import pytest

from tidegate.services.long_work import LARGE, in_turns

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(("size", "is_here"), [(0, True), (LARGE, True), (LARGE + 1, False)])
async def test_the_size_decides_where_work_is_done(size: int, *, is_here: bool) -> None:
    worker = await in_turns(size, threading.get_ident)

    assert (worker == threading.get_ident()) is is_here


@pytest.mark.parametrize("size", [0, LARGE + 1])
async def test_what_the_work_raises_is_raised(size: int) -> None:
    with pytest.raises(ValueError, match="not a number"):
        await in_turns(size, int, "not a number")
