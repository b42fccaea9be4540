"""Health, readiness, metrics (contract §2.4)."""

from datetime import timedelta
from pathlib import Path

import pytest

from api.minting import admin_token
from api.refusals import assert_common_headers, assert_refused
from api.world import SCRIPT, bearer, config_of
from support.fakes import FakeClock
from support.gateway import KEY, RunningGateway, chat, running
from tidegate.api.health import HealthChecks
from tidegate.domain.errors import StorageFull, StorageUnavailable
from tidegate.mock_vendor import MockVendor

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/health", '{"status":"ok","components":{"db_pings":"ok"}}'),
        ("/healthz", '{"status":"ok"}'),
        ("/readyz", '{"status":"ready"}'),
    ],
)
async def test_24_all_is_well(gateway: RunningGateway, path: str, body: str) -> None:
    response = await gateway.client.get(path)
    head = await gateway.client.head(path)

    assert (response.status_code, response.text) == (200, body)
    assert response.headers["content-type"] == "application/json"
    assert_common_headers(response)
    assert (head.status_code, head.text) == (200, "")
    assert head.headers["content-length"] == str(len(body))


@pytest.mark.parametrize("trouble", [StorageUnavailable, StorageFull])
async def test_24_when_no_write_is_possible(
    vendor: MockVendor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: type[Exception]
) -> None:
    async def fail() -> None:
        raise trouble

    async with running(tmp_path, config_of(tmp_path, vendor)) as gateway:
        monkeypatch.setattr(gateway.gateway.store.jobs, "check", fail)

        health = await gateway.client.get("/health")
        ready = await gateway.client.get("/readyz")
        alive = await gateway.client.get("/healthz")

    assert_refused(health, "storage_unavailable")
    assert_refused(ready, "storage_unavailable")
    assert alive.status_code == 200


async def test_24_while_draining_it_is_alive_and_not_ready(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway.gateway.drain, "is_on", True)

    assert_refused(await gateway.client.get("/readyz"), "shutting_down", "the server is shutting down")
    assert (await gateway.client.get("/healthz")).status_code == 200
    assert (await gateway.client.get("/health")).status_code == 200


async def test_24_liveness_touches_no_store(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway.gateway.store, "jobs", None)

    assert (await gateway.client.get("/healthz")).status_code == 200


class CountingStore:
    def __init__(self) -> None:
        self.checks = 0

    async def check(self) -> None:
        self.checks += 1


async def test_24_probes_write_at_most_once_a_second(gateway: RunningGateway) -> None:
    store, clock = CountingStore(), FakeClock()
    checks = HealthChecks(store, clock, is_draining=lambda: False)  # type: ignore[arg-type]

    for step in (0, 0, 0.9, 0.2):
        clock.advance(timedelta(seconds=step))
        assert await checks._probe() is None

    assert store.checks == 2


async def test_24_no_health_route_calls_a_vendor(gateway: RunningGateway, vendor: MockVendor) -> None:
    before = vendor.total

    for path in ("/health", "/healthz", "/readyz"):
        await gateway.client.get(path)

    assert vendor.total == before


@pytest.mark.parametrize("path", ["/health", "/healthz", "/readyz", "/openapi.json"])
async def test_24_probes_need_no_credential_and_none_hurts(gateway: RunningGateway, path: str) -> None:
    assert (await gateway.client.get(path, headers=bearer("junk"))).status_code == 200


class TestMetrics:
    async def test_24_admins_read_them(self, gateway: RunningGateway) -> None:
        await gateway.run()

        response = await gateway.client.get("/metrics", headers=bearer(admin_token()))

        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert "# TYPE tidegate_" in response.text
        assert_common_headers(response)

    async def test_24_nobody_else_does(self, gateway: RunningGateway) -> None:
        assert_refused(await gateway.client.get("/metrics"), "virtual_key_required")
        assert_refused(await gateway.client.get("/metrics", headers=bearer(KEY)), "admin_required")

    async def test_24_a_scraper_has_a_token_of_its_own(self, vendor: MockVendor, tmp_path: Path) -> None:
        config = config_of(tmp_path, vendor) | {"metrics": {"token": "scrape-me-please"}}
        async with running(tmp_path, config) as gateway:
            right = await gateway.client.get("/metrics", headers=bearer("scrape-me-please"))
            wrong = await gateway.client.get("/metrics", headers=bearer("scrape-me"))
            admin = await gateway.client.get("/metrics", headers=bearer(admin_token()))
            elsewhere = await gateway.client.get("/v1/async/jobs", headers=bearer("scrape-me-please"))

        assert right.status_code == admin.status_code == 200
        assert_refused(wrong, "invalid_credentials")
        assert_refused(elsewhere, "invalid_credentials")

    async def test_24_they_can_be_public(self, vendor: MockVendor, tmp_path: Path) -> None:
        config = config_of(tmp_path, vendor) | {"metrics": {"public": True}}
        async with running(tmp_path, config) as gateway:
            assert (await gateway.client.get("/metrics")).status_code == 200

    async def test_24_labels_come_from_configured_names_only(
        self, gateway: RunningGateway, vendor: MockVendor
    ) -> None:
        """Neither models, keys, ids nor paths that a caller made up."""
        vendor.set_script(SCRIPT)
        invented = [
            (await gateway.run(chat(f"openai/invented-{number}", user="invented-user")))["id"]
            for number in range(5)
        ]
        await gateway.client.get("/invented-path")
        await gateway.client.get("/invented-path", headers={"x-request-id": "invented-id"})

        text = (await gateway.client.get("/metrics", headers=bearer(admin_token()))).text

        assert "invented" not in text
        assert not any(job_id in text for job_id in invented)
        assert KEY not in text
        assert "key-a" not in text
