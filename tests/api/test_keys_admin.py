"""Virtual keys over HTTP: created, read, listed, refused (contract §2.5, §5.5)."""

import re
from typing import Any
from urllib.parse import quote

import pytest

from api.admin import KEYS, create, page, read, update
from api.minting import admin_token
from api.refusals import assert_common_headers, assert_refused
from api.world import bearer
from support.gateway import KEY, RunningGateway, chat

pytestmark = pytest.mark.anyio

VALUE = re.compile(r"sk-bf-[A-Za-z0-9_-]{43}")
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


async def test_25_create_shows_the_secret_once(gateway: RunningGateway) -> None:
    response = await gateway.client.post(KEYS, json={"name": "shown-once"}, headers=bearer(admin_token()))
    body = response.json()
    made = body["virtual_key"]
    again = await read(gateway, made["id"])

    assert response.status_code == 201
    assert body.keys() == {"message", "virtual_key"}
    assert VALUE.fullmatch(made["value"])
    assert made["value_hint"] == f"sk-bf-…{made['value'][-4:]}"
    assert response.headers["cache-control"] == "no-store"
    assert_common_headers(response)
    assert again == {name: value for name, value in made.items() if name != "value"}
    assert (await gateway.submit(key=made["value"])).status_code == 202


async def test_55_a_plain_key_allows_everything_and_has_the_default_limits(gateway: RunningGateway) -> None:
    made = await create(gateway, name="plain")

    assert TIMESTAMP.fullmatch(made["created_at"])
    assert made["updated_at"] == made["created_at"]
    assert {
        name: value
        for name, value in made.items()
        if name not in {"id", "value", "value_hint", "created_at", "updated_at"}
    } == {
        "name": "plain",
        "description": "",
        "is_active": True,
        "async": {"weight": 1.0, "priority_ceiling": 1},
    }


async def test_55_every_member_comes_back_as_sent(gateway: RunningGateway) -> None:
    """Effective rights are the rights that were sent (security T31)."""
    members = {
        "name": "everything",
        "description": "for tests",
        "is_active": False,
        "expires_at": "2030-01-31T00:00:00.000Z",
        "provider_configs": [
            {"provider": "openai", "weight": 0.5, "allowed_models": ["echo"], "key_ids": ["main"]},
            {"provider": "other", "allowed_models": ["*"], "key_ids": []},
            {"provider": "mistral", "allowed_models": []},
        ],
        "async": {"weight": 2.5, "priority_ceiling": 2, "result_ttl_max": 60},
    }

    made = await create(gateway, **members)

    assert made.items() >= members.items()
    assert (await read(gateway, made["id"])).items() >= members.items()


async def test_55_times_are_shown_in_utc(gateway: RunningGateway) -> None:
    made = await create(gateway, name="utc", expires_at="2030-01-31T02:30:00+02:30")

    assert made["expires_at"] == "2030-01-31T00:00:00.000Z"
    assert (await read(gateway, "key-expired"))["expires_at"].endswith("Z")


@pytest.mark.parametrize(
    ("grants", "model", "code"),
    [
        pytest.param([], "openai/echo", "provider_blocked", id="an empty list denies"),
        pytest.param([{"provider": "openai"}], "openai/echo", "model_blocked", id="no models deny"),
        pytest.param(
            [{"provider": "openai", "allowed_models": []}],
            "openai/echo",
            "model_blocked",
            id="empty models deny",
        ),
        pytest.param(
            [{"provider": "openai", "allowed_models": ["*"]}], "openai/echo", None, id="* allows all"
        ),
        pytest.param([{"provider": "openai", "allowed_models": ["echo"]}], "openai/echo", None, id="by name"),
        pytest.param(
            [{"provider": "openai", "allowed_models": ["ECHO"]}], "openai/echo", "model_blocked", id="exactly"
        ),
        pytest.param(
            [{"provider": "other", "allowed_models": ["*"]}], "openai/echo", "provider_blocked", id="another"
        ),
        pytest.param(
            [{"provider": "openai", "allowed_models": ["*"], "key_ids": ["main"]}],
            "openai/echo",
            None,
            id="a provider key by id",
        ),
        pytest.param(
            [{"provider": "openai", "allowed_models": ["*"], "key_ids": ["*"]}],
            "openai/echo",
            None,
            id="all provider keys",
        ),
        pytest.param(
            [{"provider": "openai", "allowed_models": ["*"], "key_ids": []}],
            "openai/echo",
            "no_eligible_keys",
            id="no provider key",
        ),
        pytest.param(
            [{"provider": "openai", "allowed_models": ["*"], "key_ids": ["foreign"]}],
            "openai/echo",
            "no_eligible_keys",
            id="a foreign provider key",
        ),
        pytest.param(None, "openai/echo", None, id="null is absent"),
    ],
)
async def test_55_provider_configs(
    gateway: RunningGateway, grants: Any, model: str, code: str | None, request: pytest.FixtureRequest
) -> None:
    made = await create(gateway, name=f"grants {request.node.callspec.id}", provider_configs=grants)

    response = await gateway.submit(chat(model), key=made["value"])

    if code is None:
        assert response.status_code == 202, response.text
    else:
        assert_refused(response, code)


