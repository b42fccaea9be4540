"""One attempt of a job on the bench: real dialects, vendors that answer by script, time that passes by itself."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Coroutine, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final, TypeVar, final

import msgspec
from msgspec import Struct

from support.fakes import FakeClock
from tidegate.domain.access import ANONYMOUS, KeyId, VirtualKey, owner_of_key
from tidegate.domain.failures import Failure, FailureCode
from tidegate.domain.inference import (
    Call,
    HttpCall,
    HttpReply,
    ProviderKey,
    RequestType,
    Usage,
)
from tidegate.domain.jobs import Claimed, Completed, Ending, Failed, JobError, JobId, Lane, Lease, Options
from tidegate.domain.lane_state import LaneState
from tidegate.domain.models import Catalog, ProviderSetup
from tidegate.domain.secret import Secret
from tidegate.ports import Rng, Transport
from tidegate.providers import VENDORS, provider_for
from tidegate.services.key_directory import KeyDirectory
from tidegate.services.provider_pace import ProviderPace
from tidegate.services.provider_slots import ProviderSlots
from tidegate.services.run_job import JobRun, RunTools

T = TypeVar("T")

LONGEST: Final = 10.0
"""Seconds of real time a test waits for anything."""
HALF_CHANCE: Final = 0.5
BODY: Final[Mapping[str, Any]] = {
    "model": "openai/gpt",
    "messages": [{"role": "user", "content": "ping"}],
}
COMPLETION: Final[Mapping[str, Any]] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1772442909,
    "model": "gpt-2026",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "pong"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3},
}
USAGE: Final = Usage(2, 1, 3)


class Answer(Struct, frozen=True):
    """How a vendor meets one call."""

    status: int = 200
    body: bytes = msgspec.json.encode(COMPLETION)
    headers: dict[str, str] = {}
    takes: float = 0.0
    """Seconds."""
    failure: Failure | None = None
    """Network trouble instead of a reply."""
    error: Exception | None = None
    """A defect of the transport."""
    hangs: bool = False
    """Until the call is cancelled."""
    is_stubborn: bool = False
    """Takes no notice of being cancelled until ``relented`` is set."""


OK: Final = Answer()
HANG: Final = Answer(hangs=True)
STUBBORN: Final = Answer(is_stubborn=True)
UNREACHABLE: Final = Answer(failure=Failure(FailureCode.CONNECTION_FAILED, 'could not reach provider "x"'))


def completion(**changes: Any) -> Answer:
    """A completion whose members ``changes`` replace; ``None`` takes one out."""
    body = {name: value for name, value in {**COMPLETION, **changes}.items() if value is not None}
    return Answer(body=msgspec.json.encode(body))


def refusal(
    status: int, *, retry_after: float | None = None, code: str | None = None, **facts: Any
) -> Answer:
    error = {"message": facts.pop("message", "no"), "type": facts.pop("type", None), "code": code}
    headers = {} if retry_after is None else {"retry-after": f"{retry_after:g}"}
    return Answer(
        status=status,
        body=msgspec.json.encode({"error": error}),
        headers=headers | facts.pop("headers", {}),
        **facts,
    )


QUOTA: Final = refusal(429, code="insufficient_quota")


class Sent(Struct, frozen=True):
    """One call as a vendor saw it."""

    provider: str
    model: str
    key: str
    body: dict[str, Any]
    time_limit: timedelta


@final
class ScriptedVendors:
    """Implements ``Transport``: each provider or model gives its answers in order, the last one for ever."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self._answers: dict[str, deque[Answer]] = {}
        self.sent: list[Sent] = []
        self.called = asyncio.Event()
        self.answering = asyncio.Event()
        """Cleared, vendors keep their callers waiting."""
        self.answering.set()
        self.relented = asyncio.Event()
        self.in_flight = 0
        self.most_in_flight = 0
        self.hung_up: list[str] = []
        """Models whose caller left before the answer."""

    def will(self, *answers: Answer, provider: str = "openai", model: str = "") -> None:
        """What a provider answers; or one of its models, whatever the others do."""
        self._answers[f"{provider}/{model}"] = deque(answers)

    async def send(self, call: HttpCall, *, time_limit: timedelta) -> HttpReply | Failure:
        body = msgspec.json.decode(call.body)
        key = call.credential.value.reveal().removeprefix("Bearer ") if call.credential else ""
        sent = Sent(call.provider, body["model"], key, body, time_limit)
        self.sent.append(sent)
        self.called.set()
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await self.answering.wait()
            return await self._give(self._next(sent), time_limit)
        except asyncio.CancelledError:
            self.hung_up.append(sent.model)
            raise
        finally:
            self.in_flight -= 1

    def _next(self, sent: Sent) -> Answer:
        answers = self._answers.get(f"{sent.provider}/{sent.model}") or self._answers.get(f"{sent.provider}/")
        if answers is None:
            return OK
        return answers.popleft() if len(answers) > 1 else answers[0]

    async def _give(self, answer: Answer, time_limit: timedelta) -> HttpReply | Failure:
        if answer.hangs:
            await asyncio.Event().wait()
        while answer.is_stubborn and not self.relented.is_set():
            with suppress(asyncio.CancelledError):
                await self.relented.wait()
        takes = timedelta(seconds=answer.takes)
        self._clock.advance(min(takes, time_limit))
        if takes > time_limit:
            return Failure(FailureCode.TIMEOUT, "no answer in time", was_sent=True)
        if answer.error is not None:
            raise answer.error
        if answer.failure is not None:
            return answer.failure
        return HttpReply(answer.status, answer.headers, answer.body, self._clock.now())

    @property
    def keys(self) -> list[str]:
        """With which key each call was made."""
        return [call.key for call in self.sent]

    @property
    def models(self) -> list[str]:
        return [f"{call.provider}/{call.model}" for call in self.sent]


