"""Every scenario by its name, in the order they are run."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from benchmarks.bench import Bench
from benchmarks.report import Report
from benchmarks.scenarios import (
    backlog,
    credentials,
    end_to_end,
    fleet,
    memory,
    poll,
    postgres,
    store,
    submit,
    volume,
)

Scenario = Callable[[Bench], Awaitable[Report]]

SCENARIOS: Final[Mapping[str, Scenario]] = {
    "store": store.run,
    "submit": submit.run,
    "poll": poll.run,
    "end-to-end": end_to_end.run,
    "credentials": credentials.run,
    "backlog": backlog.run,
    "memory": memory.run,
    "postgres": postgres.run,
    "fleet": fleet.run,
    "volume": volume.run,
}


def about(scenario: Scenario) -> str:
    """One line for people."""
    return (scenario.__doc__ or "").strip().splitlines()[0]
