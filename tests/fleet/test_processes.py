"""``--processes N``: several processes on one address, seen as one."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.gateway import CHAT, configuration
from support.load import BODY, HEADERS
from support.processes import free_port
from support.wire import Connection
from tidegate.mock_vendor import MockVendor

pytestmark = pytest.mark.anyio

COUNT = 3
TOLD_WITHIN = 2.0


@pytest.fixture
async def vendor() -> AsyncIterator[MockVendor]:
    async with MockVendor.serve(script={"rules": []}) as running:
        yield running


@contextmanager
def family(
    tmp_path: Path, url: str, vendor_url: str, **sections: Any
) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    port = free_port()
    config = configuration(
        tmp_path, vendor_url, store={"url": url}, server={"host": "127.0.0.1", "port": port}, **sections
    )
    file = tmp_path / "tidegate.json"
    file.write_text(json.dumps(config))
    file.chmod(0o600)
    with (tmp_path / "log").open("wb") as log:
        parent = subprocess.Popen(
            [sys.executable, "-m", "tidegate", "serve", "--config", str(file), "--processes", str(COUNT)],
            stdout=log, stderr=log, cwd=tmp_path,
        )  # fmt: skip
    try:
        yield parent, port
    finally:
        for pid in [*children(parent.pid), parent.pid]:
            if parent.poll() is None:
                os.kill(pid, signal.SIGKILL)
        parent.wait()


def children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


async def until_ready(tmp_path: Path, count: int) -> list[int]:
    """Process ids as they say it themselves, in their logs."""
    async with asyncio.timeout(30):
        while True:
            lines = [
                line for line in (tmp_path / "log").read_text().splitlines() if "gateway.started" in line
            ]
            if len(lines) >= count:
                return [json.loads(line)["pid"] for line in lines]
            await asyncio.sleep(0.05)


async def submit(port: int) -> int:
    async with Connection("127.0.0.1", port) as connection:
        return (await connection.request("POST", CHAT, HEADERS, BODY)).status


async def test_they_answer_together_and_stop_together(tmp_path: Path, url: str, vendor: MockVendor) -> None:
    with family(tmp_path, url, vendor.url) as (parent, port):
        started = await until_ready(tmp_path, COUNT)
        answers = Counter(await asyncio.gather(*[submit(port) for _ in range(60)]))
        parent.send_signal(signal.SIGTERM)
        code = await asyncio.to_thread(parent.wait, 30)

    assert len(set(started)) == COUNT
    assert answers == {202: 60}
    assert code == 0
    assert (tmp_path / "log").read_text().count("Try it") == 1


async def test_one_that_is_killed_is_started_again(tmp_path: Path, url: str, vendor: MockVendor) -> None:
    with family(tmp_path, url, vendor.url) as (parent, port):
        first, *_ = await until_ready(tmp_path, COUNT)
        os.kill(first, signal.SIGKILL)
        started = await until_ready(tmp_path, COUNT + 1)
        answers = Counter(await asyncio.gather(*[submit(port) for _ in range(30)]))
        parent.send_signal(signal.SIGTERM)
        code = await asyncio.to_thread(parent.wait, 30)

    assert len(set(started)) == COUNT + 1
    assert answers == {202: 30}
    assert code == 0


async def submitted(port: int) -> int:
    """As a scrape tells it, of whichever process answers."""
    async with Connection("127.0.0.1", port) as connection:
        answer = await connection.request("GET", "/metrics")
    counts = re.findall(rb"^tidegate_jobs_submitted_total\{[^}]*\} ([0-9.]+)$", answer.body, re.MULTILINE)
    return round(sum(map(float, counts)))


async def test_a_scrape_of_any_shows_the_counts_of_all(tmp_path: Path, url: str, vendor: MockVendor) -> None:
    with family(tmp_path, url, vendor.url, metrics={"public": True}) as (parent, port):
        first, *_ = await until_ready(tmp_path, COUNT)
        await asyncio.gather(*[submit(port) for _ in range(60)])
        await asyncio.sleep(TOLD_WITHIN)
        seen = [await submitted(port) for _ in range(12)]
        os.kill(first, signal.SIGKILL)
        await until_ready(tmp_path, COUNT + 1)
        later = [await submitted(port) for _ in range(12)]
        parent.send_signal(signal.SIGTERM)
        await asyncio.to_thread(parent.wait, 30)

    assert seen == later == [60] * 12


async def test_without_their_parent_they_stop(tmp_path: Path, url: str, vendor: MockVendor) -> None:
    with family(tmp_path, url, vendor.url) as (parent, _port):
        started = await until_ready(tmp_path, COUNT)
        parent.kill()
        parent.wait()
        give_up = time.monotonic() + 15
        while any(map(_runs, started)):
            assert time.monotonic() < give_up, "orphans go on"
            await asyncio.sleep(0.1)


def _runs(pid: int) -> bool:
    """Whether it is a process still, and no zombie that nobody has buried."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_a_configuration_that_does_not_hold_ends_all_of_them(tmp_path: Path, url: str) -> None:
    missing = url.rpartition("/")[0] + "/nowhere"
    with family(tmp_path, missing, "http://127.0.0.1:9") as (parent, _port):
        code = await asyncio.to_thread(parent.wait, 30)

    assert code == 4
    assert "there is no such database" in (tmp_path / "log").read_text()


async def test_the_command_line_has_rights_by_the_fleets_key(
    tmp_path: Path, url: str, vendor: MockVendor
) -> None:
    config = configuration(tmp_path, vendor.url, store={"url": url}, server={"port": free_port()})
    config["auth"] = {"local_issuer_key": "env.ISSUER_KEY"}
    file = tmp_path / "tidegate.json"
    file.write_text(json.dumps(config))
    command = [sys.executable, "-m", "tidegate"]
    variables = {**os.environ, "ISSUER_KEY": "k" * 32, "NO_COLOR": "1"}
    with (tmp_path / "log").open("wb") as log:
        gateway = subprocess.Popen(
            [*command, "serve", "--config", str(file)], stdout=log, stderr=log, env=variables, cwd=tmp_path
        )
    try:
        await until_ready(tmp_path, 1)
        listed = await asyncio.to_thread(
            subprocess.run, [*command, "keys", "list", "--config", str(file), "--json"],
            check=False, capture_output=True, text=True, env=variables, timeout=30,
        )  # fmt: skip
    finally:
        gateway.terminate()
        gateway.wait(30)

    assert listed.returncode == 0, listed.stderr
    assert not (tmp_path / "tidegate-data" / "local-issuer.key").exists()
