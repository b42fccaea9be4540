"""What every test may ask for."""

import signal
from collections.abc import Iterator
from datetime import timedelta
from unittest.mock import patch

import pytest

from tidegate.api import failed_logins

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Started in the background of a shell, and about to hand that down to every process of ours.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True, scope="session")
def refusals_are_answered_at_once() -> Iterator[None]:
    """Whole tables of bad credentials come from this one address; the tests of the pause turn it on again."""
    with patch.object(failed_logins, "DELAY", timedelta(0)):
        yield
