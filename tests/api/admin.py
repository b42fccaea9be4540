"""The administrator of these tests."""

from typing import Any

import httpx2

from api.minting import admin_token
from api.world import bearer
from support.gateway import RunningGateway

KEYS = "/api/governance/virtual-keys"


async def create(gateway: RunningGateway, **members: Any) -> dict[str, Any]:
    response = await gateway.client.post(KEYS, json=members, headers=bearer(admin_token()))
    assert response.status_code == 201, response.text
    made: dict[str, Any] = response.json()["virtual_key"]
    return made


async def update(gateway: RunningGateway, key_id: str, members: Any) -> httpx2.Response:
    return await gateway.client.put(f"{KEYS}/{key_id}", json=members, headers=bearer(admin_token()))


async def read(gateway: RunningGateway, key_id: str) -> dict[str, Any]:
    response = await gateway.client.get(f"{KEYS}/{key_id}", headers=bearer(admin_token()))
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()["virtual_key"]
    return found


async def page(gateway: RunningGateway, query: str = "") -> dict[str, Any]:
    response = await gateway.client.get(f"{KEYS}{query}", headers=bearer(admin_token()))
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found
