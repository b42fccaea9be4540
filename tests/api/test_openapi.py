"""The OpenAPI document: the same routes as the router, the same shapes as the answers (contract §2.4)."""

import re
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from api.admin import KEYS
from api.chats import EVERY_FIELD
from api.json_schema import Mismatch, Schemas
from api.minting import admin_token
from api.world import bearer, until_processing
from support.gateway import CHAT, RunningGateway, chat
from tidegate import __version__

pytestmark = pytest.mark.anyio

JOBS = "/v1/async/jobs"
PAGES = {"/docs", "/docs/rapidoc.js"}
Document = dict[str, Any]


@pytest.fixture(scope="module")
async def document(gateway: RunningGateway) -> Document:
    found: Document = (await gateway.client.get("/openapi.json")).json()
    return found


def operations(document: Document) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


async def test_24_it_describes_exactly_these_routes(gateway: RunningGateway, document: Document) -> None:
    router = gateway.gateway.app
    routes = {
        (route.method, route.path)
        for table in (router._exact, router._last, router._last_but_one)
        for methods in table.values()
        for route in methods.values()
        if route.path not in PAGES
    }

    assert {(method, path) for method, path, _ in operations(document)} == routes


async def test_24_it_is_an_openapi_31_document(document: Document) -> None:
    assert document["openapi"] == "3.1.0"
    assert document["info"]["version"] == __version__
    assert document["info"].keys() >= {"title", "version", "license"}
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(ids)) == len(ids)
    for _, path, operation in operations(document):
        assert operation["summary"]
        in_path = {found["name"] for found in operation.get("parameters", []) if found["in"] == "path"}
        assert in_path == set(re.findall(r"{(\w+)}", path))
        assert all(found["required"] for found in operation.get("parameters", []) if found["in"] == "path")
        assert any(status.startswith("2") for status in operation["responses"])


