"""Virtual keys over HTTP: changed, rotated, deleted (contract §2.5, §5.5)."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from api.admin import KEYS, create, read, update
from api.minting import admin_token
from api.refusals import assert_refused
from api.world import bearer, cancel
from support.gateway import RunningGateway, chat

pytestmark = pytest.mark.anyio


async def test_25_update_changes_only_what_is_sent(gateway: RunningGateway) -> None:
    made = await create(
        gateway,
        name="partial",
        description="old",
        provider_configs=[],
        expires_at="2030-01-31T00:00:00.000Z",
        **{"async": {"weight": 2, "priority_ceiling": 3}},
    )
    before = await read(gateway, made["id"])

    changed = (await update(gateway, made["id"], {"async": {"priority_ceiling": 4}})).json()["virtual_key"]

    assert changed == before | {
        "async": {"weight": 2.0, "priority_ceiling": 4},
        "updated_at": changed["updated_at"],
    }
    assert changed["updated_at"] >= before["updated_at"]
    assert await read(gateway, made["id"]) == changed


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"name": "renamed"}, {"name": "renamed"}),
        ({"description": "new"}, {"description": "new"}),
        ({"description": None}, {"description": ""}),
        ({"is_active": False}, {"is_active": False}),
        ({"expires_at": "2031-01-01T00:00:00Z"}, {"expires_at": "2031-01-01T00:00:00.000Z"}),
        ({"provider_configs": []}, {"provider_configs": []}),
        (
            {"async": {"result_ttl_max": 5}},
            {"async": {"weight": 1.0, "priority_ceiling": 1, "result_ttl_max": 5}},
        ),
        ({}, {}),
        ({"name": None, "is_active": None}, {}),
    ],
    ids=str,
)
async def test_25_each_member_can_be_changed(
    gateway: RunningGateway, members: Any, expected: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    made = await create(gateway, name=f"before {request.node.callspec.id}"[:128])
    before = await read(gateway, made["id"])

    response = await update(gateway, made["id"], members)

    assert response.status_code == 200, response.text
    changed = response.json()["virtual_key"]
    assert changed == before | expected | {"updated_at": changed["updated_at"]}


async def test_25_null_takes_away_what_may_be_absent(gateway: RunningGateway) -> None:
    made = await create(
        gateway,
        name="taken-away",
        expires_at="2030-01-01T00:00:00Z",
        provider_configs=[],
        **{"async": {"result_ttl_max": 5, "weight": 3}},
    )

    response = await update(
        gateway, made["id"], {"expires_at": None, "provider_configs": None, "async": None}
    )

    changed = response.json()["virtual_key"]
    assert changed.keys().isdisjoint({"expires_at", "provider_configs"})
    assert changed["async"] == {"weight": 1.0, "priority_ceiling": 1}


async def test_25_changes_hold_for_the_next_request(gateway: RunningGateway) -> None:
    made = await create(gateway, name="at-once")
    assert (await gateway.submit(key=made["value"])).status_code == 202

    await update(gateway, made["id"], {"provider_configs": []})

    assert_refused(await gateway.submit(key=made["value"]), "provider_blocked")


async def test_25_an_expiry_in_the_past_expires_the_key(gateway: RunningGateway) -> None:
    made = await create(gateway, name="short-lived")
    past = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()

    await update(gateway, made["id"], {"expires_at": past})

    assert_refused(await gateway.submit(key=made["value"]), "virtual_key_expired")


async def test_25_rotate_gives_a_new_secret_and_keeps_the_rest(gateway: RunningGateway) -> None:
    made = await create(gateway, name="rotated", **{"async": {"weight": 2}})
    job_id = await gateway.accepted(key=made["value"])

    response = await gateway.client.post(f"{KEYS}/{made['id']}/rotate", headers=bearer(admin_token()))

    rotated = response.json()["virtual_key"]
    assert response.status_code == 200
    assert rotated["value"].startswith("sk-bf-")
    assert rotated["value"] != made["value"]
    changing = {"value", "value_hint", "updated_at"}
    assert {k: v for k, v in rotated.items() if k not in changing} == {
        k: v for k, v in made.items() if k not in changing
    }
    assert (await gateway.poll(job_id, key=rotated["value"])).json()["id"] == job_id
    assert_refused(await gateway.poll(job_id, key=made["value"]), "virtual_key_not_found")


class TestDelete:
    async def test_25_the_key_is_gone_and_its_results_stay_for_admins(self, gateway: RunningGateway) -> None:
        made = await create(gateway, name="deleted")
        job_id = await gateway.accepted(key=made["value"])
        await gateway.ended(job_id, key=made["value"])

        response = await gateway.client.delete(f"{KEYS}/{made['id']}", headers=bearer(admin_token()))

        assert response.status_code == 200
        assert response.json()["virtual_key"]["id"] == made["id"]
        assert "value" not in response.json()["virtual_key"]
        assert_refused(await gateway.submit(key=made["value"]), "virtual_key_not_found")
        kept = await gateway.details(job_id, key=admin_token())
        assert kept["status"] == "completed"
        assert kept["virtual_key"] == {"id": made["id"]}

    async def test_25_a_second_time_it_is_404(self, gateway: RunningGateway) -> None:
        made = await create(gateway, name="deleted-twice")
        path = f"{KEYS}/{made['id']}"
        await gateway.client.delete(path, headers=bearer(admin_token()))

        for method, place in (("DELETE", path), ("GET", path), ("POST", f"{path}/rotate")):
            response = await gateway.client.request(method, place, headers=bearer(admin_token()))
            assert_refused(response, "not_found", "no such virtual key")
        assert_refused(await update(gateway, made["id"], {"name": "x"}), "not_found")

    @pytest.mark.parametrize("choice", ["", "?cancel_jobs=false"])
    async def test_55_running_calls_finish(self, gateway: RunningGateway, choice: str) -> None:
        made = await create(gateway, name=f"finishing {choice}")
        job_id = await gateway.accepted(chat("openai/held"), key=made["value"])

        await gateway.client.delete(f"{KEYS}/{made['id']}{choice}", headers=bearer(admin_token()))

        assert (await gateway.poll(job_id, key=admin_token())).status_code == 202
        await cancel(gateway, job_id, admin_token())

    async def test_55_cancel_jobs_cancels_all_unfinished_ones(self, gateway: RunningGateway) -> None:
        made = await create(gateway, name="cancelling")
        done = (await gateway.submit(key=made["value"], headers={"prefer": "wait=20"})).json()["id"]
        held = [await gateway.accepted(chat("openai/held"), key=made["value"]) for _ in range(3)]

        await gateway.client.delete(f"{KEYS}/{made['id']}?cancel_jobs=true", headers=bearer(admin_token()))

        for job_id in held:
            assert (await gateway.details(job_id, key=admin_token()))["outcome"] == "cancelled"
        assert (await gateway.details(done, key=admin_token()))["outcome"] == "succeeded"

    @pytest.mark.parametrize(
        "query", ["cancel_jobs=yes", "cancel_jobs=", "cancel_jobs=true&cancel_jobs=true", "x=1"]
    )
    async def test_82_a_malformed_query_is_refused_and_deletes_nothing(
        self, gateway: RunningGateway, query: str
    ) -> None:
        made = await create(gateway, name=f"kept {query}")

        response = await gateway.client.delete(f"{KEYS}/{made['id']}?{query}", headers=bearer(admin_token()))

        assert_refused(response, "invalid_query_parameter")
        assert (await read(gateway, made["id"]))["id"] == made["id"]
