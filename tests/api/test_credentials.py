"""Where a credential is read and what comes of it (contract §5.1, §5.2), with and without ``auth.required``."""

import base64
import time
from typing import Any

import httpx2
import pytest

from api.minting import admin_token, claims, key_token, part, signed
from api.refusals import assert_refused
from api.world import EXPIRED_KEY, IMPORTED_KEY, INACTIVE_KEY, bearer
from support.gateway import CHAT, KEY, OTHER_KEY, RunningGateway, chat

pytestmark = pytest.mark.anyio

UNKNOWN_KEY = "sk-bf-" + "z" * 43
EXPIRED_TOKEN = signed(claims(virtual_key="key-a", exp=time.time() - 60))
UNSIGNED_TOKEN = f"{part({'alg': 'none'})}.{part(claims(role='admin'))}."
Headers = dict[str, str] | list[tuple[str, str]]


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


# What was sent, who that is where a credential is needed, and where none is. A caller or an error code.
ROWS: list[tuple[str, Headers, str, str]] = [
    ("5.1 bearer key", bearer(KEY), "key-a", "key-a"),
    ("5.1 scheme in lower case", {"authorization": f"bearer {KEY}"}, "key-a", "key-a"),
    ("5.1 scheme in upper case", {"authorization": f"BEARER  {KEY}"}, "key-a", "key-a"),
    (
        "5.1 prefix in any case is a key, compared exactly",
        bearer(KEY.upper()),
        "virtual_key_not_found",
        "virtual_key_not_found",
    ),
    ("5.1 bearer virtual-key JWT", bearer(key_token()), "key-a", "key-a"),
    ("5.1 bearer admin JWT", bearer(admin_token()), "admin", "admin"),
    ("5.1 x-bf-vk", {"x-bf-vk": KEY}, "key-a", "key-a"),
    ("5.1 x-bf-vk takes any value", {"x-bf-vk": IMPORTED_KEY}, "key imported", "key imported"),
    ("5.1 x-bf-vk unknown", {"x-bf-vk": "x"}, "virtual_key_not_found", "virtual_key_not_found"),
    ("5.1 x-api-key", {"x-api-key": KEY}, "key-a", "key-a"),
    ("5.1 x-goog-api-key", {"x-goog-api-key": KEY}, "key-a", "key-a"),
    ("5.1 api-key", {"api-key": KEY}, "key-a", "key-a"),
    ("5.1 x-api-key with a placeholder", {"x-api-key": "dummy"}, "virtual_key_required", "anonymous"),
    (
        "5.1 placeholders beside a key",
        bearer(KEY) | {"x-api-key": "dummy", "api-key": "sk-other", "x-goog-api-key": "AIza"},
        "key-a",
        "key-a",
    ),
    (
        "5.1 an imported key is no bearer key",
        bearer("imported-without-prefix"),
        "invalid_credentials",
        "anonymous",
    ),
    ("5.1 Basic", {"authorization": basic("x", KEY)}, "virtual_key_required", "anonymous"),
    ("5.1 cookie", {"cookie": f"x-bf-vk={KEY}"}, "virtual_key_required", "anonymous"),
    ("5.1 provider key", bearer("sk-vendor-main"), "invalid_credentials", "anonymous"),
    (
        "5.1 the same caller several times",
        bearer(KEY) | {"x-bf-vk": KEY, "x-api-key": KEY, "api-key": KEY},
        "key-a",
        "key-a",
    ),
    ("5.1 key and token of one caller", bearer(key_token()) | {"x-bf-vk": KEY}, "key-a", "key-a"),
    (
        "5.1 two keys",
        bearer(KEY) | {"x-bf-vk": OTHER_KEY},
        "conflicting_credentials",
        "conflicting_credentials",
    ),
    (
        "5.1 two Authorization headers",
        [("authorization", f"Bearer {KEY}"), ("authorization", f"Bearer {OTHER_KEY}")],
        "conflicting_credentials",
        "conflicting_credentials",
    ),
    (
        "5.1 key and admin",
        bearer(admin_token()) | {"x-bf-vk": KEY},
        "conflicting_credentials",
        "conflicting_credentials",
    ),
    (
        "5.1 two administrators",
        [
            ("authorization", f"Bearer {admin_token('one')}"),
            ("authorization", f"Bearer {admin_token('two')}"),
        ],
        "conflicting_credentials",
        "conflicting_credentials",
    ),
    (
        "5.1 one administrator twice",
        [("authorization", f"Bearer {admin_token(jti='1')}"), ("authorization", f"Bearer {admin_token()}")],
        "admin",
        "admin",
    ),
    ("5.2 none", {}, "virtual_key_required", "anonymous"),
    ("5.2 empty bearer", {"authorization": "Bearer"}, "virtual_key_required", "anonymous"),
    ("5.2 empty x-bf-vk", {"x-bf-vk": ""}, "virtual_key_required", "anonymous"),
    ("5.2 neither key nor JWT, alone", bearer("hello"), "invalid_credentials", "anonymous"),
    ("5.2 dots alone make no JWT", bearer("a.b.c"), "invalid_credentials", "anonymous"),
    ("5.2 a number is no header", bearer(f"{part(5)}.x.y"), "invalid_credentials", "anonymous"),
    (
        "5.2 neither key nor JWT, beside a key",
        bearer("hello") | {"x-bf-vk": KEY},
        "key-a",
        "key-a",
    ),
    (
        "5.2 neither key nor JWT, beside an unknown key",
        bearer("hello") | {"x-bf-vk": "x"},
        "virtual_key_not_found",
        "virtual_key_not_found",
    ),
    ("5.2 unknown key", bearer(UNKNOWN_KEY), "virtual_key_not_found", "virtual_key_not_found"),
    ("5.2 expired key", bearer(EXPIRED_KEY), "virtual_key_expired", "virtual_key_expired"),
    ("5.2 inactive key", bearer(INACTIVE_KEY), "virtual_key_blocked", "virtual_key_blocked"),
    (
        "5.2 inactive key by token",
        bearer(key_token("key-inactive")),
        "virtual_key_blocked",
        "virtual_key_blocked",
    ),
    (
        "5.2 expired key by token",
        bearer(key_token("key-expired")),
        "virtual_key_expired",
        "virtual_key_expired",
    ),
    (
        "5.2 unknown key by token",
        bearer(key_token("key-gone")),
        "virtual_key_not_found",
        "virtual_key_not_found",
    ),
    (
        "5.2 a broken key beside a good one",
        bearer(KEY) | {"x-api-key": UNKNOWN_KEY},
        "virtual_key_not_found",
        "virtual_key_not_found",
    ),
    (
        "5.2 a broken token beside a good key",
        bearer(UNSIGNED_TOKEN) | {"x-bf-vk": KEY},
        "invalid_token",
        "invalid_token",
    ),
    ("5.2 unsigned JWT", bearer(UNSIGNED_TOKEN), "invalid_token", "invalid_token"),
    ("5.2 a JWT's header is enough", bearer(f"{part({})}.x"), "invalid_token", "invalid_token"),
    ("5.2 expired JWT", bearer(EXPIRED_TOKEN), "token_expired", "token_expired"),
]


