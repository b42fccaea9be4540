"""F6: the wall clock of a running gateway jumps, by an hour or a day, in either direction."""

import asyncio
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from support.gateway import KEY, gateway_with_vendor
from tidegate.clock import SystemClock

pytestmark = pytest.mark.anyio

STEPS = [timedelta(hours=1), timedelta(hours=-1), timedelta(days=1), timedelta(days=-1)]


class SteppedClock:
    """The real wall clock, moved by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.by = timedelta(0)
        real = SystemClock.now

        def now(clock: SystemClock) -> datetime:
            return real(clock) + self.by

        monkeypatch.setattr(SystemClock, "now", now)


@pytest.mark.parametrize("step", STEPS, ids=str)
async def test_a_job_that_runs_meanwhile_ends_once_and_the_jump_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: timedelta
) -> None:
    clock = SteppedClock(monkeypatch)
    script = {"rules": [{"model": "echo", "latency": 0.3}]}
    async with gateway_with_vendor(tmp_path, script, metrics={"public": True}) as (gateway, vendor):
        running = await gateway.accepted(headers={"x-bf-async-timeout": "604800"})
        while vendor.in_flight < 1:
            await asyncio.sleep(0.01)

        clock.by = step

        assert (await gateway.ended(running))["status"] == "completed"
        assert (await gateway.run())["status"] == "completed"
        assert vendor.total == 2
        assert [attempt["end"] for attempt in (await gateway.details(running))["attempts"]] == ["succeeded"]
        page = (await gateway.client.get("/metrics")).text
        assert "tidegate_clock_step_total 1.0\n" in page
        assert "tidegate_worker_losses_total 0.0\n" in page


async def test_a_day_set_back_lets_new_jobs_live_as_long_as_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Store time goes on; a job dated by the wall clock would be past its deadline at once."""
    clock = SteppedClock(monkeypatch)
    async with gateway_with_vendor(tmp_path) as (gateway, _vendor):
        await gateway.run()

        clock.by = timedelta(days=-1)
        late = await gateway.accepted(headers={"x-bf-async-timeout": "60"})

        assert (await gateway.ended(late))["status"] == "completed"
        view = await gateway.details(late)
        assert datetime.fromisoformat(view["deadline_at"]) - datetime.fromisoformat(
            view["created_at"]
        ) == timedelta(seconds=60)


async def test_a_key_that_has_expired_stays_expired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SteppedClock(monkeypatch)
    expiry = (SystemClock().now() + timedelta(hours=2)).isoformat()
    keys = {"virtual_keys": [{"name": "a", "id": "key-a", "value": KEY, "expires_at": expiry}]}
    async with gateway_with_vendor(tmp_path, governance=keys) as (gateway, _vendor):
        assert (await gateway.submit()).status_code == 202
        clock.by = timedelta(hours=3)
        assert (await gateway.submit()).status_code == 401

        clock.by = timedelta(0)

        assert (await gateway.submit()).status_code == 401
