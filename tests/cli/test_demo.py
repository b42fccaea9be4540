"""``tidegate demo``: the promise, with small numbers."""

import json
import signal
from pathlib import Path

import pytest

from cli.runs import Cli, one_line


def children_of(directory: Path) -> list[int]:
    """Processes whose working directory lies in ``directory``."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            place = (process / "cwd").readlink()
        except OSError:
            continue
        if place.is_relative_to(directory):
            found.append(int(process.name))
    return found


@pytest.fixture
def temporary(cli: Cli) -> Path:
    """Where the demonstration makes its temporary directory."""
    place = cli.directory / "tmp"
    place.mkdir()
    return place


def test_no_job_is_lost_and_nothing_is_left_behind(cli: Cli, temporary: Path) -> None:
    result = cli.with_variables(TMPDIR=str(temporary)).process("demo", "--jobs", "20", "--no-model", "--json")

    report = json.loads(one_line(result.stdout))
    assert result.returncode == 0, result
    assert (report["accepted"], report["completed"], report["failed"], report["lost"]) == (20, 20, 0, 0)
    assert (report["kills"], report["duplicates"], report["wrong_answers"]) == (1, 0, 0)
    assert report["in_flight"][0] > 0
    assert report["vendor_calls"] > 20
    assert report["first_claims"][0] > 0
    assert report["answer"] == report["question"]
    assert list(temporary.iterdir()) == []
    assert children_of(temporary) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_whoever_ends_it_ends_the_children_too(cli: Cli, temporary: Path, number: signal.Signals) -> None:
    # An interrupt may strike between a socket's making and the statement that would close it.
    quiet = cli.with_variables(TMPDIR=str(temporary), PYTHONWARNINGS="error,ignore::ResourceWarning")
    process = quiet.start("demo", "--jobs", "20", "--no-model")
    assert process.stdout is not None
    next(line for line in iter(process.stdout.readline, "") if "Started the gateway" in line)
    running = children_of(temporary)

    process.send_signal(number)
    _, err = process.communicate(timeout=20)

    assert len(running) == 2
    assert (process.returncode, err) == (130, "Interrupted.\n")
    assert list(temporary.iterdir()) == []
    assert children_of(temporary) == []
