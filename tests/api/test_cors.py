"""CORS (contract §2.6, security.md T29): off, or for exactly the origins that are listed."""

import pytest

from api.raw import exchange, request
from api.refusals import assert_common_headers, assert_refused
from api.world import bearer
from support.gateway import CHAT, RunningGateway, chat

pytestmark = pytest.mark.anyio

LISTED = "https://app.example"
FOREIGN = [
    "https://evil.example",
    "http://app.example",
    "https://app.example:443",
    "https://app.example/",
    "https://APP.example",
    "https://sub.app.example",
    "https://app.example.evil.example",
    "null",
    "*",
    "",
]
KEYS = "/api/governance/virtual-keys"


def preflight(origin: str, method: str = "POST", headers: str | None = None) -> list[str]:
    lines = [f"Origin: {origin}", f"Access-Control-Request-Method: {method}"]
    return lines if headers is None else [*lines, f"Access-Control-Request-Headers: {headers}"]


async def test_26_off_unless_configured(gateway: RunningGateway) -> None:
    asked = await exchange(gateway.url, request(CHAT, *preflight(LISTED), method="OPTIONS"))
    submitted = await gateway.submit(headers={"origin": LISTED})

    assert_refused(asked, "method_not_allowed")
    for response in (asked, submitted):
        assert not [name for name in response.headers if name.startswith("access-control")]
        assert "vary" not in response.headers


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        (CHAT, "POST"),
        (f"{CHAT}/x", "GET"),
        ("/v1/async/jobs", "GET"),
        ("/v1/async/jobs/x/cancel", "POST"),
        (KEYS, "GET, POST"),
        (f"{KEYS}/x", "DELETE, GET, PUT"),
    ],
)
async def test_26_a_preflight_of_a_listed_origin(
    open_gateway: RunningGateway, path: str, methods: str
) -> None:
    wanted = "authorization, content-type, idempotency-key, x-stainless-lang"

    response = await exchange(
        open_gateway.url, request(path, *preflight(LISTED, headers=wanted), method="OPTIONS")
    )

    assert (response.status_code, response.content) == (204, b"")
    assert response.headers["access-control-allow-origin"] == LISTED
    assert response.headers["access-control-allow-methods"] == methods
    assert response.headers["access-control-allow-headers"] == wanted
    assert int(response.headers["access-control-max-age"]) > 0
    assert response.headers["vary"] == "origin"
    assert "content-length" not in response.headers
    assert_common_headers(response)


async def test_26_a_preflight_without_headers_names_none(open_gateway: RunningGateway) -> None:
    response = await exchange(open_gateway.url, request(CHAT, *preflight(LISTED), method="OPTIONS"))

    assert response.status_code == 204
    assert "access-control-allow-headers" not in response.headers


async def test_26_a_preflight_of_an_unknown_path_is_404(open_gateway: RunningGateway) -> None:
    response = await exchange(open_gateway.url, request("/nope", *preflight(LISTED), method="OPTIONS"))

    assert_refused(response, "route_not_found")
    assert response.headers["access-control-allow-origin"] == LISTED


async def test_26_options_alone_is_no_preflight(open_gateway: RunningGateway) -> None:
    response = await exchange(open_gateway.url, request(CHAT, f"Origin: {LISTED}", method="OPTIONS"))

    assert_refused(response, "method_not_allowed")


@pytest.mark.parametrize("origin", FOREIGN)
async def test_26_other_origins_get_nothing(open_gateway: RunningGateway, origin: str) -> None:
    """Exact origins only; what a browser may not read it does not get, whatever the server did."""
    asked = await exchange(open_gateway.url, request(CHAT, *preflight(origin), method="OPTIONS"))
    read = await exchange(open_gateway.url, request("/healthz", f"Origin: {origin}"))

    assert_refused(asked, "method_not_allowed")
    assert read.status_code == 200
    for response in (asked, read):
        assert not [name for name in response.headers if name.startswith("access-control")]
        # A cache must not hand this answer to a page of a listed origin, nor the other way round.
        assert response.headers["vary"] == "origin"


async def test_26_answers_to_a_listed_origin_can_be_read(open_gateway: RunningGateway) -> None:
    headers = {"origin": LISTED}
    answers = [
        await open_gateway.submit(headers=headers),
        await open_gateway.poll("x", headers),
        await open_gateway.client.get("/healthz", headers=headers),
        await open_gateway.client.get("/nope", headers=headers),
        await open_gateway.client.get("/v1/async/jobs", headers=bearer("sk-bf-x") | headers),
    ]

    exposed = {
        "location", "retry-after", "etag", "x-request-id", "preference-applied", "idempotent-replayed",
    }  # fmt: skip
    for response in answers:
        assert response.headers["access-control-allow-origin"] == LISTED
        assert response.headers["vary"] == "origin"
        assert set(response.headers["access-control-expose-headers"].split(", ")) == exposed


async def test_26_never_a_star_and_never_credentials(open_gateway: RunningGateway) -> None:
    answers = [
        await open_gateway.submit(headers={"origin": LISTED}),
        await exchange(open_gateway.url, request(CHAT, *preflight(LISTED, headers="*"), method="OPTIONS")),
    ]

    for response in answers:
        assert response.headers["access-control-allow-origin"] != "*"
        assert "access-control-allow-credentials" not in response.headers


async def test_26_a_page_of_a_listed_origin_goes_all_the_way(open_gateway: RunningGateway) -> None:
    """As a browser does it: preflight, submit across sites, poll."""
    headers = {"origin": LISTED, "sec-fetch-site": "cross-site", "sec-fetch-mode": "cors"}
    asked = await exchange(
        open_gateway.url, request(CHAT, *preflight(LISTED, headers="content-type"), method="OPTIONS")
    )

    submitted = await open_gateway.client.post(CHAT, json=chat(), headers=headers | {"prefer": "wait=20"})
    polled = await open_gateway.client.get(submitted.headers["location"], headers=headers)

    assert asked.status_code == 204
    assert submitted.status_code == polled.status_code == 200
    assert polled.headers["access-control-allow-origin"] == LISTED


async def test_8_a_preflight_needs_an_allowed_host(open_gateway: RunningGateway) -> None:
    response = await exchange(
        open_gateway.url, request(CHAT, *preflight(LISTED), method="OPTIONS", host="evil.example")
    )

    assert_refused(response, "host_not_allowed")
