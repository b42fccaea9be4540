"""Recorded exchanges are read where they lie; without them their tests are left out, and one line says so."""

import os

import pytest

collect_ignore = [] if os.environ.get("TIDEGATE_CASSETTES") else ["test_cassettes.py"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if collect_ignore:
        terminalreporter.write_line(
            "test_cassettes.py left out: TIDEGATE_CASSETTES names no folder of recorded exchanges"
        )
