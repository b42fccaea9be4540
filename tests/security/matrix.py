"""The isolation matrix of security.md §7: what each route does, who may call, and what comes of every pair.

Routes are taken from the route table, so a new one without a line in ``DOES`` stops the suite.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum, auto
from typing import Any, Final
from unittest.mock import Mock

from msgspec import Struct

from api.minting import admin_token, claims, key_token, part, signed
from api.world import bearer
from support.gateway import CHAT, KEY, OTHER_KEY
from tidegate.api.app import Handlers, route_table
from tidegate.api.routing import Route

KEYS: Final = "/api/governance/virtual-keys"
METRICS_TOKEN: Final = "a-token-for-the-scraper"
GOOD: Final = "seen"
OWN, NONE, ALL = "A's rows", "none of A's rows", "all rows"


class Does(Enum):
    """What a route does, and to what."""

    OPEN = auto()
    SUBMIT = auto()
    READ = auto()
    CHANGE = auto()
    LIST = auto()
    ADMINISTER = auto()
    SCRAPE = auto()


DOES: Final = {
    ("POST", CHAT): Does.SUBMIT,
    ("GET", f"{CHAT}/{{id}}"): Does.READ,
    ("GET", "/v1/async/jobs"): Does.LIST,
    ("GET", "/v1/async/jobs/{id}"): Does.READ,
    ("POST", "/v1/async/jobs/{id}/cancel"): Does.CHANGE,
    ("GET", KEYS): Does.ADMINISTER,
    ("POST", KEYS): Does.ADMINISTER,
    ("GET", f"{KEYS}/{{id}}"): Does.ADMINISTER,
    ("PUT", f"{KEYS}/{{id}}"): Does.ADMINISTER,
    ("DELETE", f"{KEYS}/{{id}}"): Does.ADMINISTER,
    ("POST", f"{KEYS}/{{id}}/rotate"): Does.ADMINISTER,
    ("GET", "/health"): Does.OPEN,
    ("GET", "/healthz"): Does.OPEN,
    ("GET", "/readyz"): Does.OPEN,
    ("GET", "/metrics"): Does.SCRAPE,
    ("GET", "/openapi.json"): Does.OPEN,
    ("GET", "/docs"): Does.OPEN,
    ("GET", "/docs/rapidoc.js"): Does.OPEN,
}

Headers = Mapping[str, str]
Secrets = Mapping[str, str]
"""Of the keys that have gone since they submitted: ``deleted``, ``expired``, ``inactive``."""


class Row(Struct, frozen=True):
    """One caller, and what each kind of route answers: ``GOOD``, rows of a list, or an error code."""

    name: str
    headers: Callable[[Secrets], Headers]
    job: str
    """On a job of key A."""
    anonymous_job: str
    rows: str
    submit: str
    administer: str
    scrape: str
    owner: str = "A"
    """Whose job it is; ``A`` in one of the states that §7 lists."""

    def expected(self, does: Does, thing: str) -> str:
        match does:
            case Does.OPEN:
                return GOOD
            case Does.READ | Does.CHANGE:
                return self.job if thing == "job" else self.anonymous_job
            case Does.LIST:
                return self.rows
            case Does.SUBMIT:
                return self.submit
            case Does.ADMINISTER:
                return self.administer
            case Does.SCRAPE:
                return self.scrape


class Cell(Struct, frozen=True):
    """One request of the matrix."""

    method: str
    path: str
    does: Does
    row: Row
    thing: str
    """``job`` of the row's owner, ``anonymous job``, or nothing in particular."""

    def __str__(self) -> str:
        what = f" on {self.thing}" if self.thing else ""
        return f"{self.row.name}: {self.method} {self.path}{what}"

    @property
    def expected(self) -> str:
        return self.row.expected(self.does, self.thing)


def route_table_without_handlers() -> list[Route]:
    """The real table, leading nowhere."""
    return route_table(Handlers(*[Mock() for _ in Handlers.__struct_fields__]), "0")


def cells(routes: Iterable[Route], rows: Sequence[Row]) -> list[Cell]:
    """Every route for every caller. Raises ``LookupError`` for a route nobody has thought about."""
    return [
        Cell(route.method, route.path, does, row, thing)
        for route in routes
        for does in [what_it_does(route)]
        for row in rows
        for thing in (("job", "anonymous job") if does in {Does.READ, Does.CHANGE} else ("",))
    ]


def what_it_does(route: Route) -> Does:
    found = DOES.get((route.method, route.path))
    if found is None:
        raise LookupError(f"{route.method} {route.path} has no line in the isolation matrix")
    return found


def _always(headers: Headers) -> Callable[[Secrets], Headers]:
    return lambda _secrets: headers


def _accepted(name: str, headers: Headers, job: str, rows: str, **others: str) -> Row:
    """A caller who gets in: an anonymous job is visible to all of them."""
    usual: dict[str, Any] = {"administer": "admin_required", "scrape": "admin_required"}
    return Row(name, _always(headers), job, GOOD, rows, GOOD, **(usual | others))


