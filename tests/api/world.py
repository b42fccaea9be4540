"""The gateway of these tests: many providers and keys, so that every rule has something to bite on."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2

from support.gateway import KEY, OTHER_KEY, RunningGateway, configuration, provider
from tidegate.mock_vendor import MockVendor

LIMITED_KEY = "sk-bf-" + "c" * 43
NOTHING_KEY = "sk-bf-" + "d" * 43
INACTIVE_KEY = "sk-bf-" + "e" * 43
EXPIRED_KEY = "sk-bf-" + "f" * 43
MODEST_KEY = "sk-bf-" + "g" * 43
ROUTED_KEY = "sk-bf-" + "h" * 43
IMPORTED_KEY = "an imported secret without the prefix"

SCRIPT: dict[str, Any] = {
    "rules": [
        {"model": "held", "hang": "before_headers"},
        {"model": "late", "latency": 0.3},
        {"model": "refused", "status": 400, "error": {"error": {"message": "no such thing"}}},
        {"model": "limited", "status": 429, "retry_after": 45},
    ]
}


def providers(url: str) -> dict[str, Any]:
    """``openai`` takes everything; the others each stand for one rule.

    ``limiting`` answers ``limited`` once and is left alone after that, as it asks for.
    """
    return {
        "openai": provider(url),
        "other": provider(
            url,
            keys=[{"name": "o", "value": "sk-vendor-other", "models": ["llama", "shared"]}],
            custom_provider_config={"base_provider_type": "openai"},
        ),
        "mistral": provider(
            url, keys=[{"name": "m", "value": "sk-vendor-m", "models": ["small"], "enabled": False}]
        ),
        "narrow": provider(
            url,
            custom_provider_config={"base_provider_type": "openai"},
            concurrency_and_buffer_size={"concurrency": 1},
        ),
        "moody": provider(url, custom_provider_config={"base_provider_type": "openai"}),
        "limiting": provider(url, custom_provider_config={"base_provider_type": "openai"}),
    }


def virtual_keys() -> list[dict[str, Any]]:
    long_ago = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    return [
        {"name": "a", "id": "key-a", "value": KEY},
        {"name": "b", "id": "key-b", "value": OTHER_KEY},
        {
            "name": "limited",
            "id": "key-limited",
            "value": LIMITED_KEY,
            "provider_configs": [{"provider": "openai", "allowed_models": ["echo"]}],
        },
        {"name": "nothing", "id": "key-nothing", "value": NOTHING_KEY, "provider_configs": []},
        {"name": "inactive", "id": "key-inactive", "value": INACTIVE_KEY, "is_active": False},
        {"name": "expired", "id": "key-expired", "value": EXPIRED_KEY, "expires_at": long_ago},
        {
            "name": "modest",
            "id": "key-modest",
            "value": MODEST_KEY,
            "async": {"result_ttl_max": 60, "priority_ceiling": 4},
        },
        {
            "name": "routed",
            "value": ROUTED_KEY,
            "provider_configs": [
                {"provider": "openai", "allowed_models": ["*"], "weight": 1},
                {"provider": "other", "allowed_models": ["shared"], "weight": 0.5},
            ],
        },
        {"name": "imported", "id": "key imported", "value": IMPORTED_KEY},
    ]


def config_of(directory: Path, vendor: MockVendor) -> dict[str, Any]:
    return configuration(
        directory,
        vendor.url,
        providers=providers(vendor.url),
        governance={"virtual_keys": virtual_keys()},
        server={"host": "127.0.0.1", "port": 0, "drain_timeout": "0s"},
    )


def bearer(secret: str = KEY) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


async def cancel(gateway: RunningGateway, job_id: str, secret: str = KEY) -> httpx2.Response:
    return await gateway.client.post(f"/v1/async/jobs/{job_id}/cancel", headers=bearer(secret))


async def until_processing(gateway: RunningGateway, job_id: str) -> None:
    """The job has been claimed."""
    async with asyncio.timeout(20):
        while (await gateway.poll(job_id)).json()["status"] != "processing":
            await asyncio.sleep(0.01)
