"""Lines to the database that break at the worst moment, or say nothing any more, or cannot be had."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, Final

import asyncpg
import msgspec
import pytest
import uvloop

from benchmarks.machine.postgres import PostgresServer, postgres_server
from support.fleet import PUBLIC_METRICS, fleet, rows, zombie_writes
from support.gateway import CHAT, chat, gateway_with_vendor
from support.lines import Lines, lines_to
from support.load import BODY, HEADERS, until_all_ended
from support.stores import ALICE, BOB, OPENAI, new_job
from support.wire import Connection
from tidegate import stores
from tidegate.clock import SystemClock, SystemRng
from tidegate.domain.errors import StoreError
from tidegate.domain.jobs import Completed, JobId, NewJob
from tidegate.domain.secret import Secret
from tidegate.mock_vendor import MockVendor
from tidegate.store.postgres import PostgresOptions, PostgresStore, database
from tidegate.store.postgres.connection import connect, prepare
from tidegate.store.postgres.database import GONE
from tidegate.store.postgres.leasing import LOCK_LANES

pytestmark = pytest.mark.anyio

FOUND_WITHIN: Final = 15.0
LISTENS_AGAIN_WITHIN: Final = 4.0
LEASE: Final = 12.0
SILENCE: Final = 9.0
"""A line is given up after eight seconds."""
PICKED_UP_WITHIN_MS: Final = 2_500
TEXT: Final = "words that were never said before"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server(max_connections="30") as running:
        yield running


@pytest.fixture
async def lines(server: PostgresServer) -> AsyncIterator[Lines]:
    async with lines_to(server.port) as found:
        yield found


@pytest.fixture
def through(lines: Lines, url: str) -> str:
    """URL of the database, by way of the lines."""
    return lines.url(url.rpartition("/")[2])


async def open_store(url: str) -> PostgresStore:
    return await PostgresStore.open(PostgresOptions(Secret(url)), clock=SystemClock(), rng=SystemRng())


def a_job(**members: Any) -> NewJob:
    return new_job(SystemClock(), SystemRng(), **members)


async def stored(url: str) -> int:
    found = await rows(url, "SELECT count(*) FROM job_request WHERE position($1 IN body) > 0", TEXT.encode())
    return int(found[0][0])


# A COMMIT whose fate is unknown


async def test_the_line_breaks_after_the_commit(tmp_path: Path, lines: Lines, through: str, url: str) -> None:
    async with gateway_with_vendor(tmp_path, store={"url": through}) as (gateway, vendor):
        await gateway.run()
        lines.marker = TEXT.encode()

        answer = await gateway.submit(chat(text=TEXT))

        assert lines.breaks == 1
        assert answer.status_code == 202
        await gateway.ended(answer.json()["id"])
        assert await stored(url) == 1
        assert len(vendor.calls()) == 2


async def test_the_line_breaks_before_the_server_hears(
    tmp_path: Path, lines: Lines, through: str, url: str
) -> None:
    async with gateway_with_vendor(tmp_path, store={"url": through}) as (gateway, vendor):
        await gateway.run()
        lines.cuts_before = b""
        lines.marker = TEXT.encode()

        answer = await gateway.submit(chat(text=TEXT))

        assert lines.breaks == 1
        assert answer.status_code == 202
        await gateway.ended(answer.json()["id"])
        assert await stored(url) == 1
        assert len(vendor.calls()) == 2


async def test_the_database_is_gone_after_the_commit(
    tmp_path: Path, lines: Lines, through: str, url: str
) -> None:
    same = {"idempotency-key": "one"}
    async with gateway_with_vendor(tmp_path, store={"url": through}) as (gateway, vendor):
        await gateway.run()
        lines.on_break = lines.go_down
        lines.marker = TEXT.encode()

        answer = await gateway.submit(chat(text=TEXT), same)
        lines.come_up()
        repeated = await back(lambda: gateway.submit(chat(text=TEXT), same))

        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "commit_unknown")
        await gateway.ended(repeated.json()["id"])
        assert await stored(url) == 1
        assert len(vendor.calls()) == 2


async def back(submit: Callable[[], Awaitable[Any]]) -> Any:
    async with asyncio.timeout(FOUND_WITHIN):
        while (answer := await submit()).status_code == 503:
            await asyncio.sleep(0.1)
    return answer


async def test_a_claim_whose_answer_is_lost_is_given_back(lines: Lines, through: str) -> None:
    """And only that one, also where the worker hears of another a moment later than the store."""
    room = 0x01020304
    store = await open_store(through)
    await store.jobs.accept(a_job())
    (heard,) = await store.jobs.claim({OPENAI: 1})
    job_id = (await store.jobs.accept(a_job())).job.id
    lines.marker = room.to_bytes(4, "big")

    with pytest.raises(StoreError):
        await store.jobs.claim({OPENAI: room})
    await store.jobs.renew([])
    too_early = await store.jobs.claim({OPENAI: 1})
    async with asyncio.timeout(LEASE):
        while not (claimed := await store.jobs.claim({OPENAI: 1})):
            assert await store.jobs.renew([heard.lease]) == [heard.lease]
            await asyncio.sleep(0.2)

    assert too_early == []
    assert [(job.lease.job_id, job.attempt, job.failed_attempts) for job in claimed] == [(job_id, 2, 0)]
    assert await store.jobs.renew([heard.lease]) == [heard.lease]
    await store.close()


async def test_an_ending_whose_answer_is_lost_is_ours(lines: Lines, through: str) -> None:
    """Also when the database is away for so long that it is brought a second time."""
    store = await open_store(through)
    await store.jobs.accept(a_job())
    (job,) = await store.jobs.claim({OPENAI: 1})
    lines.on_break = lines.go_down
    lines.marker = TEXT.encode()

    with pytest.raises(StoreError):
        await store.jobs.settle(job.lease, Completed(TEXT.encode()), ())
    lines.come_up()

    assert await store.jobs.settle(job.lease, Completed(TEXT.encode()), ())
    await store.close()


# A line that says nothing any more


async def test_lines_that_fall_silent_are_found(lines: Lines, through: str, url: str) -> None:
    near, far = await open_store(through), await open_store(url)
    heard: list[JobId] = []
    near.wake_ups.on_ended(heard.append)
    await asyncio.gather(near.jobs.check(), near.jobs.pending_lanes(), near.jobs.next_due())
    while not heard:
        far.wake_ups.ended(JobId("first"))
        await asyncio.sleep(0.1)

    lines.fall_silent()
    heard.clear()
    began = time.monotonic()
    accepts, hears = await asyncio.gather(
        until(began, lambda: accepts_again(near)), until(began, lambda: hears_of(far, heard))
    )

    assert 1 < accepts <= FOUND_WITHIN, "the control: the lines were silent"
    assert hears <= FOUND_WITHIN + LISTENS_AGAIN_WITHIN
    await near.close()
    await far.close()


async def until(began: float, holds: Callable[[], Awaitable[bool]]) -> float:
    """Seconds."""
    async with asyncio.timeout(2 * FOUND_WITHIN):
        while not await holds():
            await asyncio.sleep(0.1)
    return time.monotonic() - began


async def accepts_again(store: PostgresStore) -> bool:
    try:
        await store.jobs.accept(a_job())
    except StoreError:
        return False
    return True


async def hears_of(other: PostgresStore, heard: list[JobId]) -> bool:
    other.wake_ups.ended(JobId("second"))
    return bool(heard)


def test_a_line_that_breaks_while_it_is_prepared(server: PostgresServer) -> None:
    """On the event loop that a gateway runs on, whose closed sockets fail in a way of their own."""

    async def prepare_what_is_broken() -> None:
        connection: Any = await asyncpg.connect(server.url())
        connection._transport.abort()
        await asyncio.sleep(0.05)
        await prepare(connection)

    with pytest.raises(GONE):
        uvloop.run(prepare_what_is_broken())


# A worker that is cut off


async def test_a_worker_is_cut_off_from_the_database(
    tmp_path: Path, lines: Lines, through: str, url: str
) -> None:
    ways = {"worker-0": through}
    async with MockVendor.serve(script={"rules": [{"model": "echo", "latency": 1.0}]}) as vendor:
        with fleet(tmp_path, url, vendor.url, gateways=1, workers=2, ways=ways, **PUBLIC_METRICS) as three:
            await three.start()

            # For less than a lease: whatever it ran it ends when it is back.
            first = await three.submit_until_all_work()
            lines.go_down()
            await asyncio.sleep(4)
            lines.come_up()
            await until_all_ended(three.gateways[0].port, first)
            brief = await three.ends()

            # For longer: others have ended it by then, and what it brings is dropped.
            second = await three.submit_until_all_work()
            lines.go_down()
            await until_all_ended(three.gateways[0].port, second)
            lines.come_up()
            async with asyncio.timeout(10):
                while await zombie_writes(three.workers[0]) == 0:
                    await asyncio.sleep(0.1)
            again = await three.submit(10)
            await until_all_ended(three.gateways[0].port, again)
            await three.stop()
            long = await three.ends()

    assert brief == {"succeeded": len(first)}
    assert long.pop("succeeded") == len(first + second + again)
    assert long.keys() == {"worker_lost"}
    assert 1 <= long["worker_lost"] < len(second)


async def test_while_lines_are_silent_the_others_go_on(
    tmp_path: Path, lines: Lines, through: str, url: str
) -> None:
    """Also when the last that was heard of one was that it is about to claim."""
    ways = {"gateway-0": through, "worker-0": through}
    async with MockVendor.serve(script={"rules": [{"model": "echo", "latency": 0.05}]}) as vendor:
        with fleet(tmp_path, url, vendor.url, gateways=2, workers=2, ways=ways) as four:
            await four.start()
            await four.submit_until_all_work()
            in_the_middle = await connect(Secret(url))
            await in_the_middle.execute("BEGIN")
            await in_the_middle.execute(LOCK_LANES, ["openai"])
            lines.fall_silent()
            unheard = asyncio.create_task(submit_for(0.01, four.gateways[0].port))
            ids = await submit_for(SILENCE / 2, four.gateways[1].port)
            assert not unheard.done(), "the control: some lines are silent"
            ids += await submit_for(SILENCE / 2, four.gateways[1].port)
            await until_all_ended(four.gateways[1].port, ids)
            waits = await rows(url, "SELECT started_at - created_at FROM jobs WHERE id = ANY($1)", ids)
            in_the_middle.terminate()
            await unheard

    assert max(ms for (ms,) in waits) <= PICKED_UP_WITHIN_MS


async def test_one_dead_line_tells_of_the_others(
    through: str, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Resting lines die together and do not know it: one is waited for in vain, not each of them."""
    monkeypatch.setattr(database, "_LONGEST_SILENCE", 1.0)
    store = await open_store(through)
    await asyncio.gather(*(store.jobs.check() for _ in range(5)))
    lines.fall_silent()
    with pytest.raises(StoreError):
        await store.jobs.check()
    began = time.monotonic()

    await asyncio.gather(*(store.jobs.check() for _ in range(5)))

    assert time.monotonic() - began < 0.9
    await store.close()


