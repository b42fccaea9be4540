"""Help, versions, usage errors, and what importing the command line costs."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
from cyclopts import App

from cli.runs import Cli, one_line
from tidegate import __version__
from tidegate.cli import command_line

HEAVY = (
    "apsw",
    "asyncio",
    "http.client",
    "joserfc",
    "starlette",
    "structlog",
    "uvicorn",
    "uvloop",
    "wreq",
    "yaml",
)


def paths(app: App, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every group and every command."""
    yield path
    for name in app:
        if not name.startswith("-"):
            yield from paths(app[name], (*path, name))


PATHS = list(paths(command_line()))


def test_all_commands_are_there() -> None:
    commands = {" ".join(path) for path in PATHS}

    assert {
        "serve", "demo", "mock", "local-model", "doctor", "migrate",
        "keys create", "keys list", "keys show", "keys revoke", "keys rotate", "keys delete",
        "token mint", "token inspect",
        "jobs submit", "jobs wait", "jobs list", "jobs show", "jobs cancel",
        "config check", "config show", "config schema",
        "store copy",
    } <= commands  # fmt: skip


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_help_starts_with_two_examples_of_the_command(path: tuple[str, ...], cli: Cli) -> None:
    result = cli(*path, "--help")

    heading, *examples, blank = result.stdout.splitlines()[:4]
    assert (result.returncode, result.stderr, heading, blank) == (0, "", "Examples", "")
    assert all(line.startswith(f"  {' '.join(('tidegate', *path))}") for line in examples)
    assert f"Usage: {' '.join(('tidegate', *path))}" in result.stdout


def test_the_version_is_that_of_the_package(cli: Cli) -> None:
    assert one_line(cli.process("--version").stdout) == f"tidegate {__version__}"


def test_a_command_that_does_not_exist_is_exit_code_2(cli: Cli) -> None:
    result = cli.process("jobs", "lost")

    assert (result.returncode, result.stdout) == (2, "")
    assert 'Unknown command "lost"' in result.stderr
    assert "Help: tidegate jobs --help" in result.stderr


@pytest.mark.parametrize(
    "arguments", [("serve", "--prot", "1"), ("jobs", "show"), ("mock", "--fail-rate", "2")]
)
def test_a_wrong_flag_is_exit_code_2_and_names_the_help(cli: Cli, arguments: tuple[str, ...]) -> None:
    result = cli(*arguments)

    assert (result.returncode, result.stdout) == (2, "")
    assert f"Help: tidegate {arguments[0]}" in result.stderr


def test_importing_the_command_line_imports_nothing_that_a_command_may_not_need() -> None:
    program = "import sys, tidegate.cli; print(*sys.modules)"

    modules = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    loaded = set(modules.stdout.split())
    assert not loaded & set(HEAVY)
    assert not [
        name for name in loaded if name.startswith(("tidegate.store", "tidegate.transport", "tidegate.api"))
    ]


def test_the_mock_vendor_runs_until_it_is_told_to_stop(cli: Cli) -> None:
    process = cli.start("mock", "--port", "0", "--latency", "1ms")
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.terminate()
        _, err = process.communicate(timeout=10)
    finally:
        process.kill()
        process.communicate()

    assert line.startswith("Mock vendor at http://127.0.0.1:")
    assert (process.returncode, err) == (0, "")