@final
class SteadyRng:
    """Chance that is always the same."""

    def __init__(self, value: float = HALF_CHANCE) -> None:
        self.value = value

    def chance(self) -> float:
        return self.value

    def secret_bytes(self, count: int) -> bytes:
        return bytes(count)


@final
class KeyShelf:
    """Implements ``KeyStore`` as far as running jobs goes."""

    def __init__(self, *keys: VirtualKey) -> None:
        self._keys = {key.id: key for key in keys}
        self.looked_up: list[KeyId] = []

    async def get(self, key_id: KeyId) -> VirtualKey | None:
        self.looked_up.append(key_id)
        return self._keys.get(key_id)

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"running a job has no use for {name}")


def a_key(name: str, **members: Any) -> ProviderKey:
    """Its secret is ``sk-<name>``."""
    return ProviderKey(**{"id": name, "name": name, "value": Secret(f"sk-{name}"), **members})


def a_provider(name: str = "openai", *keys: ProviderKey, **members: Any) -> ProviderSetup:
    facts: dict[str, Any] = {
        "name": name,
        "dialect": "openai",
        "base_url": f"https://{name}.example",
        "keys": keys or (a_key("main"),),
        "operations": frozenset(RequestType),
    }
    return ProviderSetup(**(facts | members))


def a_virtual_key(**members: Any) -> VirtualKey:
    now = FakeClock().now()
    facts: dict[str, Any] = {
        "id": KeyId("vk"),
        "name": "vk",
        "created_at": now,
        "updated_at": now,
        "value_hint": "sk-bf-…abcd",
    }
    return VirtualKey(**(facts | members))


def tools_for(
    providers: Sequence[ProviderSetup],
    vendors: Transport,
    keys: KeyDirectory,
    clock: FakeClock,
    rng: Rng | None = None,
) -> RunTools:
    setups = {setup.name: setup for setup in providers}
    return RunTools(
        catalog=Catalog(setups, frozenset(VENDORS)),
        dialects={
            name: provider_for(msgspec.structs.replace(VENDORS[setup.dialect], name=name))
            for name, setup in setups.items()
        },
        transport=vendors,
        keys=keys,
        slots=ProviderSlots({name: setup.concurrency for name, setup in setups.items()}),
        pace=ProviderPace({}, clock),
        lanes={name: LaneState() for name in setups},
        clock=clock,
        rng=rng or SteadyRng(),
    )


@final
class Bench:
    """Providers, and the tools of an attempt around them."""

    def __init__(
        self, *providers: ProviderSetup, virtual_key: VirtualKey | None = None, rng: Rng | None = None
    ) -> None:
        self.clock = FakeClock()
        self.vendors = ScriptedVendors(self.clock)
        self.key_shelf = KeyShelf() if virtual_key is None else KeyShelf(virtual_key)
        self._virtual_key = virtual_key
        self.tools = tools_for(
            providers or (a_provider(),),
            self.vendors,
            KeyDirectory(self.key_shelf, self.clock),
            self.clock,
            rng,
        )
        self.lanes = self.tools.lanes
        self.slots = self.tools.slots

    def run(self, *candidates: str, body: Mapping[str, Any] | bytes = BODY, **members: Any) -> JobRun:
        """An attempt; ``members`` replace what a test cares about."""
        names = candidates or ("openai/gpt",)
        now = self.clock.now()
        key_id = self._virtual_key.id if self._virtual_key is not None else None
        options = Options(max_attempts=members.pop("max_attempts", 3))
        facts: dict[str, Any] = {
            "lease": Lease(JobId("job"), b"token"),
            "request_type": RequestType.CHAT_COMPLETION,
            "owner": ANONYMOUS if key_id is None else owner_of_key(key_id),
            "key_id": key_id,
            "model": names[0],
            "candidates": names,
            "lane": Lane(names[0].split("/")[0]),
            "options": options,
            "passes_extra_params": False,
            "request_id": "request",
            "created_at": now,
            "deadline_at": now + timedelta(seconds=members.pop("time_left", 3600)),
            "started_at": now,
            "attempt": 1,
            "failed_attempts": 0,
            "dead_keys": (),
            "body": body if isinstance(body, bytes) else msgspec.json.encode(body),
        }
        return JobRun(self.tools, Claimed(**(facts | members)))

    async def ending_of(self, run: JobRun) -> Ending:
        return await to_its_end(self.clock, run.execute())

    async def attempt(self, *candidates: str, **members: Any) -> tuple[Ending, Sequence[Call]]:
        """How an attempt ended, and its calls."""
        run = self.run(*candidates, **members)
        return await self.ending_of(run), run.calls


async def to_its_end(clock: FakeClock, work: Coroutine[Any, Any, T]) -> T:
    """Whoever sleeps is woken as soon as everybody sleeps."""
    task = asyncio.create_task(work)
    woken = len(clock.slept)
    async with asyncio.timeout(LONGEST):
        while not task.done():
            await asyncio.sleep(0)
            for pause in clock.slept[woken:]:
                clock.advance(pause)
                woken += 1
    return task.result()


async def within(work: Awaitable[T]) -> T:
    """No test waits for ever."""
    async with asyncio.timeout(LONGEST):
        return await work


def seconds(value: float) -> timedelta:
    return timedelta(seconds=value)


def result_of(ending: Ending) -> dict[str, Any]:
    assert isinstance(ending, Completed), ending
    result = msgspec.json.decode(ending.result)
    assert isinstance(result, dict)
    return result


def error_of(ending: Ending) -> JobError:
    assert isinstance(ending, Failed), ending
    return ending.error
