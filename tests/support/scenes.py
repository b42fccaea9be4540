"""What scenarios of running jobs share: providers that hang, lanes that are full, what a job's view says."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from support.gateway import KEY, RunningGateway, chat, configuration, provider, running
from tidegate.mock_vendor import MockVendor

PATIENCE: Final = 20.0
"""Seconds a scenario waits for anything."""
ONE_AT_A_TIME: Final = {"concurrency_and_buffer_size": {"concurrency": 1}}


def own_provider(url: str, network: Mapping[str, Any] | None = None, **members: Any) -> dict[str, Any]:
    """A provider under a name of the operator's own that speaks OpenAI's dialect."""
    made = provider(url, custom_provider_config={"base_provider_type": "openai"}, **members)
    return made | {"network_config": made["network_config"] | (network or {})}


@asynccontextmanager
async def gateway_on(
    directory: Path, vendor: MockVendor, providers: Mapping[str, Any] | None = None, **sections: Any
) -> AsyncIterator[RunningGateway]:
    """A gateway at ``vendor``, by default with one provider, ``openai``."""
    if providers is not None:
        sections["providers"] = providers
    async with running(directory, configuration(directory, vendor.url, **sections)) as gateway:
        yield gateway


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not is_so():
            await asyncio.sleep(0.005)


async def held_up(gateway: RunningGateway, vendor: MockVendor, model: str = "openai/hang") -> str:
    """A job whose call the vendor keeps waiting."""
    before = vendor.in_flight
    job = await gateway.accepted(chat(model))
    await until(lambda: vendor.in_flight > before)
    return job


async def cancel(gateway: RunningGateway, job: str) -> dict[str, Any]:
    answer = await gateway.client.post(
        f"/v1/async/jobs/{job}/cancel", headers={"authorization": f"Bearer {KEY}"}
    )
    assert answer.status_code == 200, answer.text
    view = answer.json()
    assert isinstance(view, dict)
    return view


def calls_of(view: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [call for attempt in view["attempts"] for call in attempt["calls"]]


def read_error(view: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of the table of job errors, as the rich view shows them, and the calls in short."""
    error = view["error"]
    assert (error["type"], error["status_code"]) == (error["error"]["code"], view["status_code"])
    assert {error["event_id"], error["error"]["event_id"]} == {view["request_id"]}
    return {
        "status": view["status"],
        "status_code": view["status_code"],
        "bf": error["is_bifrost_error"],
        "type": error["error"]["type"],
        "code": error["error"]["code"],
        "message": error["error"]["message"],
        "outcome": view["outcome"],
        "calls": [
            (call.get("status_code"), call.get("error_code"), call.get("billing")) for call in calls_of(view)
        ],
    }
