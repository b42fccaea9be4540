"""One gateway for each test file, as the contract tests of the HTTP surface have it."""

import pytest

from api.conftest import anyio_backend, as_admin, gateway, open_gateway, vendor
from tidegate import serving

__all__ = ["anyio_backend", "as_admin", "gateway", "open_gateway", "vendor"]


@pytest.fixture
def serves_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A start that should have been refused ends with exit code 1, instead of serving for ever."""

    async def run(*_arguments: object) -> None:
        raise serving.CannotListen("it started")

    monkeypatch.setattr(serving.Process, "run", run)