@pytest.mark.parametrize(("sent", "who"), [row[1:3] for row in ROWS], ids=[row[0] for row in ROWS])
async def test_52_where_a_credential_is_needed(gateway: RunningGateway, sent: Headers, who: str) -> None:
    await assert_caller(gateway, sent, who)


@pytest.mark.parametrize(("sent", "who"), [(row[1], row[3]) for row in ROWS], ids=[row[0] for row in ROWS])
async def test_52_where_anybody_may_call(open_gateway: RunningGateway, sent: Headers, who: str) -> None:
    await assert_caller(open_gateway, sent, who)


async def assert_caller(gateway: RunningGateway, sent: Headers, who: str) -> None:
    response = await gateway.client.post(CHAT, json=chat(), headers=sent)

    if who in {"admin", "anonymous"} or who.startswith("key"):
        assert response.status_code == 202, response.text
        assert await submitter(gateway, response.json()["id"]) == who
        return
    assert_refused(response, who)
    if response.status_code == 401:
        assert ('error="invalid_token"' in response.headers["www-authenticate"]) is (
            who != "virtual_key_required"
        )


async def submitter(gateway: RunningGateway, job_id: str) -> str:
    """As an administrator sees it."""
    view = (await gateway.client.get(f"/v1/async/jobs/{job_id}", headers=bearer(admin_token()))).json()
    if "virtual_key" in view:
        return str(view["virtual_key"]["id"])
    return "admin" if "actor" in view else "anonymous"


@pytest.mark.parametrize("query", [f"x-bf-vk={KEY}", f"api_key={KEY}", f"access_token={admin_token()}"])
async def test_51_no_credential_is_taken_from_the_query(gateway: RunningGateway, query: str) -> None:
    response = await gateway.client.post(f"{CHAT}?{query}", json=chat())

    assert_refused(response, "virtual_key_required")


