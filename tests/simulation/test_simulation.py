"""S2: whole lives of a gateway, each decided by its seed.

``TIDEGATE_SEEDS`` says how many are tried, ``TIDEGATE_SEED`` replays a single one and prints what happened.
"""

import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest

from simulation.judge import judge
from simulation.simulation import Simulation

SEEDS: Final = int(os.environ.get("TIDEGATE_SEEDS", "500"))
ONLY: Final = os.environ.get("TIDEGATE_SEED")
SHARES: Final = 10
FAST: Final = Path("/dev/shm")


def simulate(seed: int) -> Simulation:
    """In memory where the machine has such a place: what is asked here is no matter of the disk."""
    with TemporaryDirectory(dir=FAST if os.access(FAST, os.W_OK) else None) as directory:
        simulation = Simulation(seed, Path(directory))
        try:
            simulation.run(judge)
        except BaseException as exc:
            exc.add_note("\n".join(simulation.trace[-40:]))
            exc.add_note(f"replay it: TIDEGATE_SEED={seed} pytest tests/simulation")
            raise
    return simulation


@pytest.mark.parametrize("share", range(SHARES))
def test_no_seed_breaks_a_promise(share: int, record_property: Callable[[str, object], None]) -> None:
    seeds = range(share, SEEDS, SHARES) if ONLY is None else [int(ONLY)]
    for seed in seeds:
        simulate(seed)

    record_property("tried", len(seeds))