async def submit_for(seconds: float, port: int) -> list[str]:
    """Ids; twenty jobs a second."""
    ids = []
    end = time.monotonic() + seconds
    async with Connection("127.0.0.1", port) as connection:
        while time.monotonic() < end:
            answer = await connection.request("POST", CHAT, HEADERS, BODY)
            assert answer.status == 202
            ids.append(answer.json()["id"])
            await asyncio.sleep(0.05)
    return ids


# No line to be had


async def test_the_pool_is_exhausted(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = stores.postgres_options
    monkeypatch.setattr(
        stores, "postgres_options", lambda *given: msgspec.structs.replace(whole(*given), pool_size=2)
    )
    async with gateway_with_vendor(tmp_path, store={"url": url}) as (gateway, _):
        await gateway.run()
        store = gateway.gateway.store
        assert isinstance(store, PostgresStore)
        pool = store._database._pool
        async with AsyncExitStack() as stack:
            for _ in range(2):
                await stack.enter_async_context(pool.acquire())
            began = time.monotonic()

            refused = await gateway.submit()

            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "store_busy")
            assert "retry-after" in refused.headers
            assert 1.5 < time.monotonic() - began < 4
        await gateway.run()


async def test_the_server_has_no_connection_left(tmp_path: Path, url: str) -> None:
    async with gateway_with_vendor(tmp_path, store={"url": url}) as (gateway, _), AsyncExitStack() as stack:
        await gateway.run()
        others = await all_there_are(url, stack)
        await others[0].execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tidegate'"
        )
        await all_there_are(url, stack)
        refused = await gateway.submit()
        await stack.aclose()

        accepted = await back(gateway.submit)

        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "storage_unavailable")
        assert "retry-after" in refused.headers
        await gateway.ended(accepted.json()["id"])


