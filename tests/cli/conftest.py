"""One gateway for all tests that only talk to it, and a clean place for the others."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.runs import Cli, Served, serving, write_json

KEY = "sk-bf-" + "a" * 43


@pytest.fixture(scope="session")
def bytecode(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all processes of the session keep their compiled modules."""
    return tmp_path_factory.mktemp("bytecode")


@pytest.fixture
def cli(tmp_path: Path, bytecode: Path) -> Cli:
    """In an empty directory."""
    return Cli(tmp_path, bytecode)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory, bytecode: Path) -> Iterator[tuple[Cli, Served]]:
    """A running gateway with the mock vendor and one virtual key, and a command line that finds it."""
    directory = tmp_path_factory.mktemp("gateway")
    config = {
        "governance": {"virtual_keys": [{"name": "configured", "id": "key-a", "value": KEY}]},
        "providers": {"mock": {"network_config": {"max_retries": 0}}},
    }
    write_json(directory / "tidegate.json", config)
    cli = Cli(directory, bytecode, TIDEGATE_CONFIG="tidegate.json")
    with serving(cli) as gateway:
        yield cli.with_variables(TIDEGATE_URL=gateway.url), gateway


@pytest.fixture
def tg(served: tuple[Cli, Served]) -> Cli:
    """Talks to the running gateway, as an administrator."""
    return served[0]