def _refused(name: str, headers: Headers | Callable[[Secrets], Headers], code: str, **others: str) -> Row:
    """A caller who gets nowhere."""
    asks = headers if callable(headers) else _always(headers)
    return Row(name, asks, *[code] * 5, **({"scrape": code} | others))


def _gone(state: str, code: str) -> list[Row]:
    """A key in this state, by its secret and by a token, on a job it submitted before."""
    return [
        _refused(f"{state} key", lambda secrets: bearer(secrets[state]), code, owner=state),
        _refused(
            f"JWT for {state} key",
            lambda secrets: bearer(key_token(secrets[f"{state} id"])),
            code,
            owner=state,
        ),
    ]


UNKNOWN = "sk-bf-" + "z" * 43
UNSIGNED = f"{part({'alg': 'none'})}.{part(claims(virtual_key='key-a'))}."
EXPIRED = signed(claims(virtual_key="key-a", exp=time.time() - 60))
BAD_TOKENS = {
    "expired": (EXPIRED, "token_expired"),
    "with a wrong aud": (key_token("key-a", aud="elsewhere"), "invalid_token"),
    "unsigned": (UNSIGNED, "invalid_token"),
    "of a foreign issuer": (key_token("key-a", iss="https://elsewhere.example"), "invalid_token"),
    "of another secret": (signed(claims(virtual_key="key-a"), secret="x" * 40), "invalid_token"),
}
_BESIDE: Final = {"x-bf-vk": KEY}

ACCEPTED: Final = [
    _accepted("key A", bearer(KEY), GOOD, OWN),
    _accepted("virtual-key JWT for A", bearer(key_token("key-a")), GOOD, OWN),
    _accepted("key A and JWT for A", bearer(key_token("key-a")) | _BESIDE, GOOD, OWN),
    *(
        _accepted(f"key A, filler in {name}", bearer(KEY) | {name: "placeholder"}, GOOD, OWN)
        for name in ("x-api-key", "x-goog-api-key", "api-key")
    ),
    _accepted("key A in x-bf-vk, filler as bearer", bearer("placeholder") | _BESIDE, GOOD, OWN),
    _accepted("key B", bearer(OTHER_KEY), "job_not_found", NONE),
    _accepted("virtual-key JWT for B", bearer(key_token("key-b")), "job_not_found", NONE),
    _accepted("admin JWT", bearer(admin_token()), GOOD, ALL, administer=GOOD, scrape=GOOD),
]
BROKEN: Final = [
    *_gone("deleted", "virtual_key_not_found"),
    *_gone("expired", "virtual_key_expired"),
    *_gone("inactive", "virtual_key_blocked"),
    *(_refused(f"JWT {what}", bearer(token), code) for what, (token, code) in BAD_TOKENS.items()),
    *(
        _refused(f"JWT {what} beside key A", bearer(token) | _BESIDE, code)
        for what, (token, code) in BAD_TOKENS.items()
    ),
    *(
        _refused(
            f"unknown key in {name} beside key A", bearer(KEY) | {name: UNKNOWN}, "virtual_key_not_found"
        )
        for name in ("x-bf-vk", "x-api-key", "x-goog-api-key", "api-key")
    ),
    _refused(
        "unknown key beside an admin", bearer(admin_token()) | {"x-bf-vk": "x"}, "virtual_key_not_found"
    ),
    _refused("keys A and B", bearer(KEY) | {"x-bf-vk": OTHER_KEY}, "conflicting_credentials"),
    _refused(
        "JWT for A and key B", bearer(key_token()) | {"x-api-key": OTHER_KEY}, "conflicting_credentials"
    ),
    _refused("key A and an admin", bearer(admin_token()) | _BESIDE, "conflicting_credentials"),
]
WITH_AUTH: Final = [
    *ACCEPTED,
    *BROKEN,
    _refused("nobody", {}, "virtual_key_required"),
    _refused("filler", bearer("placeholder"), "invalid_credentials"),
    _refused("filler in x-api-key", {"x-api-key": "placeholder"}, "virtual_key_required"),
    _refused("key A as Basic", {"authorization": f"Basic {KEY}"}, "virtual_key_required"),
    _refused("key A as a cookie", {"cookie": f"x-bf-vk={KEY}"}, "virtual_key_required"),
    _refused("the scraper", bearer(METRICS_TOKEN), "invalid_credentials", scrape=GOOD),
]
# Whoever shows nothing is somebody here; a credential that does not hold is worth no more than elsewhere.
_NOBODY: Final = {"administer": "virtual_key_required", "scrape": "virtual_key_required"}
WITHOUT_AUTH: Final = [
    *ACCEPTED,
    *BROKEN,
    _accepted("nobody", {}, "job_not_found", "virtual_key_required", **_NOBODY),
    _accepted("filler", bearer("placeholder"), "job_not_found", "virtual_key_required", **_NOBODY),
]
