"""What scenarios share."""

import pytest

from tidegate.cli import weights


@pytest.fixture(scope="session")
def local_model_weights() -> None:
    """The download, once and for all runs on this machine, counts for none of the tests."""
    weights.fetch()
