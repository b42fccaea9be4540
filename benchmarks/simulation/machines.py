"""Our processes in simulated time: one core each, batches for the databases, news for each other."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol, final

from benchmarks.simulation.costs import Costs
from benchmarks.simulation.database import RESULT_KB, Database, Group, rows_of, take
from benchmarks.simulation.layout import Layout
from benchmarks.simulation.loop import Cores, Event, Loop, Process

_CLAIMED_AT_ONCE: Final = 256
_MOST_KB: Final = 4096
"""Of bodies, in one batch."""
_LOOK_AGAIN: Final = 1.0
_NO_WORK: Final = 0.001
"""Seconds a claimer of the measurement waits that found nothing."""
_RENEW_EVERY: Final = 4.0
_FETCH: Final = 0.02
"""Seconds a body takes to or from where large ones lie."""

Groups = list[Group]


class Durable(Protocol):
    """A batch becomes durable in a database."""

    def __call__(self, groups: Groups) -> Process: ...


@final
class Machine:
    """One process: what it computes, and what it hears."""

    def __init__(
        self, loop: Loop, layout: Layout, costs: Costs, cores: Cores, databases: Sequence[Database]
    ) -> None:
        self.loop = loop
        self.layout = layout
        self.costs = costs
        self.cores = cores
        self.databases = databases
        self._heard = 0
        self._telling: dict[int, bool] = {}
        if layout.population:
            return
        for database in databases:
            database.listeners += 1

    def use(self, seconds: float) -> Event:
        """Computes, and reads first what others have told meanwhile."""
        told = sum(database.told for database in self.databases)
        seconds += (told - self._heard) * self.costs.hear
        self._heard = told
        return self.cores.use(seconds)

    def tell(self, database: Database) -> None:
        """One notification for much news; while one is on its way the next one gathers."""
        if self.layout.population:
            return
        if id(database) in self._telling:
            self._telling[id(database)] = True
        else:
            self.loop.start(self._tell(database))

    def _tell(self, database: Database) -> Process:
        self._telling[id(database)] = True
        while self._telling[id(database)]:
            yield self.loop.after(self.layout.gather_ms / 1000)
            self._telling[id(database)] = False
            yield from database.notify()
        del self._telling[id(database)]


@final
class Committer:
    """Group commit: whatever gathers while one batch is made durable shares the next one."""

    def __init__(
        self,
        machine: Machine,
        computing: Callable[[int], float],
        durable: Durable,
        done: Callable[[Groups], None],
        *,
        body_kb: float,
    ) -> None:
        self._machine = machine
        self._computing = computing
        self._durable = durable
        self._done = done
        self._room = max(1, min(machine.layout.batch, int(_MOST_KB / body_kb)))
        self._inbox: deque[Group] = deque()
        self._is_running = False
        self.batches = 0
        self.rows = 0

    def submit(self, group: Group) -> None:
        self._inbox.append(group)
        if not self._is_running:
            self._is_running = True
            self._machine.loop.start(self._run())

    def _run(self) -> Process:
        while self._inbox:
            batch = take(self._inbox, self._room)
            rows = rows_of(batch)
            yield self._machine.use(self._computing(rows))
            yield from self._durable(batch)
            self.batches += 1
            self.rows += rows
            self._done(batch)
        self._is_running = False


@final
class Gateway:
    """Takes requests, accepts them into the databases in turns, answers polls."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.committers = [self._committer(database) for database in machine.databases]
        self.waiting = 0
        self._next = 0

    def _committer(self, database: Database) -> Committer:
        machine = self.machine
        costs, body = machine.costs.accept, machine.layout.stored_kb
        return Committer(
            machine,
            lambda rows: costs.client_time(rows, body),
            database.accept,
            lambda _groups: machine.tell(database),
            body_kb=body,
        )

    def receive(self, group: Group) -> Process:
        """From the request to the inbox of the group commit."""
        machine, layout, costs = self.machine, self.machine.layout, self.machine.costs
        turn = self._next = (self._next + 1) % len(self.committers)
        self.waiting += group.count
        if not layout.population:
            yield machine.use(group.count * costs.submit)
        self.waiting -= group.count
        if layout.bodies_outside:
            yield machine.use(group.count * costs.upstream)
            yield machine.loop.after(_FETCH)
        self.committers[turn].submit(group)

    def poll(self, rows: float) -> Process:
        """Whoever sent these jobs reads how they ended."""
        machine, costs = self.machine, self.machine.costs
        turn = self._next = (self._next + 1) % len(self.committers)
        yield machine.use(rows * (costs.poll + costs.poll_client))
        yield from machine.databases[turn].poll(rows)


@final
class Worker:
    """Claims from one database, runs, settles."""

    def __init__(self, machine: Machine, database: Database, ended: Callable[[Groups], None]) -> None:
        self._machine = machine
        self._database = database
        self._running = 0
        costs = machine.costs.settle

        def done(groups: Groups) -> None:
            self._running -= rows_of(groups)
            machine.tell(database)
            ended(groups)

        self._settling = Committer(
            machine,
            lambda rows: costs.client_time(rows, RESULT_KB),
            database.settle,
            done,
            body_kb=RESULT_KB,
        )

    def claim(self) -> Process:
        machine, database = self._machine, self._database
        costs, body = machine.costs.claim, machine.layout.stored_kb
        while True:
            fired = database.work.fired
            taken: Groups = []
            yield machine.use(costs.client_time(0, body))
            yield from database.claim(_CLAIMED_AT_ONCE, taken)
            rows = rows_of(taken)
            if rows:
                yield machine.use(costs.client_time(rows, body) - costs.client_time(0, body))
                self._running += rows
                machine.loop.start(self._run(taken, rows))
            if machine.layout.population:
                yield machine.loop.after(0.0 if rows else _NO_WORK)
            elif rows < _CLAIMED_AT_ONCE and database.work.fired == fired:
                yield database.work.within(_LOOK_AGAIN)

    def renew(self) -> Process:
        while True:
            yield self._machine.loop.after(_RENEW_EVERY)
            yield from self._database.renew(self._running)

    def _run(self, groups: Groups, rows: int) -> Process:
        machine, layout, costs = self._machine, self._machine.layout, self._machine.costs
        if not layout.population:
            if layout.bodies_outside:
                yield machine.use(rows * costs.upstream)
                yield machine.loop.after(_FETCH)
            yield machine.use(rows * costs.run / 2)
            yield machine.loop.after(layout.vendor)
            yield machine.use(rows * costs.run / 2)
        for group in groups:
            self._settling.submit(group)
