"""Clients of a simulated gateway: each submits one job, may cancel it, and asks until it has ended."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from random import Random
from typing import Final, Protocol, final

import msgspec

from simulation.process import ConnectionLost, SimulatedProcess
from tidegate.api.wire import decode_json, to_chat_request
from tidegate.domain.access import Caller
from tidegate.domain.errors import Conflict, NotFound
from tidegate.domain.inference import RequestType
from tidegate.domain.jobs import JobId, JobRef, JobState
from tidegate.services.submit_job import AskedOptions, Submission

_BUSY: Final = 25.0
"""Seconds in which jobs are submitted."""
_MODELS: Final = ("openai/gpt", "groq/gpt", "openai/other")
_LONG: Final = 86_400


class World(Protocol):
    """What clients see of the simulation."""

    passed: timedelta

    def note(self, event: str) -> None: ...

    def now(self) -> datetime: ...

    async def process(self) -> SimulatedProcess:
        """The one that runs, or the next one that will."""


@final
class Client:
    """What it was told stays in its members, for the judge."""

    def __init__(self, label: str, seed: int, caller: Caller, world: World) -> None:
        self._random = Random(f"{seed} {label}")
        self._caller = caller
        self._world = world
        self.label = label
        self.is_keyed = self._random.random() < 0.6
        self.options = AskedOptions(
            result_ttl=self._random.choice([6, _LONG, _LONG, _LONG]),
            timeout=self._random.choice([3, 15, 40, 80]),
            max_attempts=self._random.choice([1, 2, 3]),
            priority=self._random.randint(1, 5),
        )
        self.job: JobId | None = None
        """Acknowledged."""
        self.acknowledged_at: timedelta | None = None
        """How much store time had passed by then."""
        self.wants_cancel = self._random.random() < 0.25
        self.end: JobState | None = None
        """As it was first seen."""

    async def run(self) -> None:
        await self._pause(_BUSY)
        await self._submit()
        if self.job is None:
            return
        if self.wants_cancel:
            await self._pause(6)
            await self._insist(self._cancel)
        for _ in range(2):  # what it says when asked again must be the same
            await self._insist(self._wait)
            await self._pause(5)

    async def _submit(self) -> None:
        submission = self._submission()

        async def submit(process: SimulatedProcess) -> JobId:
            earlier = await process.submit.replayed(submission)
            if earlier is not None:
                return earlier.id
            request = to_chat_request(decode_json(submission.body))
            return (await process.submit.submit(submission, request)).job.id

        while self.job is None:
            process = await self._world.process()
            try:
                self.job = await process.ask(submit)
            except ConnectionLost:
                if not self.is_keyed:
                    return  # whether there is a job now nobody knows
                await self._pause(1)
            except Conflict:
                return  # there was one; it has expired already
        self._world.now()
        self.acknowledged_at = self._world.passed
        self._world.note(f"{self.label} acknowledged as {self.job}")

    async def _cancel(self, process: SimulatedProcess, job: JobId) -> None:
        try:
            details = await process.ask(lambda asked: asked.cancel.cancel(self._caller, JobRef(job)))
        except (Conflict, NotFound) as refusal:
            self._world.note(f"{self.label} not cancelled: {refusal.code}")
        else:
            self._see(details.state)

    async def _wait(self, process: SimulatedProcess, job: JobId) -> None:
        patience = timedelta(seconds=self._random.choice([0, 1, 10]))
        try:
            while True:
                state = await process.ask(
                    lambda asked: asked.read.state(self._caller, JobRef(job), wait=patience)
                )
                if state.status.is_terminal:
                    return self._see(state)
                await self._pause(2)
        except NotFound:
            self._world.note(f"{self.label} is gone")

    def _see(self, state: JobState) -> None:
        assert state.status.is_terminal
        if self.end is None:
            self.end = state
            self._world.note(f"{self.label} seen {state.status}")
        assert state == self.end, "an end has changed"

    async def _insist(self, ask: Callable[[SimulatedProcess, JobId], Awaitable[None]]) -> None:
        assert self.job is not None
        while True:
            try:
                return await ask(await self._world.process(), self.job)
            except ConnectionLost:
                await self._pause(1)

    async def _pause(self, longest: float) -> None:
        await asyncio.sleep(self._random.uniform(0, longest))

    def _submission(self) -> Submission:
        models = self._random.sample(_MODELS, 2)
        message = {"role": "user", "content": self.label}
        body = {"model": models[0], "messages": [message], "fallbacks": models[1:]}
        return Submission(
            caller=self._caller,
            request_type=RequestType.CHAT_COMPLETION,
            path="/v1/async/chat/completions",
            body=msgspec.json.encode(body),
            asked=self.options,
            idempotency_key=self.label if self.is_keyed else None,
            passes_extra_params=False,
            request_id=self.label,
        )
