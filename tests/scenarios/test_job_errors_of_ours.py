"""The rows of the table of job errors (contract §8.4) that no vendor causes: rights, time, cancel, losses, defects."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from support.gateway import RunningGateway, chat, provider
from support.scenes import (
    ONE_AT_A_TIME,
    PATIENCE,
    calls_of,
    cancel,
    gateway_on,
    held_up,
    read_error,
    until,
)
from support.stores import SqliteUnderTest
from tidegate.api.views import rich_view
from tidegate.domain.access import AllOwners, KeyId, ProviderGrant, owner_of_key
from tidegate.domain.jobs import JobId, JobRef
from tidegate.mock_vendor import MockVendor
from tidegate.services.manage_keys import KeyChanges

pytestmark = pytest.mark.anyio

TIMEOUT: Final = "timeout_error"


async def failed(gateway: RunningGateway, job: str) -> dict[str, Any]:
    await gateway.ended(job)
    return read_error(await gateway.details(job))


def error(status: int, kind: str, code: str, message: str, outcome: str, **changes: Any) -> dict[str, Any]:
    return {
        "status": "failed",
        "status_code": status,
        "bf": True,
        "type": kind,
        "code": code,
        "message": message,
        "outcome": outcome,
        "calls": [],
    } | changes


@pytest.fixture
async def vendor() -> AsyncIterator[MockVendor]:
    """Its model ``hang`` never answers."""
    async with MockVendor.serve(script={"rules": [{"model": "hang", "hang": "before_headers"}]}) as served:
        yield served


async def test_a_job_that_is_not_started_in_time(tmp_path: Path, vendor: MockVendor) -> None:
    async with gateway_on(tmp_path, vendor, {"openai": provider(vendor.url, **ONE_AT_A_TIME)}) as gateway:
        in_front = await held_up(gateway, vendor)

        job = await gateway.accepted(chat(), {"x-bf-async-timeout": "1"})

        assert await failed(gateway, job) == error(
            504,
            TIMEOUT,
            "queue_timeout",
            "job was not started in time; no provider was called",
            "queue_timeout",
        )
        await cancel(gateway, in_front)


async def test_a_cancelled_job(tmp_path: Path, vendor: MockVendor) -> None:
    async with gateway_on(tmp_path, vendor) as gateway:
        job = await held_up(gateway, vendor)

        await cancel(gateway, job)
        await until(lambda: vendor.in_flight == 0)

        async with asyncio.timeout(PATIENCE):
            while not calls_of(await gateway.details(job)):
                await asyncio.sleep(0.005)
        assert await failed(gateway, job) == error(
            499,
            "cancelled_error",
            "request_cancelled",
            "job was cancelled",
            "cancelled",
            calls=[(None, None, "unknown")],
        )


NOBODY: Final = {"grants": ()}
OTHER_MODEL: Final = {"grants": (ProviderGrant("openai", ("other",)),)}
VANISHED: Final[Mapping[str, tuple[dict[str, Any] | None, dict[str, Any]]]] = {
    "deleted": (
        None,
        error(401, "authentication_error", "virtual_key_not_found", "virtual key not found", "refused"),
    ),
    "expired": (
        {"expires_at": datetime(2026, 1, 1, tzinfo=UTC)},
        error(401, "authentication_error", "virtual_key_expired", "virtual key has expired", "refused"),
    ),
    "inactive": (
        {"is_active": False},
        error(403, "permission_error", "virtual_key_blocked", "virtual key is inactive", "refused"),
    ),
    "provider no longer allowed": (
        NOBODY,
        error(
            403,
            "permission_error",
            "provider_blocked",
            "provider 'openai' is not allowed for this virtual key",
            "refused",
            calls=[(None, "provider_blocked", None)],
        ),
    ),
    "model no longer allowed": (
        OTHER_MODEL,
        error(
            403,
            "permission_error",
            "model_blocked",
            "model 'echo' is not allowed for this virtual key",
            "refused",
            calls=[(None, "model_blocked", None)],
        ),
    ),
}


@pytest.mark.parametrize(("changes", "row"), VANISHED.values(), ids=VANISHED)
async def test_a_virtual_key_that_lost_its_rights_since_the_submit(
    changes: dict[str, Any] | None, row: dict[str, Any], tmp_path: Path, vendor: MockVendor
) -> None:
    async with gateway_on(tmp_path, vendor, {"openai": provider(vendor.url, **ONE_AT_A_TIME)}) as gateway:
        manage = gateway.gateway.keys
        made = await manage.create(KeyChanges(name="short-lived"), "test")
        in_front = await held_up(gateway, vendor)
        job = await gateway.accepted(chat(), key=made.secret.reveal())

        if changes is None:
            await manage.delete(made.key.id, "test", cancels_jobs=False)
        else:
            await manage.update(made.key.id, KeyChanges(**changes), "test")
        await cancel(gateway, in_front)

        view = await as_admin(gateway, job)
        assert read_error(view) == row | {"bf": False}
        assert [call.model for call in vendor.calls()] == ["hang"]


async def as_admin(gateway: RunningGateway, job: str) -> dict[str, Any]:
    """The view of a job that has ended, for those who see every job."""
    jobs = gateway.gateway.store.jobs
    async with asyncio.timeout(PATIENCE):
        while True:
            found = await jobs.inspect(AllOwners(), JobRef(JobId(job)))
            assert found is not None
            if found.state.status.is_terminal:
                break
            await asyncio.sleep(0.005)
    view = rich_view(found, gateway.gateway.clock.now(), for_admin=True, key_name=None, with_result=True)
    decoded = msgspec.json.decode(msgspec.json.encode(view))
    assert isinstance(decoded, dict)
    return decoded


async def test_a_key_that_was_disabled_since_the_submit(tmp_path: Path, vendor: MockVendor) -> None:
    off = {"keys": [{"name": "main", "value": "sk-vendor-main", "enabled": False}]}
    async with gateway_on(tmp_path, vendor, {"openai": provider(vendor.url, **ONE_AT_A_TIME)}) as gateway:
        in_front = await held_up(gateway, vendor)
        job = await gateway.accepted()
        gateway.gateway.worker._is_draining = True  # the next process is to run it
        await cancel(gateway, in_front)

    async with gateway_on(tmp_path, vendor, {"openai": provider(vendor.url, **off)}) as gateway:
        assert await failed(gateway, job) == error(
            503,
            "overloaded_error",
            "no_eligible_keys",
            'no usable key for model "echo" at provider "openai"',
            "provider_error",
            bf=False,
            calls=[(None, "no_eligible_keys", None)],
        )


async def test_a_job_under_which_too_many_workers_died(tmp_path: Path, vendor: MockVendor) -> None:
    store = SqliteUnderTest(tmp_path / "tidegate.db")
    store.open()
    store.clock.advance(datetime.now(UTC) - store.clock.now())
    job = await store.accept(owner=owner_of_key(KeyId("key-a")), request_id="r")
    for _ in range(3):
        await store.claim_one()
        store.crash_and_restart()
    await store.store.close()

    async with gateway_on(tmp_path, vendor) as gateway:
        assert await failed(gateway, job) == error(
            500,
            "api_error",
            "worker_lost",
            "the worker running this job was lost; the provider may have been called",
            "worker_lost",
        )


async def test_a_defect(tmp_path: Path, vendor: MockVendor) -> None:
    async with gateway_on(tmp_path, vendor) as gateway:
        store = SqliteUnderTest(tmp_path / "unused.db")
        store.clock.advance(datetime.now(UTC) - store.clock.now())
        broken = store.new_job(owner=owner_of_key(KeyId("key-a")), body=b'{"messages": 5}')
        await gateway.gateway.store.jobs.accept(broken)

        found = await failed(gateway, broken.id)

        assert found == error(500, "api_error", "internal_error", "internal error", "internal_error")
        assert (await gateway.run())["status"] == "completed"