def test_every_reference_leads_somewhere(document: Document) -> None:
    def references(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            if "$ref" in value:
                yield value["$ref"]
            value = list(value.values())
        if isinstance(value, list):
            for item in value:
                yield from references(item)

    names = {name.removeprefix("#/components/schemas/") for name in references(document)}
    assert names == set(document["components"]["schemas"])


async def test_6_security_says_who_may_call(document: Document) -> None:
    admin: list[dict[str, list[str]]] = [{"bearer": []}]
    either = [*admin, {"virtualKey": []}]

    for _, path, operation in operations(document):
        if path.startswith("/v1/"):
            assert operation["security"] == either
        elif path.startswith("/api/") or path == "/metrics":
            assert operation["security"] == admin
        else:
            assert operation["security"] == []
    used = {name for _, _, found in operations(document) for entry in found["security"] for name in entry}
    assert used == set(document["components"]["securitySchemes"])


async def test_every_operation_has_examples_that_fit(document: Document) -> None:
    schemas = Schemas(document)

    for method, path, operation in operations(document):
        contents = [
            (status, media)
            for status, reply in operation["responses"].items()
            for media in reply.get("content", {}).values()
        ]
        assert any(status.startswith("2") for status, _ in contents), (method, path)
        if "requestBody" in operation:
            contents.append(("request", operation["requestBody"]["content"]["application/json"]))
        for status, media in contents:
            schemas.check(media["example"], media["schema"], f"{method} {path} {status}")


async def test_every_error_is_in_the_envelope(document: Document) -> None:
    for _, _, operation in operations(document):
        for status, reply in operation["responses"].items():
            if int(status) >= 400:
                media = reply["content"]["application/json"]
                assert media["schema"] == {"$ref": "#/components/schemas/ErrorEnvelope"}
                assert media["example"]["status_code"] == int(status)


async def test_10_the_options_are_documented(document: Document) -> None:
    parameters = {found["name"] for found in document["paths"][CHAT]["post"]["parameters"]}

    assert parameters == {
        "x-bf-async-job-result-ttl", "x-bf-async-timeout", "x-bf-async-max-attempts", "x-bf-async-priority",
        "Idempotency-Key", "Prefer", "wait", "x-bf-passthrough-extra-params",
    }  # fmt: skip


class Witness:
    """Asks the gateway and compares every answer with what the document says of it."""

    def __init__(self, gateway: RunningGateway, document: Document) -> None:
        self._client = gateway.client
        self._document = document
        self._schemas = Schemas(document)
        self.seen: set[tuple[str, str, str]] = set()

    async def ask(self, method: str, path: str, target: str = "", **request: Any) -> httpx2.Response:
        response = await self._client.request(method, path.replace("{id}", target), **request)
        status = str(response.status_code)
        self.seen.add((method, path, status))
        reply = self._document["paths"][path][method.lower()]["responses"][status]
        self._compare(response, reply)
        return response

    def _compare(self, response: httpx2.Response, reply: dict[str, Any]) -> None:
        if "content" not in reply:
            assert response.content == b""
            return
        media_type = response.headers["content-type"].partition(";")[0]
        media = reply["content"][media_type]
        body = response.json() if media_type == "application/json" else response.text
        self._schemas.check(body, media["schema"])


async def test_real_answers_fit_the_document(gateway: RunningGateway, document: Document) -> None:
    witness = Witness(gateway, document)
    ask, me, admin = witness.ask, bearer(), bearer(admin_token())
    poll, view, stop = f"{CHAT}/{{id}}", f"{JOBS}/{{id}}", f"{JOBS}/{{id}}/cancel"

    held = (await ask("POST", CHAT, json=chat("narrow/held", metadata={"a": 1}), headers=me)).json()["id"]
    await until_processing(gateway, held)
    queued = (await ask("POST", CHAT, json=chat("narrow/held"), headers=me)).json()["id"]
    retried = (await ask("POST", CHAT, json=chat("limiting/limited"), headers=me)).json()["id"]
    await gateway.run(chat("moody/refused"))
    done = (await ask("POST", CHAT, json=chat(), headers=me | {"prefer": "wait=20"})).json()["id"]
    failed = (await ask("POST", CHAT, json=chat("moody/refused"), headers=me | {"prefer": "wait=20"})).json()[
        "id"
    ]
    for job_id in (held, queued, retried, done, failed):
        etag = (await ask("GET", poll, job_id, headers=me)).headers["etag"]
        await ask("GET", poll, job_id, headers=me | {"if-none-match": etag})
        await ask("GET", view, job_id, headers=me)
        await ask("GET", view, job_id, headers=admin)
    await ask("GET", view, done, headers=me | {"if-none-match": "*"})
    await ask("GET", JOBS, headers=admin, params={"limit": 2})
    await ask("GET", JOBS, headers=me)
    await ask("POST", stop, queued, headers=me)
    await ask("POST", stop, held, headers=me)
    await ask("POST", stop, done, headers=me)
    for path, method in ((poll, "GET"), (view, "GET"), (stop, "POST")):
        await ask(method, path, "x", headers=me)
        await ask(method, path, "x")
        await ask(method, path, "x", headers=me, params={"y": "1"})

    await ask("POST", CHAT, json={}, headers=me)
    await ask("POST", CHAT, json=chat("mistral/small"), headers=me)
    await ask("POST", CHAT, content=b"x", headers=me | {"content-encoding": "br"})
    for text in ("a", "b"):
        await ask("POST", CHAT, json=chat(text=text), headers=me | {"idempotency-key": "witness"})

    made = (
        await ask(
            "POST",
            KEYS,
            json={
                "name": "w",
                "provider_configs": [{"provider": "openai", "weight": 1}],
                "expires_at": "2030-01-01T00:00:00Z",
            },
            headers=admin,
        )
    ).json()["virtual_key"]
    await ask("POST", KEYS, json={"name": "w"}, headers=admin)
    await ask("POST", KEYS, json={}, headers=admin)
    await ask("GET", KEYS, headers=admin)
    await ask("GET", f"{KEYS}/{{id}}", made["id"], headers=admin)
    await ask("PUT", f"{KEYS}/{{id}}", made["id"], json={"is_active": False}, headers=admin)
    await ask("POST", CHAT, json=chat(), headers=bearer(made["value"]))
    await ask("POST", f"{KEYS}/{{id}}/rotate", made["id"], headers=admin)
    await ask("DELETE", f"{KEYS}/{{id}}", made["id"], headers=admin)
    for method, path in (("PUT", ""), ("DELETE", ""), ("POST", "/rotate")):
        await ask(method, f"{KEYS}/{{id}}{path}", "key-a", json={}, headers=admin)
        await ask(method, f"{KEYS}/{{id}}{path}", "none", json={}, headers=admin)
        await ask(method, f"{KEYS}/{{id}}{path}", "none", headers=me)
    for path in ("/health", "/healthz", "/readyz", "/openapi.json"):
        await ask("GET", path)
    await ask("GET", "/metrics", headers=admin)
    await ask("GET", "/metrics", headers=me)
    await ask("GET", "/metrics")

    succeeded = {
        (method, path, status)
        for method, path, operation in operations(document)
        for status in operation["responses"]
        if int(status) < 400
    }
    assert succeeded <= witness.seen


async def test_the_schema_of_the_request_takes_what_the_gateway_takes(document: Document) -> None:
    open_schemas = Schemas(document, is_closed=False)
    schema = {"$ref": "#/components/schemas/ChatRequest"}

    open_schemas.check(chat(**EVERY_FIELD), schema)
    for name in EVERY_FIELD:
        open_schemas.check(chat() | {name: None}, schema)
    assert document["components"]["schemas"]["ChatRequest"]["properties"].keys() >= EVERY_FIELD.keys()


@pytest.mark.parametrize(
    "members",
    [{"temperature": 3}, {"temperature": "1"}, {"verbosity": "max"}, {"n": 0}, {"n": 1.5}, {"messages": {}},
     {"messages": [{"role": "robot"}]}, {"stop": 5}, {"fallbacks": ["a"] * 11}, {"logit_bias": {"1": "x"}}],
    ids=str,
)  # fmt: skip
async def test_it_refuses_what_the_gateway_refuses(
    gateway: RunningGateway, document: Document, members: dict[str, Any]
) -> None:
    schemas = Schemas(document, is_closed=False)

    with pytest.raises(Mismatch):
        schemas.check(chat() | members, {"$ref": "#/components/schemas/ChatRequest"})
    assert (await gateway.submit(chat() | members)).status_code == 400


class TestReferencePage:
    """It works without any other host."""

    async def test_the_page_names_no_foreign_url(self, gateway: RunningGateway) -> None:
        page = await gateway.client.get("/docs")

        assert page.status_code == 200
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert "//" not in page.text
        assert re.findall(r'(?:src|href|spec-url)="([^"]*)"', page.text) == [
            "/docs/rapidoc.js",
            "/openapi.json",
        ]
        assert 'load-fonts="false"' in page.text

    async def test_its_policy_forbids_other_hosts_and_frames(self, gateway: RunningGateway) -> None:
        page = await gateway.client.get("/docs")

        policy = dict(
            directive.strip().split(" ", 1)
            for directive in page.headers["content-security-policy"].split(";")
        )
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == "'self'"
        assert policy["connect-src"] == "'self'"
        assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
        assert not any("http" in sources or "*" in sources for sources in policy.values())
        assert page.headers["x-content-type-options"] == "nosniff"
        assert "<script>" not in page.text

    async def test_the_script_is_served_from_here(self, gateway: RunningGateway) -> None:
        script = await gateway.client.get("/docs/rapidoc.js")

        assert script.status_code == 200
        assert script.headers["content-type"] == "text/javascript; charset=utf-8"
        assert b"rapi-doc" in script.content
        assert len(script.content) > 100_000
