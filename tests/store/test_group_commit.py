"""Group commit: who waits together is committed together."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from tidegate.domain.errors import StorageUnavailable, StoreBusy
from tidegate.store.group_commit import BatchLimits, GroupCommit

pytestmark = pytest.mark.anyio


class Disk:
    """Commits when told to, and remembers the batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.is_slow = False
        self.may_go_on = asyncio.Event()
        self.between = 0

    async def commit(self, ops: Sequence[int]) -> Sequence[Any]:
        self.batches.append(list(ops))
        if self.is_slow:
            await self.may_go_on.wait()
        return [op * 10 if op >= 0 else ValueError(op) for op in ops]

    async def rest(self) -> None:
        self.between += 1


def group(disk: Disk, **limits: Any) -> GroupCommit[int]:
    return GroupCommit(disk.commit, disk.rest, BatchLimits(**limits))


async def test_an_idle_store_commits_at_once() -> None:
    disk = Disk()

    assert await group(disk).submit(1) == 10

    assert disk.batches == [[1]]


async def test_whatever_waits_shares_the_next_commit() -> None:
    disk = Disk()
    disk.is_slow = True
    commits = group(disk)
    first = commits.submit(1)
    await asyncio.sleep(0)
    rest = [commits.submit(number) for number in range(2, 100)]
    disk.may_go_on.set()

    await asyncio.gather(first, *rest)

    assert disk.batches == [[1], list(range(2, 100))]


async def test_a_batch_has_a_size_and_a_length() -> None:
    disk = Disk()
    commits = group(disk, ops=3, size=100)

    await asyncio.gather(
        *[commits.submit(number, size) for number, size in enumerate((40, 40, 40, 500, 1, 1, 1, 1))]
    )

    assert disk.batches == [[0, 1], [2], [3], [4, 5, 6], [7]]


async def test_one_operation_may_fail_alone() -> None:
    disk = Disk()
    commits = group(disk)

    results = await asyncio.gather(
        commits.submit(1), commits.submit(-1), commits.submit(2), return_exceptions=True
    )

    assert results[0] == 10
    assert isinstance(results[1], ValueError)
    assert results[2] == 20


async def test_a_commit_that_breaks_leaves_nobody_waiting() -> None:
    async def broken(ops: Sequence[int]) -> Sequence[Any]:
        raise OSError("disk")

    disk = Disk()
    commits: GroupCommit[int] = GroupCommit(broken, disk.rest)

    results = await asyncio.gather(commits.submit(1), commits.submit(2), return_exceptions=True)

    assert [type(result) for result in results] == [OSError, OSError]


async def test_a_full_inbox_refuses() -> None:
    disk = Disk()
    commits = group(disk, inbox_ops=2, inbox_size=100)
    waiting = [commits.submit(1, 60)]

    with pytest.raises(StoreBusy):
        commits.submit(2, 60)
    waiting.append(commits.submit(2, 40))
    with pytest.raises(StoreBusy):
        commits.submit(3)

    assert await asyncio.gather(*waiting) == [10, 20]
    assert await commits.submit(3) == 30


async def test_a_waiter_that_gave_up_does_not_undo_its_operation() -> None:
    disk = Disk()
    disk.is_slow = True
    commits = group(disk)
    given_up = commits.submit(1)
    patient = commits.submit(2)
    await asyncio.sleep(0)
    given_up.cancel()
    disk.may_go_on.set()

    assert await patient == 20
    assert disk.batches == [[1, 2]]


async def test_closing_finishes_what_waits_and_refuses_the_rest() -> None:
    disk = Disk()
    commits = group(disk)
    waiting = commits.submit(1)

    await commits.close()

    assert waiting.result() == 10
    with pytest.raises(StorageUnavailable):
        commits.submit(2)


async def test_the_pause_between_batches_comes_after_the_answers() -> None:
    disk = Disk()
    commits = group(disk)

    await commits.submit(1)
    assert disk.between == 0
    await commits.submit(2)

    assert disk.between >= 1
