"""The official OpenAI SDK, unmodified, with nothing but its base URL and key changed."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletion

from support.gateway import KEY, RunningGateway, gateway_with_vendor

pytestmark = pytest.mark.anyio


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    async with gateway_with_vendor(tmp_path) as (running, _vendor):
        yield running


def submit_and_poll(base_url: str) -> dict[str, Any]:
    with OpenAI(base_url=base_url, api_key=KEY, max_retries=0) as client:
        job: Any = client.post(
            "/async/chat/completions",
            cast_to=object,
            body={"model": "openai/echo", "messages": [{"role": "user", "content": "high water?"}]},
        )
        assert set(job) == {"id", "status", "created_at"}
        while job["status"] in {"pending", "processing"}:
            time.sleep(0.02)
            job = client.get(f"/async/chat/completions/{job['id']}", cast_to=object)
        assert isinstance(job, dict)
        return job


async def test_submit_and_poll(gateway: RunningGateway) -> None:
    job = await asyncio.to_thread(submit_and_poll, f"{gateway.url}/v1")

    assert list(job) == ["id", "status", "expires_at", "created_at", "completed_at", "status_code", "result"]
    completion = ChatCompletion.model_validate(job["result"])
    assert completion.choices[0].message.content == "high water?"


async def test_the_async_client_gets_the_result_type_it_asks_for(gateway: RunningGateway) -> None:
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=KEY, max_retries=0) as client:
        job: Any = await client.post(
            "/async/chat/completions",
            cast_to=object,
            body={"model": "openai/echo", "messages": [{"role": "user", "content": "hi"}]},
            options={"headers": {"Prefer": "wait=20"}},
        )

    assert job["status"] == "completed"


async def test_errors_are_the_sdks_own_exceptions(gateway: RunningGateway) -> None:
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=KEY, max_retries=0) as client:
        with pytest.raises(openai.BadRequestError) as refused:
            await client.post("/async/chat/completions", cast_to=object, body={"model": "openai/echo"})
    async with openai.AsyncOpenAI(
        base_url=f"{gateway.url}/v1", api_key="sk-bf-wrong", max_retries=0
    ) as client:
        with pytest.raises(openai.AuthenticationError) as unknown:
            await client.get("/async/chat/completions/x", cast_to=object)

    assert refused.value.code == "missing_required_parameter"
    assert refused.value.param == "messages"
    assert unknown.value.code == "virtual_key_not_found"