REFUSED: list[tuple[Any, str, str | None, str | None]] = [
    ({}, "missing_required_parameter", "name", "'name' is required"),
    ({"name": None}, "missing_required_parameter", "name", "'name' is required"),
    ({"name": ""}, "out_of_range", "name", "'name' must have 1 to 128 characters"),
    ({"name": "x" * 129}, "out_of_range", "name", "'name' must have 1 to 128 characters"),
    ({"name": 5}, "invalid_type", "name", "invalid type for 'name': expected string, got number"),
    ({"name": "x", "is_active": 1}, "invalid_type", "is_active", None),
    ({"name": "x", "nmae": 1}, "unknown_field", "nmae", "unknown field 'nmae'"),
    ({"name": "x", "value": "sk-bf-mine"}, "unknown_field", "value", None),
    ({"name": "x", "id": "mine"}, "unknown_field", "id", None),
    ({"name": "x", "async": {"wieght": 1}}, "unknown_field", "async.wieght", "unknown field 'async.wieght'"),
    (
        {"name": "x", "provider_configs": [{"provider": "openai", "models": []}]},
        "unknown_field",
        "provider_configs[0].models",
        None,
    ),
    (
        {"name": "x", "provider_configs": [{}]},
        "missing_required_parameter",
        "provider_configs[0].provider",
        "'provider_configs[0].provider' is required",
    ),
    (
        {"name": "x", "provider_configs": [{"provider": "openai"}, {"provider": "openai"}]},
        "invalid_value",
        "provider_configs[1].provider",
        "'provider_configs[1].provider' repeats \"openai\"",
    ),
    (
        {"name": "x", "provider_configs": [{"provider": "openai", "weight": -1}]},
        "out_of_range",
        "provider_configs[0].weight",
        None,
    ),
    ({"name": "x", "expires_at": "soon"}, "invalid_value", "expires_at", None),
    (
        {"name": "x", "expires_at": "2030-01-31T00:00:00"},
        "invalid_value",
        "expires_at",
        "'expires_at' must carry an offset, such as Z",
    ),
    ({"name": "x", "expires_at": "9999-12-31T23:59:59-12:00"}, "invalid_value", "expires_at", None),
    ({"name": "x", "expires_at": 5}, "invalid_type", "expires_at", None),
    ({"name": "x", "async": {"weight": 0}}, "out_of_range", "async.weight", None),
    ({"name": "x", "async": {"weight": 1001}}, "out_of_range", "async.weight", None),
    ({"name": "x", "async": {"priority_ceiling": 0}}, "out_of_range", "async.priority_ceiling", None),
    ({"name": "x", "async": {"priority_ceiling": 6}}, "out_of_range", "async.priority_ceiling", None),
    ({"name": "x", "async": {"priority_ceiling": 1.5}}, "invalid_type", "async.priority_ceiling", None),
    ({"name": "x", "async": {"result_ttl_max": 0}}, "out_of_range", "async.result_ttl_max", None),
    ({"name": "x", "async": {"result_ttl_max": 10**30}}, "out_of_range", "async.result_ttl_max", None),
    # A limit that this build would not keep must not be taken for one that is kept.
    ({"name": "x", "budget": {"max_limit": 5}}, "unknown_field", "budget", None),
    ({"name": "x", "rate_limit": {"request_max_limit": 5}}, "unknown_field", "rate_limit", None),
    ({"name": "x", "async": {"max_pending": 5}}, "unknown_field", "async.max_pending", None),
    (
        {"name": "x", "provider_configs": [{"provider": "openai", "budget": {}}]},
        "unknown_field",
        "provider_configs[0].budget",
        None,
    ),
    ([], "invalid_type", None, None),
]


@pytest.mark.parametrize(
    ("members", "code", "param", "message"), REFUSED, ids=[f"{row[1]} {str(row[0])[:50]}" for row in REFUSED]
)
async def test_25_what_is_refused(
    gateway: RunningGateway, members: Any, code: str, param: str | None, message: str | None
) -> None:
    before = (await page(gateway))["total_count"]

    response = await gateway.client.post(KEYS, json=members, headers=bearer(admin_token()))

    assert_refused(response, code, message, param=param)
    assert (await page(gateway))["total_count"] == before


async def test_25_junk_is_no_json(gateway: RunningGateway) -> None:
    for method, path in (("POST", KEYS), ("PUT", f"{KEYS}/x")):
        response = await gateway.client.request(method, path, content=b"{", headers=bearer(admin_token()))
        assert_refused(response, "invalid_json")


