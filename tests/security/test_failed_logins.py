"""Guessing credentials is slow, whoever shows a good one is not slowed down, and both cost little (security.md T9)."""

import asyncio
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final

import httpx2
import pytest

from api.minting import admin_token
from api.refusals import assert_refused
from api.world import INACTIVE_KEY, bearer
from support.fakes import FakeClock
from support.gateway import CHAT, KEY, NO_TIME, RunningGateway, chat, configuration
from support.processes import gateway_process
from tidegate.api import failed_logins
from tidegate.api.failed_logins import SLOWED_FROM, FailedLogins

pytestmark = pytest.mark.anyio

PAUSE: Final = timedelta(seconds=1)
FOREVER: Final = timedelta(hours=1)
WRONG: Final = bearer("sk-bf-" + "x" * 43)
COUNTER: Final = "tidegate_auth_failures_slowed_total"


@pytest.fixture
def paused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pause is on, as in a gateway that runs."""
    monkeypatch.setattr(failed_logins, "DELAY", PAUSE)


class Counted:
    """A counter with a clock of its own, and what it reported."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.told: list[tuple[str, int]] = []
        self.logins = FailedLogins(self.clock, lambda address, times: self.told.append((address, times)))

    async def fail(self, times: int, address: str = "192.0.2.1") -> int:
        """How many of them were answered late."""
        before = len(self.clock.slept)
        for _ in range(times):
            refusal = asyncio.create_task(self.logins.refused(address))
            await asyncio.sleep(0)
            self.clock.advance(self.clock.slept[-1] if not refusal.done() else timedelta(0))
            await refusal
        return len(self.clock.slept) - before


async def test_the_twentieth_failure_of_a_minute_waits_a_second(paused: None) -> None:
    counted = Counted()

    assert await counted.fail(SLOWED_FROM - 1) == 0
    assert await counted.fail(3) == 3
    assert SLOWED_FROM == 20
    assert counted.clock.slept == [PAUSE] * 3
    assert counted.told == [("192.0.2.1", 1), ("192.0.2.1", 2), ("192.0.2.1", 3)]


async def test_a_new_minute_begins_anew(paused: None) -> None:
    counted = Counted()
    await counted.fail(SLOWED_FROM)

    counted.clock.advance(timedelta(minutes=1))

    assert await counted.fail(SLOWED_FROM - 1) == 0


async def test_addresses_are_counted_apart(paused: None) -> None:
    counted = Counted()
    await counted.fail(SLOWED_FROM)

    assert await counted.fail(SLOWED_FROM - 1, "192.0.2.2") == 0


async def test_a_flood_of_addresses_is_one_attacker_and_bounded_in_memory(paused: None) -> None:
    counted = Counted()
    for number in range(10_000):
        await counted.logins.refused(f"2001:db8::{number:x}")

    slowed = sum([await counted.fail(1, f"2001:db8:1::{number:x}") for number in range(50)])

    assert slowed == 50 - (SLOWED_FROM - 1)
    assert len(counted.logins._counts) <= 10_001


@pytest.fixture
def endless(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whoever is slowed down is not answered within a test."""
    with monkeypatch.context() as patch:
        patch.setattr(failed_logins, "DELAY", FOREVER)
        yield


async def test_a_good_credential_of_the_same_address_is_answered_at_once(
    gateway: RunningGateway, endless: None
) -> None:
    guesses = [
        asyncio.create_task(gateway.client.get("/v1/async/jobs", headers=WRONG))
        for _ in range(SLOWED_FROM + 5)
    ]
    done, waiting = await asyncio.wait(guesses, timeout=NO_TIME, return_when=asyncio.FIRST_COMPLETED)
    while len(waiting) > 6:
        done, waiting = await asyncio.wait(waiting, timeout=NO_TIME, return_when=asyncio.FIRST_COMPLETED)
        assert done

    submitted = await gateway.submit(chat("moody/echo"), {"prefer": "wait=20"})
    listed = await gateway.client.get("/v1/async/jobs", headers=bearer(admin_token()))
    blocked = await gateway.client.get(f"{CHAT}/x", headers=bearer(INACTIVE_KEY))
    nobody = await gateway.client.get(f"{CHAT}/x")
    metrics = (await gateway.client.get("/metrics", headers=bearer(admin_token()))).text

    assert (submitted.status_code, listed.status_code) == (200, 200)
    # A key that is switched off was not guessed, and sending nothing is no guess.
    assert_refused(blocked, "virtual_key_blocked")
    assert_refused(nobody, "virtual_key_required")
    assert f"{COUNTER} {len(waiting)}.0" in metrics
    assert not any(guess.done() for guess in waiting)
    for guess in waiting:
        guess.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_the_gateway_as_shipped_slows_guessing_down(tmp_path: Path) -> None:
    """A process of its own, nothing patched: the twentieth answer takes a second, one line says so."""
    with gateway_process(tmp_path, configuration(tmp_path, "http://127.0.0.1:1")) as process:
        await process.start()
        url = f"http://127.0.0.1:{process.port}"
        async with httpx2.AsyncClient(base_url=url, timeout=NO_TIME, trust_env=False) as client:
            for _ in range(SLOWED_FROM - 1):
                assert_refused(await client.get(f"{CHAT}/x", headers=WRONG), "virtual_key_not_found")
            asked_at = time.monotonic()
            late = await client.get(f"{CHAT}/x", headers=WRONG)
            took = time.monotonic() - asked_at
            metrics = (await client.get("/metrics", headers=bearer(admin_token()))).text

    assert_refused(late, "virtual_key_not_found")
    assert took >= 0.99
    assert f"{COUNTER} 1.0" in metrics
    assert process.log.read_text().count("auth.guessing") == 1
    assert KEY not in process.log.read_text()
