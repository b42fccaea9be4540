"""Which routes there are, and that none is without a guard (security.md T6, T29, T34)."""

from collections.abc import Iterator
from typing import Final

import pytest
from msgspec import NODEFAULT
from msgspec.structs import fields

from api.refusals import assert_refused
from api.world import bearer
from security.matrix import (
    DOES,
    GOOD,
    WITH_AUTH,
    Does,
    cells,
    route_table_without_handlers,
    what_it_does,
)
from support.gateway import RunningGateway
from tidegate.api.errors import KINDS
from tidegate.api.routing import Handler, Route, Router, Scope

pytestmark = pytest.mark.anyio

TABLE: Final = """
ADMIN    DELETE /api/governance/virtual-keys/{id}
ADMIN    GET    /api/governance/virtual-keys
ADMIN    GET    /api/governance/virtual-keys/{id}
ADMIN    POST   /api/governance/virtual-keys
ADMIN    POST   /api/governance/virtual-keys/{id}/rotate
ADMIN    PUT    /api/governance/virtual-keys/{id}
CALLER   GET    /v1/async/chat/completions/{id}
CALLER   GET    /v1/async/jobs
CALLER   GET    /v1/async/jobs/{id}
CALLER   POST   /v1/async/chat/completions
CALLER   POST   /v1/async/jobs/{id}/cancel
METRICS  GET    /metrics
OPEN     GET    /docs
OPEN     GET    /docs/rapidoc.js
OPEN     GET    /health
OPEN     GET    /healthz
OPEN     GET    /openapi.json
OPEN     GET    /readyz
"""
"""Reviewed by hand: none of them dumps, debugs or shows a secret."""
ROUTES: Final = route_table_without_handlers()
ROUTE = pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")


def served_by(router: Router) -> Iterator[Route]:
    for table in (router._exact, router._last, router._last_but_one):
        for methods in table.values():
            yield from methods.values()


def line(route: Route) -> str:
    return f"{route.scope.name:<8} {route.method:<6} {route.path}"


def test_the_routes_are_those_that_were_reviewed() -> None:
    assert sorted(map(line, ROUTES)) == TABLE.split("\n")[1:-1]


async def test_the_running_gateway_serves_that_table_and_nothing_else(gateway: RunningGateway) -> None:
    assert sorted(map(line, served_by(gateway.gateway.app))) == sorted(map(line, ROUTES))


def test_a_route_cannot_be_written_down_without_a_scope() -> None:
    (scope,) = (field for field in fields(Route) if field.name == "scope")

    assert scope.default is scope.default_factory is NODEFAULT


def test_a_route_that_nobody_has_thought_about_stops_the_suite() -> None:
    handler: Handler = ROUTES[0].handler
    added = Route("GET", "/v1/async/jobs/{id}/events", Scope.CALLER, handler)

    with pytest.raises(LookupError, match=r"GET /v1/async/jobs/\{id\}/events has no line"):
        cells([*ROUTES, added], WITH_AUTH)


def test_every_line_of_the_matrix_is_a_route() -> None:
    assert set(DOES) == {(route.method, route.path) for route in ROUTES}


@ROUTE
async def test_without_a_credential_only_open_routes_answer(gateway: RunningGateway, route: Route) -> None:
    response = await gateway.client.request(route.method, route.path.replace("{id}", "x"))

    if what_it_does(route) is Does.OPEN:
        assert response.status_code == 200
    else:
        assert_refused(response, "virtual_key_required")
        assert response.headers["www-authenticate"] == 'Bearer realm="tidegate"'


@pytest.mark.parametrize("path", [route.path for route in ROUTES if what_it_does(route) is Does.OPEN])
@pytest.mark.parametrize("headers", [bearer("broken"), bearer("sk-bf-broken"), bearer("e30.e30.x")], ids=str)
async def test_an_open_route_asks_for_nothing_and_says_the_same_to_all(
    gateway: RunningGateway, path: str, headers: dict[str, str]
) -> None:
    with_credential = await gateway.client.get(path, headers=headers)
    without = await gateway.client.get(path)

    assert (with_credential.status_code, with_credential.content) == (200, without.content)


@ROUTE
@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost"])
async def test_no_answer_of_any_route_may_be_read_by_a_foreign_page(
    gateway: RunningGateway, open_gateway: RunningGateway, route: Route, origin: str
) -> None:
    """CORS is off in the one; the other lists a single origin, which is none of these."""
    for here in (gateway, open_gateway):
        response = await here.client.request(
            route.method, route.path.replace("{id}", "x"), headers={"origin": origin} | bearer()
        )

        assert not [name for name in response.headers if name.startswith("access-control-")]


def test_every_way_to_be_refused_has_a_caller_in_the_matrix() -> None:
    """A new error code for bad credentials needs a row."""
    refusals = {str(code) for code, kind in KINDS.items() if kind.status == 401} | {"virtual_key_blocked"}

    assert {row.expected(Does.READ, "job") for row in WITH_AUTH} - {GOOD, "job_not_found"} == refusals
