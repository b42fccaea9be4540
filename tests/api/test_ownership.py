"""Who may see and change which job (contract §5.4), as the isolation matrix of security.md §7 has it."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest

from api.minting import admin_token, claims, key_token, part, signed
from api.refusals import assert_refused
from api.world import EXPIRED_KEY, INACTIVE_KEY, bearer, config_of
from support.gateway import CHAT, KEY, OTHER_KEY, RunningGateway, chat, running
from tidegate.mock_vendor import MockVendor

pytestmark = pytest.mark.anyio

KEYS = "/api/governance/virtual-keys"
# What each route does to an object. A route that is not here fails the suite.
ROUTES: dict[tuple[str, str], str] = {
    ("POST", CHAT): "submit",
    ("GET", f"{CHAT}/{{id}}"): "read",
    ("GET", "/v1/async/jobs"): "list",
    ("GET", "/v1/async/jobs/{id}"): "read",
    ("POST", "/v1/async/jobs/{id}/cancel"): "write",
    ("GET", KEYS): "admin",
    ("POST", KEYS): "admin",
    ("GET", f"{KEYS}/{{id}}"): "admin",
    ("PUT", f"{KEYS}/{{id}}"): "admin",
    ("DELETE", f"{KEYS}/{{id}}"): "admin",
    ("POST", f"{KEYS}/{{id}}/rotate"): "admin",
    ("GET", "/metrics"): "admin",
    ("GET", "/health"): "open",
    ("GET", "/healthz"): "open",
    ("GET", "/readyz"): "open",
    ("GET", "/openapi.json"): "open",
    ("GET", "/docs"): "open",
    ("GET", "/docs/rapidoc.js"): "open",
}
ON_JOBS = [route for route, kind in ROUTES.items() if kind in {"read", "write"}]
GUARDED = [route for route, kind in ROUTES.items() if kind != "open"]
ADMIN_ONLY = [route for route, kind in ROUTES.items() if kind == "admin"]


def route_name(route: tuple[str, str]) -> str:
    return " ".join(route)


# Callers on a job of key A, where a credential is needed: what they get, and what a list shows them.
CALLERS: dict[str, tuple[Mapping[str, str], str, str]] = {
    "key A": (bearer(KEY), "seen", "own"),
    "virtual-key JWT for A": (bearer(key_token("key-a")), "seen", "own"),
    "key A with filler beside it": (bearer(KEY) | {"x-api-key": "placeholder"}, "seen", "own"),
    "key B": (bearer(OTHER_KEY), "job_not_found", "none"),
    "virtual-key JWT for B": (bearer(key_token("key-b")), "job_not_found", "none"),
    "admin JWT": (bearer(admin_token()), "seen", "all"),
    "expired key": (bearer(EXPIRED_KEY), "virtual_key_expired", "virtual_key_expired"),
    "expired JWT for A": (
        bearer(signed(claims(virtual_key="key-a", exp=time.time() - 60))),
        "token_expired",
        "token_expired",
    ),
    "JWT for A with a wrong audience": (
        bearer(key_token("key-a", aud="elsewhere")),
        "invalid_token",
        "invalid_token",
    ),
    "unsigned JWT for A": (
        bearer(f"{part({'alg': 'none'})}.{part(claims(virtual_key='key-a'))}."),
        "invalid_token",
        "invalid_token",
    ),
    "inactive key": (bearer(INACTIVE_KEY), "virtual_key_blocked", "virtual_key_blocked"),
    "nobody": ({}, "virtual_key_required", "virtual_key_required"),
    "broken key beside key A": (
        bearer(KEY) | {"x-bf-vk": "sk-bf-broken"},
        "virtual_key_not_found",
        "virtual_key_not_found",
    ),
    "broken JWT beside key A": (
        bearer("e30.e30.x") | {"x-bf-vk": KEY},
        "invalid_token",
        "invalid_token",
    ),
    "key B beside key A": (
        bearer(KEY) | {"x-bf-vk": OTHER_KEY},
        "conflicting_credentials",
        "conflicting_credentials",
    ),
}
WHO = pytest.mark.parametrize(("headers", "on_job", "in_list"), CALLERS.values(), ids=list(CALLERS))
ON_WHAT = pytest.mark.parametrize("route", ON_JOBS, ids=route_name)


async def call(
    gateway: RunningGateway, route: tuple[str, str], target: str, headers: Mapping[str, str]
) -> httpx2.Response:
    method, path = route
    return await gateway.client.request(method, path.replace("{id}", target), headers=headers)


async def test_7_every_route_is_in_the_matrix(gateway: RunningGateway) -> None:
    router = gateway.gateway.app
    tables = (router._exact, router._last, router._last_but_one)
    found = {
        (route.method, route.path)
        for table in tables
        for methods in table.values()
        for route in methods.values()
    }

    assert found == set(ROUTES)


@WHO
@ON_WHAT
async def test_54_a_job_of_key_a(
    gateway: RunningGateway, route: tuple[str, str], headers: Mapping[str, str], on_job: str, in_list: str
) -> None:
    job_id = await gateway.accepted(chat("openai/held"))

    response = await call(gateway, route, job_id, headers)

    if on_job == "seen":
        assert response.status_code in {200, 202}
        assert response.json()["id"] == job_id
    else:
        assert_refused(response, on_job)
        # A refused cancel has changed nothing.
        assert (await gateway.poll(job_id)).status_code == 202


@ON_WHAT
async def test_54_what_is_not_visible_looks_as_if_it_never_was(
    gateway: RunningGateway, route: tuple[str, str]
) -> None:
    foreign = await gateway.accepted(chat("openai/held"))
    same_id = bearer(OTHER_KEY) | {"x-request-id": "same"}

    bodies = {
        (await call(gateway, route, target, same_id)).content
        for target in (foreign, "01890a5d-ac96-774b-bcce-b302099a8057", "malformed", "%41")
    }

    assert len(bodies) == 1


@WHO
async def test_54_lists(
    gateway: RunningGateway, headers: Mapping[str, str], on_job: str, in_list: str
) -> None:
    by_a = await gateway.accepted()
    by_b = await gateway.accepted(key=OTHER_KEY)

    response = await gateway.client.get("/v1/async/jobs?limit=200", headers=headers)

    if in_list not in {"own", "all", "none"}:
        assert_refused(response, in_list)
        return
    listed = {entry["id"] for entry in response.json()["data"]}
    assert (by_a in listed) is (in_list in {"own", "all"})
    assert (by_b in listed) is (in_list in {"none", "all"})


@pytest.mark.parametrize("route", ADMIN_ONLY, ids=route_name)
@pytest.mark.parametrize(
    ("headers", "code"),
    [
        pytest.param(bearer(KEY), "admin_required", id="key"),
        pytest.param(bearer(key_token()), "admin_required", id="virtual-key JWT"),
        pytest.param({}, "virtual_key_required", id="nobody"),
    ],
)
async def test_7_admin_routes_are_for_admins(
    gateway: RunningGateway, route: tuple[str, str], headers: Mapping[str, str], code: str
) -> None:
    assert_refused(await call(gateway, route, "key-b", headers), code)


@pytest.mark.parametrize("route", ADMIN_ONLY, ids=route_name)
async def test_7_an_admin_passes_the_guard_of_every_route(
    gateway: RunningGateway, route: tuple[str, str]
) -> None:
    response = await call(gateway, route, "no-such-key", bearer(admin_token()))

    assert response.status_code not in {401, 403}


@pytest.mark.parametrize("route", GUARDED, ids=route_name)
async def test_7_nobody_enters_a_guarded_route(gateway: RunningGateway, route: tuple[str, str]) -> None:
    assert_refused(await call(gateway, route, "x", {}), "virtual_key_required")


@pytest.mark.parametrize("route", [route for route, kind in ROUTES.items() if kind == "open"], ids=route_name)
@pytest.mark.parametrize("headers", [{}, bearer("broken"), bearer(INACTIVE_KEY)], ids=str)
async def test_7_open_routes_ask_for_nothing(
    gateway: RunningGateway, route: tuple[str, str], headers: Mapping[str, str]
) -> None:
    assert (await call(gateway, route, "", headers)).status_code == 200


# Where anybody may call.
OPEN: dict[str, tuple[Mapping[str, str], str, str]] = {
    "nobody": ({}, "job_not_found", "seen"),
    "filler": (bearer("filler"), "job_not_found", "seen"),
    "key A": (bearer(KEY), "seen", "seen"),
    "key B": (bearer(OTHER_KEY), "job_not_found", "seen"),
    "admin": (bearer(admin_token()), "seen", "seen"),
    "inactive key": (bearer(INACTIVE_KEY), "virtual_key_blocked", "virtual_key_blocked"),
    "broken key": (bearer("sk-bf-x"), "virtual_key_not_found", "virtual_key_not_found"),
    "broken JWT": (bearer("e30.x"), "invalid_token", "invalid_token"),
}


@pytest.mark.parametrize(("headers", "on_keys_job", "on_anonymous_job"), OPEN.values(), ids=list(OPEN))
@ON_WHAT
async def test_54_anonymous_jobs_are_guarded_by_their_id(
    open_gateway: RunningGateway,
    route: tuple[str, str],
    headers: Mapping[str, str],
    on_keys_job: str,
    on_anonymous_job: str,
) -> None:
    of_key = await open_gateway.accepted(chat("openai/held"))
    anonymous = (await open_gateway.client.post(CHAT, json=chat("openai/held"))).json()["id"]

    for job_id, expected in ((of_key, on_keys_job), (anonymous, on_anonymous_job)):
        response = await call(open_gateway, route, job_id, headers)
        if expected == "seen":
            assert response.json()["id"] == job_id
        else:
            assert_refused(response, expected)


async def test_54_anonymous_jobs_are_listed_for_admins_only(open_gateway: RunningGateway) -> None:
    anonymous = (await open_gateway.client.post(CHAT, json=chat())).json()["id"]

    async def listed(headers: Mapping[str, str]) -> set[str]:
        page = await open_gateway.client.get("/v1/async/jobs?limit=200", headers=headers)
        return {entry["id"] for entry in page.json()["data"]}

    assert anonymous in await listed(bearer(admin_token()))
    assert anonymous not in await listed(bearer(KEY))
    nobody = await open_gateway.client.get("/v1/async/jobs")
    assert_refused(nobody, "virtual_key_required")


async def test_54_anonymous_jobs_stay_readable_when_auth_is_turned_on(
    vendor: MockVendor, tmp_path: Path
) -> None:
    config = config_of(tmp_path, vendor)
    async with running(tmp_path, config | {"auth": config["auth"] | {"required": False}}) as gateway:
        job_id = (await gateway.client.post(CHAT, json=chat(), headers={"prefer": "wait=20"})).json()["id"]

    async with running(tmp_path, config) as gateway:
        assert (await gateway.poll(job_id, key=OTHER_KEY)).json()["id"] == job_id
        assert (await gateway.poll(job_id, key=admin_token())).json()["id"] == job_id
        assert_refused(await gateway.client.get(f"{CHAT}/{job_id}"), "virtual_key_required")


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
