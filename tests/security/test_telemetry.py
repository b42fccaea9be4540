"""What clients write forges no log line and makes no new series (security.md T26, T27)."""

import io
import json
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, final

import pytest
import structlog

from api.admin import KEYS
from api.minting import admin_token, key_token
from api.raw import exchange, request
from api.world import bearer, config_of
from support.fakes import FakeClock
from support.gateway import CHAT, KEY, RunningGateway, chat, running
from tidegate.domain.access import KeyId, owner_of_key
from tidegate.domain.inference import Call, RequestType, Usage
from tidegate.domain.jobs import Claimed, Completed, JobId, Lane, Lease, NewJob, Options
from tidegate.logs import configure_logging
from tidegate.metrics import GatewayMetrics
from tidegate.mock_vendor import MockVendor

pytestmark = pytest.mark.anyio

FORGED: Final = "gateway.forged"
JSON_LINE: Final = json.dumps({"ts": "2026-01-01T00:00:00Z", "level": "info", "event": FORGED})
CONSOLE_LINE: Final = f"2026-01-01T00:00:00.000000Z [info     ] {FORGED}"
# A line break of every kind before each line, and what a terminal would obey.
BREAKS: Final = ("\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029")
CONTROLS: Final = (
    "\x00",
    "\x07",
    "\x08",
    "\x1b[2J",
    "\x1b]0;x\x07",
    "\x7f",
    "\x9b2J",
    "\u202e",
    "\u2066",
    "\ufeff",
)
HOSTILE: Final = (
    *(f"a{end}{line}" for end in BREAKS for line in (JSON_LINE, CONSOLE_LINE)),
    *(f"a{control}b" for control in CONTROLS),
    'a","event":"gateway.forged","x":"',
)


@final
class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@asynccontextmanager
async def logging_to(
    stream: io.StringIO, directory: Path, vendor: MockVendor
) -> AsyncIterator[RunningGateway]:
    """A gateway that logs everything."""
    configure_logging("debug", stream, has_colors=False)
    try:
        async with running(directory, config_of(directory, vendor)) as gateway:
            yield gateway
    finally:
        structlog.reset_defaults()


async def say_everything(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Hostile text in whatever of a client reaches a log line. What must have been logged, and how often."""
    said: Counter[str] = Counter()
    for number, text in enumerate(HOSTILE):
        assert (await gateway.submit(chat(f"moody/{text}"))).status_code == 202
        token = admin_token(f"{text}{number}")
        response = await gateway.client.post(KEYS, json={"name": text}, headers=bearer(token))
        assert response.status_code == 201
        wire = text.encode().decode("latin-1")
        await exchange(
            gateway.url, request(f"{CHAT}/x", f"Authorization: Bearer {KEY}", f"x-request-id: {wire}")
        )
        await gateway.client.get("/v1/async/jobs", headers=bearer(key_token(text)))
        with monkeypatch.context() as patch:
            patch.setattr(gateway.gateway.store.jobs, "list", broken(text))
            assert (await gateway.client.get("/v1/async/jobs", headers=bearer())).status_code == 500
        said += Counter({"job.accepted": 1, "request.broken": 1})
    return said


def broken(text: str) -> Any:
    async def fail(*_arguments: object, **_more: object) -> None:
        raise ValueError(text)

    return fail


async def test_json_lines_cannot_be_forged(
    vendor: MockVendor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.StringIO()
    async with logging_to(stream, tmp_path, vendor) as gateway:
        said = await say_everything(gateway, monkeypatch)

    shown = stream.getvalue()
    events = Counter(json.loads(line)["event"] for line in shown.removesuffix("\n").split("\n"))
    assert_no_controls(shown)
    assert FORGED not in events
    assert {event: events[event] for event in said} == dict(said)


async def test_console_lines_cannot_be_forged(
    vendor: MockVendor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Terminal()
    async with logging_to(stream, tmp_path, vendor) as gateway:
        said = await say_everything(gateway, monkeypatch)

    shown = stream.getvalue()
    events: Counter[str] = Counter()
    for line in shown.removesuffix("\n").split("\n"):
        if line.startswith("  "):
            continue  # of a traceback
        found = re.match(r"20\S+Z \[\w+ *\] ([a-z.]+) ", line)
        assert found, line
        events[found[1]] += 1
    assert_no_controls(shown)
    assert FORGED not in events
    assert {event: events[event] for event in said} == dict(said)


def assert_no_controls(shown: str) -> None:
    assert shown
    assert [one for one in set(shown) if not one.isprintable()] == ["\n"]


# Metrics

INVENTED: Final = 10_000


def series(page: str) -> set[str]:
    """Names with their labels; buckets and values apart."""
    return {line.rpartition(" ")[0] for line in page.splitlines() if line and not line.startswith("#")}


async def scraped(gateway: RunningGateway) -> set[str]:
    return series((await gateway.client.get("/metrics", headers=bearer(admin_token()))).text)


async def test_invented_models_routes_and_keys_make_no_series(gateway: RunningGateway) -> None:
    async def all_kinds(name: str) -> None:
        await gateway.run(chat(f"moody/{name}"))
        await gateway.run(chat(f"moody/{name}", fallbacks=[f"openai/{name}"]))
        await gateway.submit(chat(f"nowhere/{name}"))
        await gateway.submit(chat(name))
        await gateway.submit(key=f"sk-bf-{name}")
        await gateway.client.get(f"/{name}")
        await gateway.client.get(f"{CHAT}/{name}", headers=bearer())
        await gateway.client.request(name.upper(), CHAT)
        await gateway.run(None, {"x-request-id": name, "idempotency-key": name})

    await all_kinds("first")
    await scraped(gateway)  # which is a request of its own kind
    before = await scraped(gateway)

    for number in range(40):
        await all_kinds(f"invented-{number}")

    assert await scraped(gateway) == before
    assert not [name for name in before if "invented" in name or "first" in name]


async def test_ten_thousand_invented_models_are_one(gateway: RunningGateway) -> None:
    """All that a job tells the metrics, without the job."""
    metrics = gateway.gateway.telemetry._metrics
    tell(metrics, "before")
    before = await scraped(gateway)

    for number in range(INVENTED):
        tell(metrics, f"invented-{number}")

    assert await scraped(gateway) == before
    assert 'tidegate_jobs_submitted_total{model="other",type="chat_completion"}' in before


def tell(metrics: GatewayMetrics, model: str) -> None:
    clock = FakeClock()
    now = clock.now()
    name = f"openai/{model}"
    common: dict[str, Any] = {
        "request_type": RequestType.CHAT_COMPLETION,
        "owner": owner_of_key(KeyId("key-a")),
        "model": name,
        "candidates": (name,),
        "lane": Lane("openai"),
        "options": Options(),
        "passes_extra_params": False,
        "request_id": model,
        "created_at": now,
        "body": b"",
    }
    metrics.job_submitted(NewJob(id=JobId(model), actor=None, weight=1.0, **common))
    claimed = Claimed(
        lease=Lease(JobId(model), b""), key_id=None, deadline_at=now, started_at=now, attempt=1,
        failed_attempts=0, dead_keys=(), **common,
    )  # fmt: skip
    calls = (Call(0, "openai", model, "main", now, now, status_code=200, usage=Usage(1, 1, 2)),)
    metrics.job_ended(claimed, Completed(b"{}"), calls, duration=timedelta(0), was_ours=True)
