"""Measures what the simulation reckons with, on a real PostgreSQL: ``python -m benchmarks.simulation.measure URL``.

A database of its own is made on that server and dropped at the end. The role must be allowed to do that, and the
server must run on this machine: its processes' CPU time is read from the kernel.
"""

import asyncio
import importlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Final
from urllib.parse import urlsplit, urlunsplit

import uvloop
from cyclopts import App, Parameter
from msgspec import Struct
from msgspec.structs import replace

from benchmarks import results
from benchmarks.load.requests import chat_body
from benchmarks.machine.cores import assign, move_to
from benchmarks.samples import least_cpu
from benchmarks.simulation import figures
from benchmarks.simulation.figures import (
    Circulation,
    Conditions,
    Fanout,
    Figures,
    Gateway,
    Renewal,
    Step,
    Vacuum,
)
from tidegate.clock import SystemClock, SystemRng
from tidegate.domain.access import KeyId, OwnedBy, Owner, owner_of_key
from tidegate.domain.ids import uuid7
from tidegate.domain.inference import RequestType
from tidegate.domain.jobs import Claimed, Completed, JobId, JobRef, Lane, NewJob, Options
from tidegate.domain.secret import Secret

_ROOT: Final = Path(__file__).parents[2]
_DATABASE: Final = "tidegate_capacity"
_BATCHES: Final = (1, 16, 64, 256)
_CONNECTIONS: Final = (1, 2, 4)
_KB: Final = 1024
_MICRO: Final = 1e6
_WARM_UP: Final = 0.3
_PATIENCE: Final = 6.0
_GLANCE: Final = 0.25
_LITTLE: Final = 0.1
"""Share of the cores that may be busy when a round begins."""
_LARGE_LOG: Final = 2**19
"""Bytes: about a batch of 256."""
_LOOKS: Final = 200
_NO_WORK: Final = 0.001
"""Seconds a claimer waits that found nothing."""

app = App(name="python -m benchmarks.simulation.measure", version_flags=[], result_action="return_value")


def _optional(name: str) -> Any:
    """The PostgreSQL store and its driver are an extra: whoever only simulates need not have them."""
    return importlib.import_module(name)


class Used(Struct, frozen=True):
    """What went by between two readings."""

    seconds: float
    client: float
    server: float
    wal: int
    client_share: float
    server_share: float


class Store(Struct):
    """One gateway's view of the database, as ``bootstrap`` opens it, but that it does not listen."""

    opened: Any
    lane: Lane
    owner: Owner

    @property
    def jobs(self) -> Any:
        return self.opened.jobs

    def beside(self, other: "Store") -> "Store":
        """The same, for jobs of the other's lane and owner."""
        return Store(self.opened, other.lane, other.owner)


class Rig:
    """The database under test and the meters around it."""

    def __init__(self, admin: Any, url: str) -> None:
        self.admin = admin
        self.url = url
        self.clock = SystemClock()
        self.rng = SystemRng()

    async def store(self, number: int) -> Store:
        postgres = _optional("tidegate.store.postgres")
        options = postgres.PostgresOptions(url=Secret(self.url), listen_url=Secret(""), pool_size=4)
        opened = await postgres.PostgresStore.open(options, clock=self.clock, rng=self.rng)
        return Store(opened, Lane(f"lane{number}"), owner_of_key(KeyId(f"owner{number}")))

    def job(self, store: Store, body: bytes) -> NewJob:
        now = self.clock.now()
        return NewJob(
            id=JobId(uuid7(now, self.rng.secret_bytes(10))),
            request_type=RequestType.CHAT_COMPLETION,
            owner=store.owner,
            actor=None,
            model="openai/echo",
            candidates=("openai/echo",),
            lane=store.lane,
            weight=1.0,
            options=Options(),
            passes_extra_params=False,
            request_id="request",
            created_at=now,
            body=body,
        )

    async def used(self, work: Callable[[], Awaitable[object]]) -> Used:
        """What the work took, of this process and of the whole server."""
        log, server = await self._log(), await self.server_cpu()
        here, there = os.sched_getaffinity(0), os.sched_getaffinity(next(iter(server)))
        client_core, server_core = _busy(here), _busy(there)
        wall, client = time.perf_counter(), time.process_time()
        await work()
        seconds, spent = time.perf_counter() - wall, time.process_time() - client
        client_core, server_core = _busy(here) - client_core, _busy(there) - server_core
        after = await self.server_cpu()
        # Processes that came meanwhile count from their beginning. With one that went its time is lost.
        taken = sum(cpu - server.get(pid, 0) for pid, cpu in after.items()) / 1e9
        if server.keys() - after.keys():
            taken = float("inf")
        return Used(
            seconds,
            spent,
            taken,
            await self._log() - log,
            _ours(spent, client_core, seconds * len(here)),
            _ours(taken, server_core, seconds * len(there)),
        )

    async def _log(self) -> int:
        return int(await self.admin.fetchval("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"))

    async def server_cpu(self) -> dict[int, int]:
        """Nanoseconds by process, without the connection that asks."""
        rows = await self.admin.fetch(
            "SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type <> 'autovacuum worker'"
        )
        found = {}
        for (pid,) in rows:
            try:
                found[pid] = _cpu_ns(pid)
            except FileNotFoundError:
                continue
        return found


