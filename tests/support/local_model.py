"""The local model as a process of its own."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

PROGRAM = (
    "import sys; from tidegate.cli.weights import run; sys.exit(run(port={port}, is_verbose={is_verbose}))"
)


@contextmanager
def running(*, port: int = 0, is_verbose: bool = False) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(port=port, is_verbose=is_verbose)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )
    too_long = threading.Timer(40, process.kill)
    too_long.start()
    try:
        yield process
    finally:
        too_long.cancel()
        process.kill()
        process.communicate()


def url_of(process: subprocess.Popen[str]) -> str:
    """From the line that is printed when the server answers."""
    assert process.stdout is not None
    return process.stdout.readline().split()[-1]