async def all_there_are(url: str, stack: AsyncExitStack) -> list[Any]:
    taken: list[Any] = []
    with suppress(asyncpg.TooManyConnectionsError):
        while True:
            taken.append(await asyncpg.connect(url))
            stack.push_async_callback(taken[-1].close)
    return taken


# Transactions that PostgreSQL undoes


async def test_a_deadlock_is_tried_again(url: str) -> None:
    store = await open_store(url)
    await store.jobs.accept(a_job(owner=ALICE))
    await store.jobs.accept(a_job(owner=BOB))
    other = await asyncpg.connect(url)
    async with other.transaction():
        await other.execute("UPDATE tails SET tail = tail WHERE owner = $1", BOB)
        accepting = asyncio.gather(*[store.jobs.accept(a_job(owner=owner)) for owner in (ALICE, BOB)])
        await asyncio.sleep(0.3)
        await other.execute("UPDATE tails SET tail = tail WHERE owner = $1", ALICE)

    await accepting

    ((deadlocks,),) = await rows(
        url, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    )
    assert deadlocks == 1
    assert await rows(url, "SELECT count(*) FROM jobs") == [(4,)]
    await other.close()
    await store.close()


async def test_a_serialization_failure_is_tried_again(url: str) -> None:
    name = url.rpartition("/")[2]
    await rows(url, f"ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'")
    store = await open_store(url)
    await store.jobs.accept(a_job())
    other = await asyncpg.connect(url)
    async with other.transaction():
        await other.execute("UPDATE tails SET tail = tail")
        accepting = asyncio.ensure_future(store.jobs.accept(a_job()))
        await asyncio.sleep(0.3)

    await accepting

    assert await rows(url, "SELECT count(*) FROM jobs") == [(2,)]
    await other.close()
    await store.close()
    async with asyncio.timeout(5):  # a session counts its own when it ends
        while not await undone(url):
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("state", ["40001", "40P01"])
async def test_what_is_undone_every_time_is_refused(tmp_path: Path, url: str, state: str) -> None:
    """After five tries, and the next submit of the same is the first."""
    same = {"idempotency-key": "one"}
    async with gateway_with_vendor(tmp_path, store={"url": url}) as (gateway, vendor):
        await rows(url, "CREATE SEQUENCE tries")  # what counts is not undone with the rest
        await rows(
            url,
            f"""CREATE FUNCTION undo() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                PERFORM nextval('tries'); RAISE SQLSTATE '{state}'; END $$""",
        )
        await rows(url, "CREATE TRIGGER undo BEFORE INSERT ON jobs EXECUTE FUNCTION undo()")

        refused = await gateway.submit(chat(text=TEXT), same)
        tries = await rows(url, "SELECT last_value FROM tries")
        left = await stored(url)
        await rows(url, "DROP TRIGGER undo ON jobs")
        accepted = await gateway.submit(chat(text=TEXT), same)

        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "store_busy")
        assert "retry-after" in refused.headers
        assert (tries, left) == ([(5,)], 0)
        assert accepted.status_code == 202
        await gateway.ended(accepted.json()["id"])
        assert len(vendor.calls()) == 1


async def undone(url: str) -> int:
    found = await rows(url, "SELECT xact_rollback FROM pg_stat_database WHERE datname = current_database()")
    return int(found[0][0])