def _busy(cores: set[int]) -> float:
    """Seconds these cores have not been idle, whoever used them."""
    wanted = {f"cpu{core}" for core in cores}
    ticks = 0
    for line in Path("/proc/stat").read_text("ascii").splitlines():
        name, *times = line.split()
        if name in wanted:
            ticks += (
                sum(map(int, times[:8])) - int(times[3]) - int(times[4])
            )  # but idle and waiting for a disk
    return ticks / os.sysconf("SC_CLK_TCK")


def _ours(spent: float, busy: float, there_was: float) -> float:
    """The share of the cores that others left to us."""
    return 1 - max(0.0, busy - spent) / there_was


@asynccontextmanager
async def rig(url: str) -> AsyncIterator[Rig]:
    """A fresh database with our tables; gone at the end."""
    asyncpg = _optional("asyncpg")
    owner = await asyncpg.connect(url)
    await owner.execute(f"DROP DATABASE IF EXISTS {_DATABASE}")
    await owner.execute(f"CREATE DATABASE {_DATABASE}")
    inside = urlunsplit(urlsplit(url)._replace(path=f"/{_DATABASE}"))
    try:
        admin = await asyncpg.connect(inside)
        await _optional("tidegate.store.postgres.migrating").apply_migrations(admin)
        yield Rig(admin, inside)
        await admin.close()
    finally:
        await owner.execute(f"DROP DATABASE {_DATABASE} WITH (FORCE)")
        await owner.close()


async def _calm(rig: Rig) -> None:
    """Until others leave the cores alone; not for ever."""
    cores = os.sched_getaffinity(0) | os.sched_getaffinity(next(iter(await rig.server_cpu())))
    give_up = time.perf_counter() + _PATIENCE
    while time.perf_counter() < give_up:
        before = _busy(cores)
        await asyncio.sleep(_GLANCE)
        if _busy(cores) - before < _LITTLE * _GLANCE * len(cores):
            return


async def measure_steps(rig: Rig, seconds: float, rounds: int) -> list[Step]:
    found: list[Step] = []
    stores = [await rig.store(number) for number in range(max(_CONNECTIONS))]
    together = [one.beside(stores[0]) for one in stores]
    for batch in _BATCHES:
        for connections in _CONNECTIONS:
            found += await _best(rig, together[:connections], batch, 1, 1, seconds, rounds)
    for connections in _CONNECTIONS[1:]:
        found += await _best(rig, stores[:connections], 256, 1, connections, seconds, rounds)
    found += await _best(rig, stores[:1], 64, 20, 1, seconds, rounds)
    for store in stores:
        await store.opened.close()
    return found


async def _best(
    rig: Rig, stores: Sequence[Store], batch: int, body_kb: int, owners: int, seconds: float, rounds: int
) -> list[Step]:
    """The round that was disturbed least, verb by verb."""
    best: dict[str, Step] = {}
    for _ in range(rounds):
        await _calm(rig)
        for step in await _round(rig, stores, batch, body_kb, owners, seconds):
            known = best.get(step.verb)
            best[step.verb] = step if known is None else _better(known, step)
    return list(best.values())


