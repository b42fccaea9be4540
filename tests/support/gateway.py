"""A whole gateway in the test's own process: real store, real HTTP, the mock vendor at its side."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, final

import httpx2

from tidegate.api.connection_watch import DEFAULT_LIMITS, ConnectionLimits
from tidegate.bootstrap import Gateway, build
from tidegate.mock_vendor import MockVendor
from tidegate.providers import VENDORS
from tidegate.serving import Process, bind
from tidegate.settings import load
from tidegate.store.sqlite import SqliteStore

KEY: Final = "sk-bf-" + "a" * 43
OTHER_KEY: Final = "sk-bf-" + "b" * 43
JWT_SECRET: Final = "a secret of more than thirty-two bytes"
CHAT: Final = "/v1/async/chat/completions"
NO_TIME: Final = 30.0


def chat(model: str = "openai/echo", text: str = "hello", **members: Any) -> dict[str, Any]:
    """A small chat request."""
    return {"model": model, "messages": [{"role": "user", "content": text}], **members}


def configuration(directory: Path, vendor_url: str, **sections: Any) -> dict[str, Any]:
    """Settings with two keys, one provider ``openai`` at the mock vendor, and a token issuer."""
    return {
        "server": {"host": "127.0.0.1", "port": 0},
        "store": {"url": f"sqlite:///{directory}/tidegate.db"},
        "auth": {
            "jwt": {
                "issuers": [
                    {
                        "iss": "https://id.example",
                        "aud": "tidegate",
                        "algorithms": ["HS256"],
                        "key": JWT_SECRET,
                        "kinds": ["virtual_key", "admin"],
                    }
                ]
            }
        },
        "governance": {
            "virtual_keys": [
                {"name": "a", "id": "key-a", "value": KEY},
                {"name": "b", "id": "key-b", "value": OTHER_KEY},
            ]
        },
        "providers": {"openai": provider(vendor_url)},
    } | sections


def provider(url: str, **members: Any) -> dict[str, Any]:
    """A provider at ``url`` that retries quickly."""
    return {
        "keys": [{"name": "main", "value": "sk-vendor-main"}],
        "network_config": {
            "base_url": url,
            "retry_backoff_initial": 5,
            "retry_backoff_max": 20,
        },
    } | members


@final
class RunningGateway:
    """A gateway that answers, with a client for its key ``a``."""

    def __init__(self, gateway: Gateway, url: str, client: httpx2.AsyncClient) -> None:
        self.gateway = gateway
        self.url = url
        self.client = client

    async def submit(
        self, body: Any = None, headers: Mapping[str, str] | None = None, *, key: str = KEY
    ) -> httpx2.Response:
        request = chat() if body is None else body
        return await self.client.post(
            CHAT, json=request, headers={"authorization": f"Bearer {key}", **(headers or {})}
        )

    async def accepted(
        self, body: Any = None, headers: Mapping[str, str] | None = None, *, key: str = KEY
    ) -> str:
        """The id of a job that was accepted."""
        response = await self.submit(body, headers, key=key)
        assert response.status_code == 202, response.text
        job_id = response.json()["id"]
        assert isinstance(job_id, str)
        return job_id

    async def poll(
        self, job_id: str, headers: Mapping[str, str] | None = None, *, key: str = KEY
    ) -> httpx2.Response:
        return await self.client.get(
            f"{CHAT}/{job_id}", headers={"authorization": f"Bearer {key}", **(headers or {})}
        )

    async def ended(self, job_id: str, *, key: str = KEY) -> dict[str, Any]:
        """The envelope of the job once it has ended."""
        async with asyncio.timeout(NO_TIME):
            while True:
                response = await self.poll(job_id, {"prefer": "wait=20"}, key=key)
                if response.status_code == 200:
                    envelope = response.json()
                    assert isinstance(envelope, dict)
                    return envelope
                assert response.status_code == 202, response.text

    @property
    def sqlite(self) -> SqliteStore:
        """What is behind the ports, on one machine."""
        store = self.gateway.store
        assert isinstance(store, SqliteStore)
        return store

    async def run(self, body: Any = None, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Submit and wait for the end."""
        return await self.ended(await self.accepted(body, headers))

    async def details(self, job_id: str, *, key: str = KEY) -> dict[str, Any]:
        """The rich view."""
        response = await self.client.get(
            f"/v1/async/jobs/{job_id}", headers={"authorization": f"Bearer {key}"}
        )
        assert response.status_code == 200, response.text
        view = response.json()
        assert isinstance(view, dict)
        return view


@asynccontextmanager
async def running(
    directory: Path, config: Mapping[str, Any], limits: ConnectionLimits = DEFAULT_LIMITS
) -> AsyncIterator[RunningGateway]:
    """Start a gateway with ``config``, written to a file in ``directory``, and stop it in order."""
    failures: list[str] = []
    file = directory / "tidegate.json"
    file.write_text(json.dumps(config), "utf-8")
    file.chmod(0o600)
    settings = load(file, {}, vendors=VENDORS)
    listener = bind(settings.server.host, settings.server.port)
    try:
        gateway = await build(settings, on_fatal=failures.append)
    except BaseException:
        listener.close()
        raise
    process = Process(gateway, listener, limits)
    ready = asyncio.Event()

    async def on_ready() -> None:
        ready.set()

    task = asyncio.create_task(process.run(on_ready))
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        await task
    host, port = process.address
    url = f"http://{host}:{port}"
    try:
        async with httpx2.AsyncClient(base_url=url, timeout=NO_TIME, trust_env=False) as client:
            yield RunningGateway(gateway, url, client)
    finally:
        process.request_stop()
        await task
    assert failures == []


@asynccontextmanager
async def gateway_with_vendor(
    directory: Path, script: Mapping[str, Any] | None = None, **sections: Any
) -> AsyncIterator[tuple[RunningGateway, MockVendor]]:
    """A gateway and the vendor it calls."""
    async with MockVendor.serve(script=script) as vendor:
        config = configuration(directory, vendor.url, **sections)
        async with running(directory, config) as gateway:
            yield gateway, vendor
