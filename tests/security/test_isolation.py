"""Every cell of the isolation matrix (security.md §7): each route of the route table for each kind of caller."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final, final

import httpx2
import pytest

from api.admin import create, read, update
from api.minting import admin_token
from api.refusals import assert_refused
from api.world import bearer, config_of
from security.matrix import (
    ALL,
    DOES,
    GOOD,
    KEYS,
    METRICS_TOKEN,
    NONE,
    OWN,
    WITH_AUTH,
    WITHOUT_AUTH,
    Cell,
    Does,
    cells,
    route_table_without_handlers,
)
from support.gateway import CHAT, NO_TIME, OTHER_KEY, RunningGateway, chat, running
from tidegate.domain.ids import NIL
from tidegate.mock_vendor import MockVendor

pytestmark = pytest.mark.anyio

ROUTES: Final = route_table_without_handlers()
GUARDED: Final = cells(ROUTES, WITH_AUTH)
OPEN: Final = cells(ROUTES, WITHOUT_AUTH)
HELD: Final = chat("openai/held")
ABSENT: Final = "01890a5d-ac96-774b-bcce-b302099a8057"
SAME_ID: Final = {"x-request-id": "same"}
AS_ADMIN: Final = bearer(admin_token())


@final
class World:
    """A gateway with jobs of keys that have gone, and anonymous jobs."""

    def __init__(self, gateway: RunningGateway, anonymous: list[str]) -> None:
        self.gateway = gateway
        self.secrets: dict[str, str] = {}
        self._jobs: dict[str, str] = {}
        self._anonymous = anonymous
        self.by_a = ""
        self.by_b = ""
        self.nothing_there = httpx2.Response(0)
        """What a job that never was looks like."""

    async def settle(self) -> None:
        for state in ("deleted", "expired", "inactive"):
            made = await create(self.gateway, name=f"{state} {len(self._jobs)}")
            self.secrets |= {state: made["value"], f"{state} id": made["id"]}
            self._jobs[state] = await self.gateway.accepted(HELD, key=made["value"])
        await self.gateway.client.delete(f"{KEYS}/{self.secrets['deleted id']}", headers=AS_ADMIN)
        await update(self.gateway, self.secrets["expired id"], {"expires_at": "2020-01-01T00:00:00Z"})
        await update(self.gateway, self.secrets["inactive id"], {"is_active": False})
        self.by_a = await self.gateway.accepted(HELD)
        self.by_b = await self.gateway.accepted(HELD, key=OTHER_KEY)
        self.nothing_there = await self.gateway.poll(ABSENT, SAME_ID)

    async def thing(self, cell: Cell) -> str:
        """The id that goes into the path: fresh wherever the request could change what it names."""
        if cell.does is Does.ADMINISTER:
            made = await create(self.gateway, name=f"disposable {cell} {len(self._anonymous)}")
            return str(made["id"])
        if cell.does not in {Does.READ, Does.CHANGE}:
            return ""
        if cell.thing == "anonymous job":
            is_enough = cell.does is Does.READ and len(self._anonymous) == 1
            return self._anonymous[0] if is_enough else await self._anonymous_job()
        if cell.row.owner != "A":
            return self._jobs[cell.row.owner]
        return self.by_a if cell.does is Does.READ else await self.gateway.accepted(HELD)

    async def _anonymous_job(self) -> str:
        """One made before; where anybody may submit, a new one."""
        if len(self._anonymous) > 1:
            return self._anonymous.pop()
        response = await self.gateway.client.post(CHAT, json=HELD)
        return str(response.json()["id"]) if response.status_code == 202 else self._anonymous[0]

    async def state_of(self, cell: Cell, target: str) -> Any:
        """What the request of a cell might change, as an administrator sees it."""
        match cell.does:
            case Does.CHANGE:
                return (await self.gateway.poll(target, key=admin_token())).json()["status"] in RUNNING
            case Does.ADMINISTER:
                return await read(self.gateway, target), await self._newest("/api/governance/virtual-keys")
            case Does.SUBMIT:
                return await self._newest("/v1/async/jobs")
            case _:
                return None

    async def _newest(self, path: str) -> Any:
        page = (await self.gateway.client.get(f"{path}?limit=1", headers=AS_ADMIN)).json()
        return page["data"][0]["id"] if "data" in page else page["total_count"]


RUNNING: Final = {"pending", "processing"}
BODIES: Final[Mapping[tuple[str, str], Any]] = {
    ("POST", CHAT): HELD,
    ("POST", KEYS): {"name": "made by a cell"},
    ("PUT", f"{KEYS}/{{id}}"): {"description": "changed by a cell"},
}


def world_config(directory: Path, vendor: MockVendor, *, is_required: bool) -> dict[str, Any]:
    config = config_of(directory, vendor)
    config["auth"]["required"] = is_required
    return config | {"metrics": {"token": METRICS_TOKEN}}


@pytest.fixture(scope="module")
async def guarded(vendor: MockVendor, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """Where a credential is needed; its anonymous jobs are from the time before."""
    directory = tmp_path_factory.mktemp("guarded")
    wanted = sum(cell.thing == "anonymous job" and cell.does is Does.CHANGE for cell in GUARDED) + 1
    async with running(directory, world_config(directory, vendor, is_required=False)) as gateway:
        anonymous = [(await gateway.client.post(CHAT, json=HELD)).json()["id"] for _ in range(wanted)]
    async with running(directory, world_config(directory, vendor, is_required=True)) as gateway:
        world = World(gateway, anonymous)
        await world.settle()
        yield world


@pytest.fixture(scope="module")
async def wide_open(vendor: MockVendor, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """Where anybody may call."""
    directory = tmp_path_factory.mktemp("open")
    async with running(directory, world_config(directory, vendor, is_required=False)) as gateway:
        world = World(gateway, [(await gateway.client.post(CHAT, json=HELD)).json()["id"]])
        await world.settle()
        yield world


@pytest.mark.parametrize("cell", GUARDED, ids=str)
async def test_where_a_credential_is_needed(guarded: World, cell: Cell) -> None:
    await check(guarded, cell)


@pytest.mark.parametrize("cell", OPEN, ids=str)
async def test_where_anybody_may_call(wide_open: World, cell: Cell) -> None:
    await check(wide_open, cell)


async def check(world: World, cell: Cell) -> None:
    target = await world.thing(cell)
    before = await world.state_of(cell, target)

    response = await ask(world, cell, target)

    if cell.does is Does.LIST and cell.expected in {OWN, NONE, ALL}:
        assert_rows(response, world, cell.expected)
    elif cell.expected == GOOD:
        assert 200 <= response.status_code < 300, response.text
        assert cell.does not in {Does.READ, Does.CHANGE} or response.json()["id"] == target
    else:
        assert_refused(response, cell.expected)
        assert await world.state_of(cell, target) == before
        if cell.expected == "job_not_found":
            assert looks(response) == looks(world.nothing_there)


async def ask(world: World, cell: Cell, target: str) -> httpx2.Response:
    body = BODIES.get((cell.method, cell.path))
    return await world.gateway.client.request(
        cell.method,
        cell.path.replace("{id}", target),
        params={"limit": 200, "order": "asc"} if cell.does is Does.LIST else None,
        headers={**cell.row.headers(world.secrets), **SAME_ID, "content-type": "application/json"},
        content=None if body is None else json.dumps(numbered(body, cell)),
    )


def numbered(body: dict[str, Any], cell: Cell) -> dict[str, Any]:
    """Names of keys are unique."""
    return body | {"name": f"made by {cell}"[:128]} if "name" in body else body


def looks(response: httpx2.Response) -> tuple[bytes, dict[str, str]]:
    """Every byte of the body, every header but the time of day."""
    return response.content, {**response.headers, "date": ""}


def assert_rows(response: httpx2.Response, world: World, expected: str) -> None:
    assert response.status_code == 200, response.text
    listed = {entry["id"] for entry in response.json()["data"]}
    assert (world.by_a in listed) is (expected != NONE)
    assert (world.by_b in listed) is (expected != OWN)


# What is not there, in whichever way and however it is asked for


NOT_THERE: Final = ("foreign", "absent", "expired", "nil", "malformed", "escaped", "long")
HOW: Final[Mapping[str, tuple[str, Mapping[str, str], str]]] = {
    "plainly": ("GET", {}, ""),
    "as HEAD": ("HEAD", {}, ""),
    "held": ("GET", {"prefer": "wait=20"}, ""),
    "held by the query": ("GET", {}, "?wait=20"),
    "if changed": ("GET", {"if-none-match": "*"}, ""),
}
READS: Final = [route.path for route in ROUTES if DOES[route.method, route.path] is Does.READ]


@pytest.fixture(scope="module")
async def not_there(guarded: World) -> dict[str, str]:
    """Ids that key B may not read, each for a reason of its own."""
    ended = await guarded.gateway.submit(
        chat("moody/echo"), {"x-bf-async-job-result-ttl": "1", "prefer": "wait=20"}, key=OTHER_KEY
    )
    expired = ended.json()["id"]
    async with asyncio.timeout(NO_TIME):
        while (await guarded.gateway.poll(expired, key=OTHER_KEY)).status_code != 404:
            await asyncio.sleep(0.05)
    return dict(
        zip(
            NOT_THERE,
            (guarded.by_a, ABSENT, expired, NIL, "malformed", "%2e%2e%2f" + guarded.by_b, "a" * 500),
            strict=True,
        )
    )


@pytest.mark.parametrize("reason", NOT_THERE)
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("path", READS)
async def test_what_is_not_there_is_not_there_in_one_way(
    guarded: World, not_there: dict[str, str], path: str, how: str, reason: str
) -> None:
    method, headers, query = HOW[how]

    response = await guarded.gateway.client.request(
        method,
        path.replace("{id}", not_there[reason]) + query,
        headers={**bearer(OTHER_KEY), **SAME_ID, **headers},
    )

    content, shown = looks(guarded.nothing_there)
    assert response.status_code == 404
    assert looks(response) == (b"" if method == "HEAD" else content, shown)
