"""Two tenants at once, in any order, with caches warm or cold: neither sees anything of the other (security.md T21)."""

import asyncio
from typing import Any, Final, Literal, final

import httpx2
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from msgspec import Struct

from api.admin import KEYS, create
from api.minting import admin_token, key_token
from api.world import bearer
from support.gateway import CHAT, NO_TIME, RunningGateway, chat

pytestmark = pytest.mark.anyio

JOBS: Final = "/v1/async/jobs"
# A short story that fails is told as it is: looking for the shortest one takes minutes.
PHASES: Final = (Phase.explicit, Phase.reuse, Phase.generate)
Verb = Literal["submit", "poll", "view", "cancel", "list", "rotate"]


class Step(Struct, frozen=True):
    """One thing one tenant does. ``pick`` chooses among the jobs of both."""

    tenant: int
    verb: Verb
    pick: int
    by_token: bool
    key: str | None
    """``Idempotency-Key``: both use the same few."""


STEPS: Final = st.lists(
    st.builds(
        Step,
        tenant=st.integers(0, 1),
        verb=st.sampled_from(["submit", "submit", "poll", "poll", "view", "cancel", "list", "rotate"]),
        pick=st.integers(0, 50),
        by_token=st.booleans(),
        key=st.sampled_from([None, None, "one", "two"]),
    ),
    min_size=8,
    max_size=24,
)


@final
class Tenants:
    """Two keys, every job they made, and what each must and must not see."""

    def __init__(self, gateway: RunningGateway) -> None:
        self._gateway = gateway
        self._ids: list[str] = []
        self._secrets: list[str] = []
        self._jobs: list[tuple[int, str, str]] = []
        """Tenant, id and text."""
        self._by_idempotency: dict[tuple[int, str], str] = {}
        self._said = 0

    async def __aenter__(self) -> "Tenants":
        for number in range(2):
            made = await create(self._gateway, name=f"tenant {number} of {id(self)}")
            self._ids.append(made["id"])
            self._secrets.append(made["value"])
        return self

    async def __aexit__(self, *_exc: object) -> None:
        for key_id in self._ids:
            await self._gateway.client.delete(
                f"{KEYS}/{key_id}?cancel_jobs=true", headers=bearer(admin_token())
            )

    async def take(self, step: Step) -> None:
        match step.verb:
            case "submit":
                await self._submit(step)
            case "list":
                await self._list(step)
            case "rotate":
                await self._rotate(step)
            case _:
                await self._look(step)

    def _credential(self, step: Step) -> dict[str, str]:
        return bearer(key_token(self._ids[step.tenant]) if step.by_token else self._secrets[step.tenant])

    async def _ask(self, method: str, path: str, step: Step, **more: Any) -> httpx2.Response:
        headers = self._credential(step) | more.pop("headers", {})
        return await self._gateway.client.request(method, path, headers=headers, **more)

    async def _submit(self, step: Step) -> None:
        self._said += 1
        # With an idempotency key the text repeats, or it would be another request.
        text = f"tenant {step.tenant} says {step.key or self._said}"
        headers = {"idempotency-key": step.key} if step.key else {}
        response = await self._ask("POST", CHAT, step, json=chat("moody/echo", text), headers=headers)
        assert response.status_code == 202, response.text
        job = response.json()["id"]
        known = self._by_idempotency.setdefault((step.tenant, step.key), job) if step.key else job
        assert job == known
        if (step.tenant, job, text) not in self._jobs:
            assert job not in {other for _, other, _ in self._jobs}
            self._jobs.append((step.tenant, job, text))

    async def _look(self, step: Step) -> None:
        if not self._jobs:
            return
        owner, job, text = self._jobs[step.pick % len(self._jobs)]
        method, path = {
            "poll": ("GET", f"{CHAT}/{job}"),
            "view": ("GET", f"{JOBS}/{job}"),
            "cancel": ("POST", f"{JOBS}/{job}/cancel"),
        }[step.verb]
        response = await self._ask(method, path, step)
        if owner != step.tenant:
            assert response.status_code == 404
            assert text not in response.text
            assert job not in response.text
        else:
            assert response.status_code in {200, 202, 409}, response.text
            found = response.json()
            assert found.get("status") != "completed" or text in response.text

    async def _list(self, step: Step) -> None:
        before = {job for owner, job, _ in self._jobs if owner == step.tenant}
        response = await self._ask("GET", f"{JOBS}?limit=200", step)
        listed = {entry["id"] for entry in response.json()["data"]}
        assert before <= listed
        assert not listed & {job for owner, job, _ in self._jobs if owner != step.tenant}

    async def _rotate(self, step: Step) -> None:
        """The old secret is worth nothing from then on."""
        old, key_id = self._secrets[step.tenant], self._ids[step.tenant]
        made = await self._gateway.client.post(f"{KEYS}/{key_id}/rotate", headers=bearer(admin_token()))
        self._secrets[step.tenant] = made.json()["virtual_key"]["value"]
        refused = await self._gateway.client.get(JOBS, headers=bearer(old))
        assert refused.status_code == 401


@settings(max_examples=30, deadline=None, phases=PHASES)
@given(steps=STEPS)
async def test_one_after_the_other(gateway: RunningGateway, steps: list[Step]) -> None:
    async with Tenants(gateway) as tenants, asyncio.timeout(NO_TIME):
        for step in steps:
            await tenants.take(step)


@settings(max_examples=20, deadline=None, phases=PHASES)
@given(first=STEPS, then=STEPS)
async def test_both_at_once(gateway: RunningGateway, first: list[Step], then: list[Step]) -> None:
    """Everything but changes of keys, which would refuse what is under way."""
    async with Tenants(gateway) as tenants, asyncio.timeout(NO_TIME):
        for steps in (first, then):
            together = [step for step in steps if step.verb != "rotate"]
            await asyncio.gather(*map(tenants.take, together))
