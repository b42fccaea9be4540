"""Whose a job is when keys change (contract §5.4). Who may see it by what: ``tests/security/test_isolation.py``."""

from collections.abc import Mapping
from typing import Any

import pytest

from api.admin import KEYS
from api.minting import admin_token
from api.refusals import assert_refused
from api.world import bearer
from support.gateway import CHAT, KEY, RunningGateway, chat

pytestmark = pytest.mark.anyio


async def test_54_anonymous_jobs_are_listed_for_admins_only(open_gateway: RunningGateway) -> None:
    anonymous = (await open_gateway.client.post(CHAT, json=chat())).json()["id"]

    async def listed(headers: Mapping[str, str]) -> set[str]:
        page = await open_gateway.client.get("/v1/async/jobs?limit=200", headers=headers)
        return {entry["id"] for entry in page.json()["data"]}

    assert anonymous in await listed(bearer(admin_token()))
    assert anonymous not in await listed(bearer(KEY))
    nobody = await open_gateway.client.get("/v1/async/jobs")
    assert_refused(nobody, "virtual_key_required")


async def test_54_the_owner_is_the_id_of_the_key(gateway: RunningGateway) -> None:
    """After rotation and renaming the jobs stay readable; the old secret is worth nothing."""
    admin = bearer(admin_token())
    made = (await gateway.client.post(KEYS, json={"name": "mover"}, headers=admin)).json()["virtual_key"]
    job_id = await gateway.accepted(key=made["value"])

    await gateway.client.put(f"{KEYS}/{made['id']}", json={"name": "moved"}, headers=admin)
    rotated = await gateway.client.post(f"{KEYS}/{made['id']}/rotate", headers=admin)
    new_secret = rotated.json()["virtual_key"]["value"]

    assert (await gateway.poll(job_id, key=new_secret)).json()["id"] == job_id
    assert_refused(await gateway.poll(job_id, key=made["value"]), "virtual_key_not_found")


async def test_54_a_new_key_of_the_same_name_sees_nothing_of_the_old_one(gateway: RunningGateway) -> None:
    admin = bearer(admin_token())

    async def make() -> dict[str, Any]:
        response = await gateway.client.post(KEYS, json={"name": "phoenix"}, headers=admin)
        made: dict[str, Any] = response.json()["virtual_key"]
        return made

    first = await make()
    job_id = await gateway.accepted(key=first["value"])
    await gateway.client.delete(f"{KEYS}/{first['id']}", headers=admin)
    second = await make()

    assert_refused(await gateway.poll(job_id, key=first["value"]), "virtual_key_not_found")
    assert_refused(await gateway.poll(job_id, key=second["value"]), "job_not_found")
    assert (await gateway.poll(job_id, key=admin_token())).json()["id"] == job_id


async def test_54_jobs_of_admins_belong_to_all_admins(gateway: RunningGateway) -> None:
    job_id = await gateway.accepted(key=admin_token("one"))

    assert (await gateway.poll(job_id, key=admin_token("two"))).json()["id"] == job_id
    assert_refused(await gateway.poll(job_id, key=KEY), "job_not_found")
