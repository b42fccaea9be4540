"""The worker: claims what its lanes have room for, runs each job in a task of its own, settles the ending."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from enum import Enum, auto
from types import CoroutineType
from typing import Any, Final, final

from tidegate import fault_points
from tidegate.domain.errors import StorageFull, StoreBusy, StoreError
from tidegate.domain.fleet import ALONE, Fleet
from tidegate.domain.inference import Call
from tidegate.domain.jobs import (
    INTERNAL_ERROR,
    Claimed,
    Completed,
    Ending,
    Failed,
    JobId,
    Lane,
    Lease,
)
from tidegate.domain.lane_state import LaneState
from tidegate.ports import Clock, JobStore, Observer, WakeUps
from tidegate.services.poll_hints import PollHints
from tidegate.services.run_job import JobRun, LeftEarly, RunTools

_LOOK_AGAIN: Final = timedelta(seconds=1)
_MOST_CLAIMED_AT_ONCE: Final = 256
_MOST_HELD: Final = 64 * 2**20
"""Bytes of endings that wait for the store to have room; beyond, nothing more is claimed."""
_PAUSE_WHEN_FULL: Final = timedelta(seconds=1)
_TIME_TO_SETTLE: Final = timedelta(seconds=1)
"""How long a drain waits for the endings of what it has stopped."""
_PATIENCE: Final = 10.0
"""Seconds a cancelled run may take to let go."""


class _Phase(Enum):
    CREATED = auto()
    """The task exists and has not begun: it cannot be cancelled without losing the job's release."""
    RUNNING = auto()
    STOPPING = auto()
    SETTLING = auto()


@final
class _Active:
    """A job this worker holds."""

    __slots__ = ("job", "phase", "run", "stopped_at", "task")

    def __init__(self, job: Claimed, run: JobRun) -> None:
        self.job = job
        self.run = run
        self.phase = _Phase.CREATED
        self.stopped_at = 0.0
        self.task: asyncio.Task[None] | None = None