class TestConfigured:
    """Keys that the configuration file defines are read-only over HTTP."""

    async def test_55_they_are_shown_without_their_secret(self, gateway: RunningGateway) -> None:
        shown = await read(gateway, "key-a")

        assert (shown["id"], shown["name"]) == ("key-a", "a")
        assert KEY not in str(shown)
        assert shown["value_hint"] == "sk-bf-…aaaa"

    async def test_55_they_cannot_be_changed(self, gateway: RunningGateway) -> None:
        message = '"a" is defined in the configuration'
        path = f"{KEYS}/key-a"
        headers = bearer(admin_token())

        assert_refused(await update(gateway, "key-a", {"description": "x"}), "managed_by_config", message)
        assert_refused(await gateway.client.delete(path, headers=headers), "managed_by_config", message)
        assert_refused(
            await gateway.client.post(f"{path}/rotate", headers=headers), "managed_by_config", message
        )
        assert (await gateway.submit(key=KEY)).status_code == 202

    async def test_55_an_id_may_hold_what_a_path_cannot(self, gateway: RunningGateway) -> None:
        shown = await read(gateway, quote("key imported"))

        assert (shown["id"], shown["name"]) == ("key imported", "imported")

    async def test_55_a_key_without_an_id_got_one_that_stays(self, gateway: RunningGateway) -> None:
        listed = (await page(gateway, "?search=routed"))["virtual_keys"]

        assert len(listed) == 1
        assert (await read(gateway, listed[0]["id"]))["name"] == "routed"

    @pytest.mark.parametrize("name", ["a", "inactive"])
    async def test_25_a_name_is_taken_once(self, gateway: RunningGateway, name: str) -> None:
        made = await create(gateway, name=f"not {name}")
        message = f'a virtual key named "{name}" exists'

        created = await gateway.client.post(KEYS, json={"name": name}, headers=bearer(admin_token()))
        renamed = await update(gateway, made["id"], {"name": name})
        kept = await update(gateway, made["id"], {"name": f"not {name}"})

        assert_refused(created, "already_exists", message, param="name")
        assert_refused(renamed, "already_exists", message, param="name")
        assert kept.status_code == 200


class TestList:
    @pytest.fixture(scope="class", autouse=True)
    async def five(self, gateway: RunningGateway) -> None:
        for name in ("list-3", "list-1", "list-2", "List-4", "list_%"):
            await create(gateway, name=name)

    @pytest.mark.parametrize(
        ("query", "names"),
        [
            ("?search=list-", ["list-1", "list-2", "list-3"]),
            ("?search=list-&limit=2", ["list-1", "list-2"]),
            ("?search=list-&limit=2&offset=2", ["list-3"]),
            ("?search=list-&offset=3", []),
            ("?search=List", ["List-4"]),
            ("?search=list_", ["list_%"]),
            ("?search=list%25", []),
            ("?search=ist-1", []),
            ("?search=%27", []),
        ],
    )
    async def test_25_pages_and_prefixes(self, gateway: RunningGateway, query: str, names: list[str]) -> None:
        found = await page(gateway, query)

        assert [key["name"] for key in found["virtual_keys"]] == names
        assert found["count"] == len(names)
        assert found.keys() == {"virtual_keys", "count", "total_count", "limit", "offset"}
        assert all("value" not in key for key in found["virtual_keys"])

    async def test_25_totals_count_all_pages(self, gateway: RunningGateway) -> None:
        found = await page(gateway, "?search=list-&limit=1&offset=1")

        assert (found["total_count"], found["limit"], found["offset"]) == (3, 1, 1)

    async def test_25_without_a_query_it_is_the_first_fifty(self, gateway: RunningGateway) -> None:
        found = await page(gateway)

        assert (found["limit"], found["offset"]) == (50, 0)
        assert found["count"] == min(50, found["total_count"])

    @pytest.mark.parametrize(
        ("query", "param"),
        [
            ("limit=0", "limit"), ("limit=201", "limit"), ("limit=x", "limit"), ("limit=1&limit=1", "limit"),
            ("offset=-1", "offset"), ("offset=1.5", "offset"), ("offset=99999999999", "offset"),
            ("search=a&search=b", "search"), ("page=1", "page"),
        ],
    )  # fmt: skip
    async def test_82_a_malformed_query_is_refused(
        self, gateway: RunningGateway, query: str, param: str
    ) -> None:
        response = await gateway.client.get(f"{KEYS}?{query}", headers=bearer(admin_token()))

        assert_refused(response, "invalid_query_parameter", param=param)

    @pytest.mark.parametrize(
        ("method", "path"),
        [("GET", "/key-a"), ("POST", ""), ("PUT", "/key-a"), ("POST", "/key-a/rotate")],
    )
    async def test_82_an_unknown_query_parameter_is_refused_everywhere(
        self, gateway: RunningGateway, method: str, path: str
    ) -> None:
        response = await gateway.client.request(
            method, f"{KEYS}{path}?x=1", json={"name": "x"}, headers=bearer(admin_token())
        )

        assert_refused(response, "invalid_query_parameter", param="x")