def _better(one: Step, other: Step) -> Step:
    return Step(
        one.verb, one.batch, one.connections, one.body_kb, one.owners,
        max(one.rows_per_second, other.rows_per_second),
        max(one.commits_per_second, other.commits_per_second),
        min(one.client_us, other.client_us),
        min(one.server_us, other.server_us),
        min(one.wal_bytes, other.wal_bytes),
    )  # fmt: skip


async def _round(
    rig: Rig, stores: Sequence[Store], batch: int, body_kb: int, owners: int, seconds: float
) -> list[Step]:
    body, result = chat_body(body_kb * _KB), chat_body(_KB)
    accepted: list[JobId] = []
    claimed: list[tuple[Store, Claimed]] = []

    async def accept() -> None:
        end = time.perf_counter() + seconds

        async def one(store: Store) -> None:
            while time.perf_counter() < end:
                jobs = [rig.job(store, body) for _ in range(batch)]
                await asyncio.gather(*(store.jobs.accept(job) for job in jobs))
                accepted.extend(job.id for job in jobs)

        await asyncio.gather(*map(one, stores))

    async def claim() -> None:
        async def one(store: Store) -> None:
            while got := await store.jobs.claim({store.lane: batch}):
                claimed.extend((store, job) for job in got)

        await asyncio.gather(*map(one, stores))

    async def settle() -> None:
        async def one(store: Store) -> None:
            mine = [job for whose, job in claimed if whose is store]
            for start in range(0, len(mine), batch):
                part = mine[start : start + batch]
                await asyncio.gather(*(store.jobs.settle(job.lease, Completed(result), ()) for job in part))

        await asyncio.gather(*map(one, stores))

    async def poll() -> None:
        async def one(store: Store, ids: Sequence[JobId]) -> None:
            for job_id in ids:
                await store.jobs.get(OwnedBy(store.owner), JobRef(job_id))

        some = accepted[:500]
        await asyncio.gather(*(one(store, some[at :: len(stores)]) for at, store in enumerate(stores)))

    async def look() -> None:
        for _ in range(_LOOKS):
            await stores[0].jobs.claim({stores[0].lane: batch})

    async def prune() -> None:
        while await stores[0].jobs.prune(limit=1000):
            pass

    for store in stores:
        await store.jobs.renew(())
    await rig.admin.execute("CHECKPOINT")
    steps = [_step("accept", await rig.used(accept), len(accepted), batch, stores, body_kb, owners)]
    await rig.admin.execute("ANALYZE jobs")
    steps.append(_step("claim", await rig.used(claim), len(claimed), batch, stores, body_kb, owners))
    await rig.admin.execute("ANALYZE jobs")
    steps.append(_step("settle", await rig.used(settle), len(claimed), batch, stores, body_kb, owners))
    steps.append(_step("poll", await rig.used(poll), min(500, len(accepted)), 1, stores, body_kb, owners))
    steps.append(_step("look", await rig.used(look), _LOOKS, 1, stores[:1], body_kb, owners))
    await rig.admin.execute("UPDATE jobs SET expires_at = 0 WHERE expires_at IS NOT NULL")
    steps.append(_step("prune", await rig.used(prune), len(accepted), 1000, stores[:1], body_kb, owners))
    await _empty(rig)
    return steps


def _step(
    verb: str, used: Used, rows: int, batch: int, stores: Sequence[Store], body_kb: int, owners: int
) -> Step:
    return Step(
        verb,
        batch,
        len(stores),
        body_kb,
        owners,
        rows / used.seconds,
        rows / batch / used.seconds,
        used.client / rows * _MICRO,
        used.server / rows * _MICRO,
        used.wal / rows,
    )


