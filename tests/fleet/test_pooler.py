"""PgBouncer in transaction mode between the processes and their database, of which each transaction gets another session.

``TIDEGATE_POOLER_RESTARTS`` says how often it is killed under load; without it none of this is collected.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from benchmarks.machine.postgres import PostgresServer
from support.fleet import fleet, rows, under_load
from support.gateway import CHAT
from support.load import BODY, HEADERS, again
from support.pgbouncer import PgBouncer, pgbouncer
from support.wire import Connection
from tidegate.clock import SystemClock, SystemRng
from tidegate.domain.secret import Secret
from tidegate.mock_vendor import MockVendor
from tidegate.store.postgres import PostgresOptions, PostgresStore
from tidegate.store.refusal import StoreRefused

pytestmark = pytest.mark.anyio

RESTARTS: Final = int(os.environ.get("TIDEGATE_POOLER_RESTARTS", "2"))
POOLED: Final[dict[str, Any]] = {"pooler": True}
MEMBERS: Final = ("gateway-0", "gateway-1", "worker-0", "worker-1")
RESUMES_WITHIN: Final = 5.0
DROPS_SETTINGS: Final = (
    "ignore_startup_parameters = lock_timeout,statement_timeout,idle_in_transaction_session_timeout,"
    "jit,enable_seqscan,enable_hashjoin,enable_mergejoin"
)


@pytest.fixture
def pooler(server: PostgresServer) -> Iterator[PgBouncer]:
    with pgbouncer(server) as running:
        yield running


@pytest.fixture
def through(pooler: PgBouncer, url: str) -> str:
    return pooler.url(url.rpartition("/")[2])


async def test_a_fleet_behind_a_pooler_that_is_killed(
    tmp_path: Path, url: str, through: str, pooler: PgBouncer, record_property: Callable[[str, object], None]
) -> None:
    """Nothing is lost, every accept runs with our settings, and no session keeps anything of ours."""
    await rows(url, f"ALTER DATABASE {url.rpartition('/')[2]} SET synchronous_commit = off")
    ways = dict.fromkeys(MEMBERS, through)
    async with under_load(tmp_path, url, 2, ways=ways, store=POOLED) as (_, loads):
        await rows(
            url, "CREATE TABLE seen (commits text, lock text, scan text, PRIMARY KEY (commits, lock, scan))"
        )
        await rows(
            url,
            """CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                INSERT INTO seen VALUES (current_setting('synchronous_commit'), current_setting('lock_timeout'),
                    current_setting('enable_seqscan')) ON CONFLICT DO NOTHING;
                RETURN NULL; END $$""",
        )
        await rows(url, "CREATE TRIGGER look AFTER INSERT ON jobs EXECUTE FUNCTION look()")
        for _ in range(RESTARTS):
            await asyncio.sleep(1)
            pooler.kill()
            await asyncio.sleep(0.5)
            pooler.start()
            await asyncio.gather(*[again(load, time.monotonic(), RESUMES_WITHIN) for load in loads])
        await asyncio.sleep(1)
        locks = await rows(url, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
        sessions = await rows(
            url,
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tidegate' AND datname = current_database()",
        )

    record_property("tried", RESTARTS)
    assert await rows(url, "SELECT * FROM seen") == [("on", "2s", "off")]
    assert locks == [(0,)]
    assert 1 < sessions[0][0] <= 6, "the control: transactions were spread over few sessions"


@pytest.mark.parametrize(("way", "within"), [("looking", 2.5), ("listening", 0.3)])
async def test_who_waits_is_told_by_polling_or_past_the_pooler(
    tmp_path: Path, url: str, through: str, way: str, within: float
) -> None:
    store = POOLED | ({"listen_url": url} if way == "listening" else {})
    async with MockVendor.serve(script={"rules": [{"model": "echo", "latency": 0.05}]}) as vendor:
        with fleet(tmp_path, through, vendor.url, gateways=1, workers=1, store=store) as two:
            await two.start()
            await asyncio.sleep(2)  # until they listen
            took = []
            async with Connection("127.0.0.1", two.gateways[0].port) as connection:
                for _ in range(4):
                    answer = await connection.request("POST", CHAT, {**HEADERS, "prefer": "wait=30"}, BODY)
                    answered = time.time()
                    found = await rows(
                        url, "SELECT completed_at / 1000.0 FROM jobs WHERE id = $1", answer.json()["id"]
                    )
                    took.append(answered - float(found[0][0]))
            await two.stop()

    assert max(took) <= within


@pytest.mark.parametrize("settings", ["", DROPS_SETTINGS])
async def test_a_pooler_that_nobody_spoke_of_is_refused(
    server: PostgresServer, url: str, settings: str
) -> None:
    with pgbouncer(server, settings) as pooler:
        options = PostgresOptions(Secret(pooler.url(url.rpartition("/")[2])))

        with pytest.raises(StoreRefused, match=r"leads to a pooler.*set store.pooler: true"):
            await PostgresStore.open(options, clock=SystemClock(), rng=SystemRng())


async def test_what_a_pooler_says_is_passed_on(pooler: PgBouncer) -> None:
    options = PostgresOptions(Secret(pooler.url("nowhere")), pooler=True)

    with pytest.raises(StoreRefused, match=r'said: .*"nowhere" does not exist'):
        await PostgresStore.open(options, clock=SystemClock(), rng=SystemRng())


async def test_doctor_looks_past_the_pooler(tmp_path: Path, url: str, through: str) -> None:
    found = await asyncio.gather(
        asyncio.to_thread(doctor, tmp_path / "silent.json", through, **POOLED),
        asyncio.to_thread(doctor, tmp_path / "heard.json", through, listen_url=url, **POOLED),
        asyncio.to_thread(doctor, tmp_path / "unsaid.json", through),
    )

    silent, heard, unsaid = found
    assert silent["store"]["level"] == heard["store"]["level"] == "green"
    assert (silent["notify"]["level"], heard["notify"]["level"]) == ("yellow", "green")
    assert (unsaid["store"]["level"], "set store.pooler: true" in unsaid["store"]["text"]) == ("red", True)


def doctor(config: Path, url: str, **store: Any) -> dict[str, Any]:
    config.write_text(json.dumps({"store": {"url": url} | store, "providers": {"mock": {}}}))
    said = subprocess.run(
        [sys.executable, "-m", "tidegate", "doctor", "--config", str(config), "--json"],
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return {check["name"]: check for check in json.loads(said.stdout)["checks"]}
