"""Other gateways beside this one: the same calls to the same mock vendor, one process each, on the same core."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from typing import Final

from msgspec import Struct

from benchmarks.bench import CLIENTS, Bench, Server, vendor_url
from benchmarks.load import requests
from benchmarks.load.loops import closed_loop, send_all
from benchmarks.load.session import Load
from benchmarks.machine import processes, sockets
from benchmarks.machine.http import fetch, free_port
from benchmarks.machine.proc import resident_bytes
from benchmarks.machine.processes import Child
from benchmarks.peers.installing import LEFT_OUT, environment, run, why

LITELLM: Final = "litellm[proxy]==1.106.*"
PORTKEY: Final = "@portkey-ai/gateway@1.15"
_BODY: Final = 1024
_READY_WITHIN: Final = 120.0
_SECONDS: Final = 5.0
_MIB: Final = 2**20
_LOOPBACK: Final = Path(__file__).parents[1] / "children" / "loopback.cjs"
_VENDOR_KEY: Final = "sk-vendor-main"
_PEER_KEY: Final = "sk-a-key-of-the-peer-that-is-long-enough-to-be-taken"


class Peer(Struct, frozen=True):
    """One gateway as it was measured; ``note`` says why where it was not."""

    name: str
    rate: float = 0.0
    cpu_ms: float = 0.0
    p50: float = 0.0
    p99: float = 0.0
    memory: float = 0.0
    ready: float = 0.0
    note: str = ""


async def measure(bench: Bench, place: Path, warm_up: int) -> list[Peer]:
    """``place`` keeps what was installed. Each is warmed up with so many calls."""
    async with bench.vendor() as vendor:
        return [
            await _measured("tidegate", _tidegate(bench, vendor), _ours(), bench, warm_up),
            await _peer("LiteLLM", place, bench, vendor, warm_up),
            await _peer("Portkey", place, bench, vendor, warm_up),
        ]


async def _peer(name: str, place: Path, bench: Bench, vendor: Server, warm_up: int) -> Peer:
    install, start, call = {
        "LiteLLM": (_install_litellm, _litellm, _litellm_call),
        "Portkey": (_install_portkey, _portkey, _portkey_call),
    }[name]
    bench.say(f"installing {name}")
    try:
        await asyncio.to_thread(install, place)
        return await _measured(name, start(bench, place, vendor), call(vendor), bench, warm_up)
    except LEFT_OUT as error:
        return Peer(name, note=why(error))


async def _measured(
    name: str,
    starting: AbstractAsyncContextManager[tuple[Child, int]],
    call: bytes,
    bench: Bench,
    warm_up: int,
) -> Peer:
    began = time.perf_counter()
    async with starting as (child, port):
        await _until_answered(child, port, call)
        ready = time.perf_counter() - began
        if found := sockets.open_to_others(child.pids):
            raise child.failure(f"listens on {', '.join(found)}")
        load = Load(port, lambda: call, CLIENTS, expected=frozenset({200}))
        await send_all(load, warm_up)
        bench.say(f"{name}: {_SECONDS:g} s")
        server = Server(child, port, bench.directory)
        sample = await closed_loop(load, server.meter(), _SECONDS)
        memory = sum(resident_bytes(pid) for pid in child.pids) / _MIB
    latency = sample.latency
    return Peer(
        name,
        rate=sample.rate,
        cpu_ms=(sample.cpu_us or 0) / 1000,
        p50=latency.p50 if latency else 0.0,
        p99=latency.p99 if latency else 0.0,
        memory=memory,
        ready=ready,
    )


async def _until_answered(child: Child, port: int, call: bytes) -> None:
    """The first call that ends well. Raises ``ChildFailed``."""
    head, _, body = call.partition(b"\r\n\r\n")
    _, path, _ = head.split(b" ", 2)
    headers = dict(line.decode().split(": ", 1) for line in head.split(b"\r\n")[1:])
    headers.pop("content-length", None)
    give_up = time.monotonic() + _READY_WITHIN
    while True:
        child.check()
        status = 0
        with suppress(OSError, HTTPException):
            status, _ = await asyncio.to_thread(
                fetch, port, "POST", path.decode(), headers=headers, body=body
            )
        if status == 200:
            return
        if time.monotonic() > give_up:
            raise child.failure(f"answered {status} to the last call before {_READY_WITHIN:g} s were over")
        await asyncio.sleep(0.05)


# Each gateway: how it is installed, how it is started, and what a call to it looks like.


@asynccontextmanager
async def _tidegate(bench: Bench, vendor: Server) -> AsyncIterator[tuple[Child, int]]:
    async with bench.gateway(vendor) as gateway:
        yield gateway.child, gateway.port


def _ours() -> bytes:
    """Durable, and held until the job has ended: what comes nearest to a synchronous call."""
    return requests.submit(requests.chat_body(_BODY), prefer="wait=30")


def _install_litellm(place: Path) -> None:
    environment(place, "litellm", LITELLM)


@asynccontextmanager
async def _litellm(bench: Bench, place: Path, vendor: Server) -> AsyncIterator[tuple[Child, int]]:
    directory, port = bench.new_directory("litellm"), free_port()
    model = {"model": "openai/echo", "api_base": f"{vendor_url(vendor)}/v1", "api_key": _VENDOR_KEY}
    config = directory / "config.yaml"
    config.write_text(json.dumps({"model_list": [{"model_name": "echo", "litellm_params": model}]}), "utf-8")
    command = [
        str(place / "litellm" / "bin" / "litellm"), "--config", str(config), "--host", "127.0.0.1",
        "--port", str(port), "--num_workers", "1", "--telemetry", "False",
    ]  # fmt: skip
    with _started(
        bench, command, directory, {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MASTER_KEY": _PEER_KEY}
    ) as child:
        yield child, port


def _litellm_call(_vendor: Server) -> bytes:
    return requests.post(
        "/v1/chat/completions", requests.chat_body(_BODY, "echo"), {"authorization": f"Bearer {_PEER_KEY}"}
    )


def _install_portkey(place: Path) -> None:
    folder = place / "portkey"
    if not _portkey_server(place).exists():
        folder.mkdir(exist_ok=True)
        run(["npm", "install", "--silent", "--no-audit", "--ignore-scripts", PORTKEY], folder)


@asynccontextmanager
async def _portkey(bench: Bench, place: Path, _vendor: Server) -> AsyncIterator[tuple[Child, int]]:
    directory, port = bench.new_directory("portkey"), free_port()
    start = str(_portkey_server(place))
    command = ["node", "--require", str(_LOOPBACK), start, f"--port={port}", "--headless"]
    with _started(bench, command, directory, {}) as child:
        yield child, port


def _portkey_server(place: Path) -> Path:
    return place / "portkey" / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"


def _portkey_call(vendor: Server) -> bytes:
    headers = {
        "authorization": f"Bearer {_VENDOR_KEY}",
        "x-portkey-provider": "openai",
        "x-portkey-custom-host": f"{vendor_url(vendor)}/v1",
    }
    return requests.post("/v1/chat/completions", requests.chat_body(_BODY, "echo"), headers)


def _started(
    bench: Bench, command: Sequence[str], directory: Path, variables: Mapping[str, str]
) -> AbstractContextManager[Child]:
    return processes.running(
        command,
        core=bench.cores.server,
        log=directory / "log.txt",
        environment={**os.environ, **variables},
    )