async def measure_circulation(rig: Rig, processes: int, population: int, seconds: float) -> Circulation:
    """Nothing but the database: a vendor that answers at once, no HTTP. All jobs of one owner in one lane."""
    own = [await rig.store(number) for number in range(processes)]
    stores = [one.beside(own[0]) for one in own]
    body, result = chat_body(_KB), chat_body(_KB)
    waiting: dict[JobId, asyncio.Future[None]] = {}
    settled = 0

    async def client(store: Store) -> None:
        while True:
            job = rig.job(store, body)
            done = waiting[job.id] = asyncio.get_running_loop().create_future()
            await store.jobs.accept(job)
            await done

    async def run(store: Store, job: Claimed) -> None:
        nonlocal settled
        await store.jobs.settle(job.lease, Completed(result), ())
        settled += 1
        done = waiting.pop(job.id)
        if not done.done():  # the clients go first
            done.set_result(None)

    async def worker(store: Store) -> None:
        running: set[asyncio.Task[None]] = set()
        while True:
            got = await store.jobs.claim({store.lane: 256})
            for job in got:
                task = asyncio.create_task(run(store, job))
                running.add(task)
                task.add_done_callback(running.discard)
            await asyncio.sleep(0 if got else _NO_WORK)

    tasks = [
        *(asyncio.create_task(client(stores[number % processes])) for number in range(population)),
        *(asyncio.create_task(worker(store)) for store in stores),
    ]
    await asyncio.sleep(_WARM_UP)
    await rig.admin.execute("ANALYZE jobs")
    already = settled
    used = await rig.used(lambda: asyncio.sleep(seconds))
    count = settled - already
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for store in stores:
        await store.opened.close()
    await _empty(rig)
    return Circulation(
        processes,
        population,
        count / used.seconds,
        used.client / count * _MICRO,
        used.server / count * _MICRO,
        used.wal / count,
        used.client_share,
        used.server_share,
    )


async def measure_sync(rig: Rig, seconds: float, rounds: int) -> tuple[float, float]:
    """What a durable commit waits for: a base, and more for each megabyte. Microseconds."""
    small = await _wait(rig, 8, seconds, rounds) * _MICRO
    large = await _wait(rig, _LARGE_LOG, seconds, rounds) * _MICRO
    return small, (large - small) * 2**20 / _LARGE_LOG


async def _wait(rig: Rig, size: int, seconds: float, rounds: int) -> float:
    """The part of a commit in which neither side computes: log, disk, and being woken up again. Seconds.

    The median: what a commit usually waits, where all else is taken from the round that was disturbed least.
    """
    asyncpg = _optional("asyncpg")
    line = await asyncpg.connect(rig.url)
    waits = []
    for _ in range(rounds):
        count = 0

        async def commit() -> None:
            nonlocal count
            end = time.perf_counter() + seconds
            while time.perf_counter() < end:
                await line.execute(f"SELECT pg_logical_emit_message(true, 'm', repeat('x', {size}))")
                count += 1

        await _calm(rig)
        used = await rig.used(commit)
        waits.append((used.seconds - used.client - used.server) / count)
    await line.close()
    return median(waits)


async def measure_fanout(rig: Rig, listeners: int, rounds: int) -> Fanout:
    asyncpg = _optional("asyncpg")
    heard = 0

    def hear(*_: object) -> None:
        nonlocal heard
        heard += 1

    lines = [await asyncpg.connect(rig.url) for _ in range(listeners)]
    for line in lines:
        await line.add_listener("measured", hear)
    teller = await asyncpg.connect(rig.url)
    count = 300

    async def tell() -> None:
        nonlocal heard
        heard = 0
        for _ in range(count):
            await teller.execute("SELECT pg_notify('measured', 'work')")
            await asyncio.sleep(_NO_WORK)
        while heard < count * listeners:
            await asyncio.sleep(_NO_WORK)

    await _calm(rig)
    tries = [await rig.used(tell) for _ in range(rounds)]
    for line in (*lines, teller):
        await line.close()
    server, client = min(one.server for one in tries), min(one.client for one in tries)
    return Fanout(listeners, server / count * _MICRO, client / count * _MICRO)