@final
class Worker:
    """Runs jobs until it is told to drain."""

    def __init__(
        self,
        store: JobStore,
        tools: RunTools,
        limits: Mapping[Lane, int],
        wake_ups: WakeUps,
        clock: Clock,
        observer: Observer,
        hints: PollHints,
        most: int | None = None,
    ) -> None:
        """``limits`` of the lanes hold for all workers together, ``most`` for each lane of this one."""
        self._hints = hints
        self._store = store
        self._tools = tools
        self._limits = limits
        self._most = most
        self._fleet = ALONE
        self._wake_ups = wake_ups
        self._clock = clock
        self._observer = observer
        self._active: dict[JobId, _Active] = {}
        self._running: dict[Lane, int] = dict.fromkeys(limits, 0)
        self._saturated: set[Lane] = set()
        self._held = 0
        self._is_claiming = False
        self._ended_meanwhile: set[JobId] = set()
        """Jobs that ended while a claim was under way, which may have brought them as well."""
        self._is_draining = False
        self._idle = asyncio.Event()
        self._idle.set()
        wake_ups.on_ended(self._stop_if_ours)

    @property
    def running(self) -> Mapping[Lane, int]:
        """Jobs under way, by lane."""
        return self._running

    def take_fleet(self, fleet: Fleet) -> None:
        """From now on this worker has its part of every limit."""
        if fleet == self._fleet:
            return
        self._fleet = fleet
        self._tools.pace.take_fleet(fleet)
        for name, setup in self._tools.catalog.providers.items():
            self._tools.slots.resize(name, max(1, fleet.share(name).part(setup.concurrency)))
        self._wake_ups.work_arrived()

    def leases(self) -> list[Lease]:
        return [active.job.lease for active in self._active.values()]

    async def run(self) -> None:
        """Claim and start jobs until ``drain`` is called."""
        while not self._is_draining:
            try:
                await self._look()
            except (StorageFull, StoreBusy):
                await self._clock.sleep(_PAUSE_WHEN_FULL)
            except StoreError:
                return  # the store is going down and the process with it
            except Exception as exc:  # noqa: BLE001 – without this loop no job would ever start again
                self._observer.problem("worker.broken", error=repr(type(exc)), exc_info=exc)
                await self._clock.sleep(_PAUSE_WHEN_FULL)

    async def drain(self, time_limit: timedelta) -> None:
        """Stop claiming, give running calls until the limit, then release what is left, uncharged."""
        self._is_draining = True
        self._wake_ups.work_arrived()
        for active in list(self._active.values()):
            active.run.leave()
            if not active.run.is_calling:
                self._stop(active)
        if await self._is_idle_within(time_limit):
            return
        for active in list(self._active.values()):
            self._stop(active)
        if await self._is_idle_within(_TIME_TO_SETTLE):
            return
        # A store without room, or runs that do not let go: the next start takes these jobs back.
        self._observer.problem("drain.incomplete", jobs=len(self._active))
        for active in list(self._active.values()):
            self._give_up(active)

    def lost(self, leases: list[Lease]) -> None:
        """These leases are no longer ours: stop spending on their jobs."""
        for lease in leases:
            active = self._active.get(lease.job_id)
            if active is not None and active.job.lease == lease:
                self._stop(active)

    def free_stuck_runs(self) -> None:
        """A run that ignores being cancelled loses its places; what becomes of its job is the store's."""
        too_long_ago = self._clock.monotonic() - _PATIENCE
        for active in list(self._active.values()):
            if active.phase is _Phase.STOPPING and active.stopped_at <= too_long_ago:
                self._observer.problem("run.stuck", job_id=active.job.id, stack=_stack_of(active.task))
                self._give_up(active)

    async def _look(self) -> None:
        """Claim and start what there is room for, then wait for more."""
        room = self._room()
        if room and await self._claim(room):
            return
        await self._wake_ups.wait_for_work(await self._until_next_look(may_claim=bool(room)))

    async def _claim(self, room: Mapping[Lane, int]) -> bool:
        """Start what was claimed; whether a lane gave all that was asked of it and has room for more."""
        self._is_claiming = True
        self._idle.clear()
        try:
            claimed = await self._store.claim(room, fleet=self._limits)
            if claimed:
                fault_points.reached("after_claim")
            for job in claimed:
                if job.id not in self._ended_meanwhile:
                    self._start(job)
        finally:
            self._is_claiming = False
            self._ended_meanwhile.clear()
            self._note_whether_idle()
        taken = Counter(job.lane for job in claimed)
        room_left = self._room()
        return any(taken[lane] >= asked and lane in room_left for lane, asked in room.items())

    def _room(self) -> dict[Lane, int]:
        """How many jobs each lane may take now; lanes without room are left out."""
        if self._held > _MOST_HELD:
            return {}
        now = self._clock.monotonic()
        room: dict[Lane, int] = {}
        self._saturated.clear()
        for lane in self._limits:
            free = self._health(lane).capacity(self._limit_of(lane), self._running[lane], now)
            in_time = self._tools.pace.room(lane)
            if in_time is not None:
                free = min(free, in_time)
            if free > 0:
                room[lane] = min(free, _MOST_CLAIMED_AT_ONCE)
            else:
                self._saturated.add(lane)
        return room

    def _limit_of(self, lane: Lane) -> int:
        part = self._fleet.share(lane).part(self._limits[lane])
        return part if self._most is None else min(part, self._most)

    def _health(self, lane: Lane) -> LaneState:
        return self._tools.lanes[lane]

    async def _until_next_look(self, *, may_claim: bool) -> timedelta:
        until = _LOOK_AGAIN
        # A job that is due gets its place in a claim: without one it would stay due, and we awake.
        due = await self._store.next_due() if may_claim else None
        if due is not None:
            until = min(until, due - self._clock.now())
        now = self._clock.monotonic()
        for lane in self._limits:
            opens_in = max(self._health(lane).opens_in(now), self._tools.pace.ready_in(lane))
            if opens_in > 0:
                until = min(until, timedelta(seconds=opens_in))
        return max(until, timedelta(milliseconds=1))

    def _start(self, job: Claimed) -> None:
        active = _Active(job, JobRun(self._tools, job))
        if self._is_draining:
            active.run.leave()
        self._active[job.id] = active
        self._idle.clear()
        self._running[job.lane] += 1
        self._health(job.lane).enter(self._clock.monotonic())
        active.task = asyncio.create_task(self._work(active))

    async def _work(self, active: _Active) -> None:
        began = self._clock.monotonic()
        try:
            ending = await self._run(active)
            active.phase = _Phase.SETTLING
            if active.run.calls:
                fault_points.reached("after_call_before_settle")
            was_ours = await self._end(active, ending)
            duration = timedelta(seconds=self._clock.monotonic() - began)
            self._hints.note(active.job.model, duration)
            self._observer.job_ended(
                active.job, ending, active.run.calls, duration=duration, was_ours=was_ours
            )
        except StoreError:
            pass  # the store is down: the lease is void with this process, and the job is rescued
        finally:
            self._finish(active)

    async def _run(self, active: _Active) -> Ending:
        if active.phase is _Phase.STOPPING:
            return active.run.released()
        active.phase = _Phase.RUNNING
        try:
            return await active.run.execute()
        except (LeftEarly, StoreError):
            return active.run.released()  # also when the store could not say whether its key still holds
        except asyncio.CancelledError as exc:
            if active.phase is not _Phase.STOPPING:
                return self._broken(active, exc)
            # Drained, or ended by somebody else; in the latter case the store drops the ending.
            if active.task is not None:
                active.task.uncancel()
            return active.run.released()
        except Exception as exc:  # noqa: BLE001 – a defect in one job must not take the worker down
            return self._broken(active, exc)

    def _broken(self, active: _Active, exc: BaseException) -> Failed:
        self._observer.problem("job.broken", job_id=active.job.id, error=repr(type(exc)), exc_info=exc)
        return Failed(INTERNAL_ERROR)

    async def _end(self, active: _Active, ending: Ending) -> bool:
        try:
            return await self._settle(active.job.lease, ending, active.run.calls)
        except StoreError:
            raise
        except Exception as exc:  # noqa: BLE001 – an ending that cannot be written must not keep the job from one
            return await self._settle(active.job.lease, self._broken(active, exc), ())

    async def _settle(self, lease: Lease, ending: Ending, calls: Sequence[Call]) -> bool:
        """Write the ending; while the store has no room it is held, never dropped."""
        size = len(ending.result) if isinstance(ending, Completed) else 0
        self._held += size
        try:
            while True:
                try:
                    return await self._store.settle(lease, ending, calls)
                except (StorageFull, StoreBusy):
                    await self._clock.sleep(_PAUSE_WHEN_FULL)
        finally:
            self._held -= size

    def _finish(self, active: _Active) -> None:
        if self._active.get(active.job.id) is not active:
            return  # given up before; its places are somebody else's
        del self._active[active.job.id]
        self._running[active.job.lane] -= 1
        self._note_whether_idle()
        if active.job.lane in self._saturated:
            self._wake_ups.work_arrived()

    def _give_up(self, active: _Active) -> None:
        if active.task is not None:
            active.task.cancel()
        active.run.abandon()
        self._finish(active)

    def _note_whether_idle(self) -> None:
        if not self._active and not self._is_claiming:
            self._idle.set()

    async def _is_idle_within(self, time_limit: timedelta) -> bool:
        try:
            async with asyncio.timeout(time_limit.total_seconds()):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def _stop_if_ours(self, job_id: JobId) -> None:
        if self._is_claiming:
            self._ended_meanwhile.add(job_id)
        active = self._active.get(job_id)
        if active is not None:
            self._stop(active)

    def _stop(self, active: _Active) -> None:
        if active.phase is _Phase.RUNNING and active.task is not None:
            active.task.cancel()
        if active.phase in {_Phase.CREATED, _Phase.RUNNING}:
            active.phase = _Phase.STOPPING
            active.stopped_at = self._clock.monotonic()


def _stack_of(task: asyncio.Task[None] | None) -> str:
    """Where the run waits, from the outside in. Without variables: they hold requests and keys."""
    places: list[str] = []
    waits: Any = task.get_coro() if task is not None else None
    while isinstance(waits, CoroutineType) and waits.cr_frame is not None:
        places.append(f"{waits.cr_code.co_qualname}:{waits.cr_frame.f_lineno}")
        waits = waits.cr_await
    return " > ".join(places)
