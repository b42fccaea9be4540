"""Every store, one after the other, for the suites that all of them must pass."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.stores import StoreUnderTest


@pytest.fixture(params=["sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StoreUnderTest]:
    under_test = StoreUnderTest(tmp_path / "data" / "tidegate.db")
    under_test.open()
    yield under_test
    await under_test.store.close()
    assert under_test.fatal == []