async def measure_renewal(rig: Rig, leases: int, rounds: int) -> Renewal:
    store = await rig.store(0)
    await store.jobs.renew(())
    jobs = [rig.job(store, chat_body(_KB)) for _ in range(leases)]
    await asyncio.gather(*(store.jobs.accept(job) for job in jobs))
    held: list[Claimed] = []
    while got := await store.jobs.claim({store.lane: 256}):
        held += got
    count = 20

    async def renew() -> None:
        for _ in range(count):
            await store.jobs.renew([job.lease for job in held])

    await _calm(rig)
    tries = [await rig.used(renew) for _ in range(rounds)]
    await store.opened.close()
    await _empty(rig)
    server, client = min(one.server for one in tries), min(one.client for one in tries)
    return Renewal(leases, server / count * _MICRO, client / count * _MICRO)


_TABLES: Final = ("jobs", "job_request", "job_result", "attempts")


async def measure_vacuum(rig: Rig, jobs: int) -> Vacuum:
    """Autovacuum stands still meanwhile, so that what is swept is what these jobs left behind."""
    await _calm(rig)
    for table in _TABLES:
        await rig.admin.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
        await rig.admin.execute(f"VACUUM {table}")
    store = await rig.store(0)
    await store.jobs.renew(())
    body, result = chat_body(_KB), chat_body(_KB)
    before = await _updates(rig)
    for _ in range(jobs // 256):
        await asyncio.gather(*(store.jobs.accept(rig.job(store, body)) for _ in range(256)))
        held = await store.jobs.claim({store.lane: 256})
        await asyncio.gather(*(store.jobs.settle(job.lease, Completed(result), ()) for job in held))
    count = jobs // 256 * 256
    await store.opened.close()  # a session that rests keeps its statistics to itself for a while
    updates, hot = (now - then for now, then in zip(await _updates(rig), before, strict=True))
    size = await rig.admin.fetchval(
        "SELECT sum(pg_total_relation_size(name::regclass)) FROM unnest($1::text[]) AS t (name)",
        list(_TABLES),
    )
    await rig.admin.execute("UPDATE jobs SET expires_at = 0 WHERE expires_at IS NOT NULL")
    hot_table = await _vacuum(rig, "jobs")
    store = await rig.store(0)
    while await store.jobs.prune(limit=1000):
        pass
    hot_table += await _vacuum(rig, "jobs")
    others = sum([await _vacuum(rig, table) for table in _TABLES[1:]])
    await store.opened.close()
    for table in _TABLES:
        await rig.admin.execute(f"ALTER TABLE {table} RESET (autovacuum_enabled)")
    await _empty(rig)
    return Vacuum(
        dead_rows_per_job=updates / count + len(_TABLES),
        hot_share=hot / updates,
        cpu_us_per_job=(hot_table + others) / count * _MICRO,
        busiest_table_us_per_job=hot_table / count * _MICRO,
        bytes_per_finished_job=float(size) / count,
    )


async def _updates(rig: Rig) -> tuple[int, int]:
    row = await rig.admin.fetchrow(
        "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'jobs'"
    )
    return int(row[0]), int(row[1])


async def _vacuum(rig: Rig, table: str) -> float:
    """Seconds of CPU."""
    pid = await rig.admin.fetchval("SELECT pg_backend_pid()")
    before = _cpu_ns(pid)
    await rig.admin.execute(f"VACUUM {table}")
    return (_cpu_ns(pid) - before) / 1e9


def _cpu_ns(pid: int) -> int:
    return int(Path(f"/proc/{pid}/schedstat").read_text("ascii").split()[0])


async def _empty(rig: Rig) -> None:
    await rig.admin.execute("TRUNCATE jobs, job_request, job_result, job_metadata, attempts, workers")


def gateway_costs(published: Path = results.LATEST) -> Gateway:
    """From the published run: whatever of it has nothing to do with the store."""
    run = results.read(published)
    least = {
        (report.scenario, figure.name): least_cpu(figure.rounds)
        for report in run.reports
        for figure in report.figures
        if all(sample.cpu_us is not None for sample in figure.rounds)
    }
    store = least["backlog", "claim, 1000 pending"] + least["backlog", "settle, 1000 pending"]
    return Gateway(
        commit=run.commit,
        submit_us=least["submit", "(b) our handlers, no store"],
        poll_us=least["poll", "(b) our handlers, no store"],
        run_us=least["end-to-end", "end to end, vendor at once"]
        - least["end-to-end", "submit alone"]
        - store,
        upstream_us=least["end-to-end", "upstream call alone"],
    )


async def measure(url: str, seconds: float, rounds: int, say: Callable[[str], None]) -> Figures:
    async with rig(url) as on:
        say("sync")
        fsync, per_mb = await measure_sync(on, seconds, rounds)
        say("notifications, heartbeats, vacuum")
        fanouts = [await measure_fanout(on, listeners, rounds) for listeners in (1, 4, 16)]
        renewals = [await measure_renewal(on, leases, rounds) for leases in (0, 2000)]
        vacuum = await measure_vacuum(on, 20_000)
        say("accept, claim, settle, poll, prune")
        steps = await measure_steps(on, seconds, rounds)
        say("jobs going round")
        circulations = [
            await _best_circulation(on, processes, population, 2 * seconds, 2 * rounds)
            for processes, population in ((1, 64), (1, 256), (2, 256), (4, 1024))
        ]
        version = await on.admin.fetchval("SHOW server_version")
        pid = await on.admin.fetchval("SELECT pg_backend_pid()")
        machine = results.this_machine("", "")
        conditions = Conditions(
            results.commit_of(_ROOT), results.now(), machine.processor, version, _cores_of(pid),
            f"{machine.system}, Python {machine.python}; {rounds} rounds of {seconds:g} s, the best of each",
        )  # fmt: skip
        return Figures(
            conditions, fsync, per_mb, steps, circulations, fanouts, renewals, vacuum, gateway_costs()
        )


async def _best_circulation(
    rig: Rig, processes: int, population: int, seconds: float, rounds: int
) -> Circulation:
    """The round that was disturbed least."""
    tries = []
    for _ in range(rounds):
        await _calm(rig)
        tries.append(await measure_circulation(rig, processes, population, seconds))
    return max(tries, key=lambda one: one.jobs_per_second)


def _best_of(former: Figures, latest: Figures) -> Figures:
    """Of two runs of the same code on the same machine."""

    def of(step: Step) -> tuple[object, ...]:
        return step.verb, step.batch, step.connections, step.body_kb, step.owners

    steps = {of(step): step for step in former.steps}
    for step in latest.steps:
        steps[of(step)] = _better(steps[of(step)], step) if of(step) in steps else step
    rounds = {(one.processes, one.population): one for one in former.circulations}
    for one in latest.circulations:
        known = rounds.get((one.processes, one.population), one)
        rounds[one.processes, one.population] = max(known, one, key=lambda each: each.jobs_per_second)
    return replace(
        latest,
        steps=list(steps.values()),
        circulations=list(rounds.values()),
        fanouts=[
            min(pair, key=lambda one: one.server_us)
            for pair in zip(former.fanouts, latest.fanouts, strict=True)
        ],
        renewals=[
            min(pair, key=lambda one: one.server_us)
            for pair in zip(former.renewals, latest.renewals, strict=True)
        ],
        vacuum=min(former.vacuum, latest.vacuum, key=lambda one: one.cpu_us_per_job),
    )


def _cores_of(pid: int) -> int:
    allowed = next(
        line
        for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
        if "Cpus_allowed:" in line
    )
    return int(allowed.split()[1].replace(",", ""), 16).bit_count()


@app.default
def main(
    url: Annotated[str, Parameter(help="postgresql://… of a server on this machine.")],
    /,
    *,
    seconds: Annotated[float, Parameter(help="Length of a round.")] = 0.5,
    rounds: Annotated[int, Parameter(help="How often each is measured.")] = 3,
    json: Annotated[Path, Parameter(help="Where the figures go.")] = figures.PATH,
    again: Annotated[
        bool, Parameter(help="Keep of that file whatever was disturbed less.", negative="")
    ] = False,
) -> int:
    """Measure, and write the file the simulation reads. Start the server on one core and keep that core free."""
    move_to(assign().server)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(measure(url, seconds, rounds, lambda text: print(text, flush=True)))  # noqa: T201
    figures.write(_best_of(figures.read(json), found) if again else found, json)
    return 0


if __name__ == "__main__":
    raise SystemExit(app())
