"""One gateway per test file, kept for all its tests."""

from collections.abc import AsyncIterator

import pytest

from api.minting import admin_token
from api.world import SCRIPT, bearer, config_of
from support.gateway import RunningGateway, running
from tidegate.mock_vendor import MockVendor


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The event loop that serves in earnest."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="module")
async def vendor() -> AsyncIterator[MockVendor]:
    async with MockVendor.serve(script=SCRIPT, keep_bodies=True) as vendor:
        yield vendor


@pytest.fixture(scope="module")
async def gateway(
    vendor: MockVendor, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningGateway]:
    directory = tmp_path_factory.mktemp("gateway")
    async with running(directory, config_of(directory, vendor)) as gateway:
        yield gateway


@pytest.fixture(scope="module")
async def open_gateway(
    vendor: MockVendor, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningGateway]:
    """A gateway where anybody may call, and pages of one origin may."""
    directory = tmp_path_factory.mktemp("open")
    config = config_of(directory, vendor)
    config["auth"]["required"] = False
    config["client"] = {"allowed_origins": ["https://app.example"]}
    async with running(directory, config) as gateway:
        yield gateway


@pytest.fixture
def as_admin() -> dict[str, str]:
    return bearer(admin_token())
