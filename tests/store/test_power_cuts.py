"""F2: whatever moment the power fails at, everything that was acknowledged is there, and nothing is there by half.

Real runs of the real store are recorded; for each cut the files are what a disk may have kept of them.
``TIDEGATE_CUTS`` says how many cuts are tried; ``TIDEGATE_CUT=seed:event`` replays a single one.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Final

import pytest

from store.lives import Life, wrongs
from support.disk_model import Event, Image, images
from support.recording_vfs import recorded
from support.virtual_time import VirtualLoop
from tidegate.store.sqlite import connection

CUTS: Final = int(os.environ.get("TIDEGATE_CUTS", "300"))
ONLY: Final = os.environ.get("TIDEGATE_CUT")
CUTS_A_LIFE: Final = 30
DATABASE: Final = Path("data/deep/tidegate.db")
"""In directories that the first start makes."""
FAST: Final = Path("/dev/shm")
THIS: Final = "tests/store/test_power_cuts.py"


def record(seed: int, root: Path) -> Sequence[Event]:
    """One life of a store below ``root``, from its first start on."""
    with recorded(root) as recording:
        life = Life(Random(f"life {seed}"), root / DATABASE, recording, vfs=str(root))
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(life.live())
    return recording.events


def moments(events: Sequence[Event], count: int, rng: Random) -> list[int]:
    """Events before which the power fails: a fifth of them while the store is made for the first time."""
    first_start = max(1, len(events) // 20)
    early = rng.sample(range(first_start), min(count // 5, first_start))
    return sorted({*early, *rng.sample(range(first_start, len(events) + 1), count - len(early))})


def losses(seed: int, cuts: int, *, forgets_names: bool = False) -> Iterator[tuple[str, list[str]]]:
    """For each cut of one life, by the name it is replayed with: what was acknowledged and is not there."""
    with TemporaryDirectory(dir=FAST if os.access(FAST, os.W_OK) else None) as directory:
        root = Path(directory).resolve() / "before"
        root.mkdir()
        events = record(seed, root)
        at = moments(events, cuts, Random(f"cuts {seed}"))
        if ONLY is not None:
            at = [int(ONLY.partition(":")[2])]
        for cut, image in images(events, at, seed, forgets_names=forgets_names):
            with (
                TemporaryDirectory(dir=directory) as after,
                asyncio.Runner(loop_factory=VirtualLoop) as runner,
            ):
                write(image, root, Path(after))
                yield f"{seed}:{cut}", runner.run(wrongs(Path(after) / DATABASE, events[:cut]))


def write(image: Image, root: Path, after: Path) -> None:
    for path, content in image.items():
        place = after / path.relative_to(root)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)


def lives() -> Sequence[int]:
    return range(-(-CUTS // CUTS_A_LIFE)) if ONLY is None else [int(ONLY.partition(":")[0])]


def test_no_power_cut_loses_what_was_acknowledged(record_property: Callable[[str, object], None]) -> None:
    tried = 0
    for seed in lives():
        for name, lost in losses(seed, CUTS_A_LIFE):
            assert lost == [], f"replay it: TIDEGATE_CUT={name} pytest {THIS} -k no_power_cut"
            tried += 1

    record_property("tried", tried)
    assert tried >= CUTS or ONLY is not None


def lossy_cuts(**trouble: bool) -> Counter[bool]:
    return Counter(bool(lost) for seed in range(4) for _, lost in losses(seed, CUTS_A_LIFE, **trouble))


def test_with_less_than_full_synchronous_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the test above would be blind."""
    normal = connection.Pragma("synchronous", "NORMAL", 1)
    pragmas = [normal if pragma.name == "synchronous" else pragma for pragma in connection._ALWAYS]
    monkeypatch.setattr(connection, "_ALWAYS", tuple(pragmas))

    found = lossy_cuts()

    assert found[True] > found.total() / 10, found


def test_without_syncing_directories_it_does() -> None:
    found = lossy_cuts(forgets_names=True)

    assert found[True] > found.total() / 10, found