@pytest.mark.parametrize(
    ("code", "message", "sent"),
    [
        ("virtual_key_required", "authentication is required: send a virtual key or a JWT", {}),
        ("invalid_credentials", "credential is neither a virtual key nor a JWT", bearer("x")),
        ("virtual_key_not_found", "virtual key not found", bearer(UNKNOWN_KEY)),
        ("virtual_key_expired", "virtual key has expired", bearer(EXPIRED_KEY)),
        ("virtual_key_blocked", "virtual key is inactive", bearer(INACTIVE_KEY)),
        ("invalid_token", "token was rejected", bearer(UNSIGNED_TOKEN)),
        ("token_expired", "token has expired", bearer(EXPIRED_TOKEN)),
        (
            "conflicting_credentials",
            "credentials name different callers",
            bearer(KEY) | {"x-bf-vk": OTHER_KEY},
        ),
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", CHAT),
        ("GET", f"{CHAT}/x"),
        ("GET", "/v1/async/jobs"),
        ("GET", "/v1/async/jobs/x"),
        ("POST", "/v1/async/jobs/x/cancel"),
        ("GET", "/api/governance/virtual-keys"),
        ("POST", "/api/governance/virtual-keys"),
        ("GET", "/metrics"),
    ],
    ids=str,
)
async def test_82_every_guarded_route_refuses_alike(
    gateway: RunningGateway, method: str, path: str, code: str, message: str, sent: dict[str, str]
) -> None:
    response = await gateway.client.request(method, path, headers=sent)

    assert_refused(response, code, message)


async def test_52_no_credential_gets_no_error_word_in_the_challenge(gateway: RunningGateway) -> None:
    nothing = await gateway.client.get("/v1/async/jobs")
    something = await gateway.client.get("/v1/async/jobs", headers=bearer("x"))

    assert nothing.headers["www-authenticate"] == 'Bearer realm="tidegate"'
    assert something.headers["www-authenticate"] == 'Bearer realm="tidegate", error="invalid_token"'


@pytest.mark.parametrize("sent", [bearer(KEY), bearer(key_token())], ids=["key", "virtual-key JWT"])
@pytest.mark.parametrize("mode", ["gateway", "open_gateway"])
async def test_52_a_key_is_no_administrator(
    request: pytest.FixtureRequest, mode: str, sent: dict[str, str]
) -> None:
    gateway: RunningGateway = request.getfixturevalue(mode)

    for path in ("/api/governance/virtual-keys", "/metrics"):
        response = await gateway.client.get(path, headers=sent)
        assert_refused(response, "admin_required", "this needs an admin token")


@pytest.mark.parametrize("sent", [{}, bearer("filler")], ids=["nothing", "filler"])
async def test_52_nobody_is_no_administrator(open_gateway: RunningGateway, sent: dict[str, str]) -> None:
    for path in ("/api/governance/virtual-keys", "/metrics"):
        response = await open_gateway.client.get(path, headers=sent)
        assert_refused(response, "virtual_key_required")


async def test_52_deactivation_stops_polls_at_once(gateway: RunningGateway, as_admin: Any) -> None:
    made = await new_key(gateway, as_admin, "leaked")
    job_id = await gateway.accepted(key=made["value"])
    path = f"/api/governance/virtual-keys/{made['id']}"

    await gateway.client.put(path, json={"is_active": False}, headers=as_admin)
    blocked = await gateway.poll(job_id, key=made["value"])
    await gateway.client.put(path, json={"is_active": True}, headers=as_admin)
    again = await gateway.poll(job_id, key=made["value"])

    assert_refused(blocked, "virtual_key_blocked")
    assert again.status_code in {200, 202}


async def new_key(gateway: RunningGateway, as_admin: dict[str, str], name: str) -> dict[str, Any]:
    response = await gateway.client.post(
        "/api/governance/virtual-keys", json={"name": name}, headers=as_admin
    )
    assert response.status_code == 201, response.text
    made = response.json()["virtual_key"]
    assert isinstance(made, dict)
    return made


async def test_t8_hostile_text_in_credentials_is_only_text(gateway: RunningGateway) -> None:
    for text in ("sk-bf-' OR 1=1 --", "sk-bf-\x00", "sk-bf-%s%n", "sk-bf-\xff\xfe", "sk-bf-" + "x" * 8000):
        headers = httpx2.Headers({"x-bf-vk": text.replace("\x00", "%00")}, encoding="latin-1")
        response = await gateway.client.post(CHAT, json=chat(), headers=headers)
        assert_refused(response, "virtual_key_not_found")
