"""Run: one attempt of a job. Walks the candidates, calls vendors, and says how the attempt ended.

The steps of an attempt: recheck the key → for each candidate choose a provider key, call, and ask
``domain.retry`` what next → the first completion wins, else ``domain.retry`` says end or retry later.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, final

import msgspec

from tidegate import fault_points
from tidegate.domain.access import VirtualKey, refusal
from tidegate.domain.errors import ErrorCode
from tidegate.domain.failures import Failure, FailureClass, FailureCode
from tidegate.domain.inference import (
    Call,
    Candidate,
    Completion,
    HttpCall,
    HttpReply,
    InferenceRequest,
    ProviderKey,
    Target,
)
from tidegate.domain.jobs import (
    DEADLINE_EXCEEDED,
    Claimed,
    Completed,
    Ending,
    Failed,
    JobError,
    Outcome,
    Postponed,
)
from tidegate.domain.lane_state import LaneState
from tidegate.domain.models import (
    REFUSAL_MESSAGES,
    Catalog,
    ProviderSetup,
    no_eligible_keys_message,
)
from tidegate.domain.retry import End, GiveUp, NextCandidate, RetryCall, RotateKey, after_attempt, next_step
from tidegate.ports import Clock, Provider, Rng, Transport
from tidegate.services.call_log import CallLog
from tidegate.services.candidate_keys import CandidateKeys
from tidegate.services.key_directory import KeyDirectory
from tidegate.services.long_work import in_turns
from tidegate.services.prepare_request import prepare_request
from tidegate.services.provider_pace import ProviderPace
from tidegate.services.provider_slots import ProviderSlots, Slot

_TOO_LATE: Final = timedelta(milliseconds=10)
"""So close to the deadline no call is begun: a timer that stands for it may fire a little early."""


class RunTools(msgspec.Struct, frozen=True):
    """What every attempt works with; built once."""

    catalog: Catalog
    dialects: Mapping[str, Provider]
    """By provider name."""
    transport: Transport
    keys: KeyDirectory
    slots: ProviderSlots
    pace: ProviderPace
    lanes: Mapping[str, LaneState]
    clock: Clock
    rng: Rng


class LeftEarly(Exception):
    """The process is going down and the attempt has no call under way: the job can be released."""


class _OutOfTime(Exception):
    """The job's deadline has struck."""


class _Visit(msgspec.Struct, frozen=True):
    """One candidate in one attempt."""

    index: int
    candidate: Candidate
    setup: ProviderSetup
    keys: CandidateKeys


@final
class JobRun:
    """One attempt under one lease. ``calls`` is complete whenever the attempt is left, however it is left."""

    def __init__(self, tools: RunTools, job: Claimed) -> None:
        self._tools = tools
        self._job = job
        self._dead_keys: set[str] = set(job.dead_keys)
        self._key: VirtualKey | None = None
        self._slot: Slot | None = None
        self._gave_up = False
        self._is_leaving = False
        self._log = CallLog(tools.clock)
        self.is_calling = False
        """A vendor is at work: cancelling now may waste what it bills."""

    @property
    def calls(self) -> Sequence[Call]:
        return self._log.calls

    async def execute(self) -> Ending:
        """How the attempt ended. Cancelling it closes the call under way and keeps the record of it."""
        refused = await self._recheck_key()
        if refused is not None:
            return Failed(refused)
        request = await in_turns(
            len(self._job.body),
            prepare_request,
            self._job.request_type,
            self._job.body,
            passes_extra_params=self._job.passes_extra_params,
        )
        try:
            return await self._walk(
                [Candidate(*text.split("/", 1)) for text in self._job.candidates], request
            )
        except _OutOfTime:
            return Failed(DEADLINE_EXCEEDED)

    def leave(self) -> None:
        """Begin no further call."""
        self._is_leaving = True

    def released(self) -> Postponed:
        """The ending of an attempt that is left before it has one."""
        return Postponed(is_charged=False, dead_keys=tuple(sorted(self._dead_keys)))

    def abandon(self) -> None:
        """The attempt does not end though it was cancelled: others may have its slot."""
        if self._slot is not None:
            self._slot.release()

    async def _recheck_key(self) -> JobError | None:
        """Rights may have gone since the submit (contract §8.4)."""
        if self._job.key_id is None:
            return None
        key = await self._tools.keys.get(self._job.key_id)
        if key is None:
            return _refused(ErrorCode.VIRTUAL_KEY_NOT_FOUND, "virtual key not found", 401)
        if not key.is_active:
            return _refused(ErrorCode.VIRTUAL_KEY_BLOCKED, "virtual key is inactive", 403)
        if key.is_expired(self._tools.clock.now()):
            return _refused(ErrorCode.VIRTUAL_KEY_EXPIRED, "virtual key has expired", 401)
        self._key = key
        return None

    async def _walk(self, candidates: Sequence[Candidate], request: InferenceRequest) -> Ending:
        failures: list[Failure] = []
        for index, candidate in enumerate(candidates):
            if candidate in candidates[:index]:
                self._log.skip(index, FailureCode.DUPLICATE_CANDIDATE)
                continue
            barred = self._barred(index, candidate)
            if barred is not None:
                self._log.skip(index, barred.code)
                failures.append(barred)
                continue
            result = await self._try_candidate(index, candidate, request)
            if isinstance(result, Completed):
                return result
            failures.append(result)
            if self._gave_up:
                break
        return self._after(candidates[0], failures)

    def _barred(self, index: int, candidate: Candidate) -> Failure | None:
        """Why the candidate is not even called."""
        reason = refusal(self._key, candidate.provider, candidate.model)
        if reason is not None:
            message = REFUSAL_MESSAGES[reason].format(provider=candidate.provider, model=candidate.model)
            return Failure(FailureCode(reason), message)
        if candidate.provider not in self._tools.catalog.providers:
            return Failure(FailureCode.NO_ELIGIBLE_KEYS, no_eligible_keys_message(candidate))
        lane = self._tools.lanes[candidate.provider]
        if index > 0 and lane.is_closed(self._tools.clock.monotonic()):
            return Failure(
                FailureCode.PROVIDER_COOLING, f'provider "{candidate.provider}" is not called for now'
            )
        return None

    async def _try_candidate(
        self, index: int, candidate: Candidate, request: InferenceRequest
    ) -> Completed | Failure:
        """All calls to one candidate: its answer, or its last failure."""
        setup = self._tools.catalog.providers[candidate.provider]
        keys = CandidateKeys(candidate, setup, self._key, self._dead_keys)
        visit = _Visit(index, candidate, setup, keys)
        retries_used = 0
        while True:
            key = keys.choose(self._tools.rng.chance())
            if key is None:
                return self._no_key_left(visit)
            target = Target(setup.name, candidate.model, setup.base_url, key)
            dialect = self._tools.dialects[setup.name]
            outgoing = await in_turns(len(self._job.body), dialect.build, request, target)
            if isinstance(outgoing, Failure):
                self._log.skip(index, outgoing.code)
                return outgoing
            if index > 0 and not self._tools.slots.has_room(setup.name):
                self._log.skip(index, FailureCode.PROVIDER_BUSY)
                return Failure(FailureCode.PROVIDER_BUSY, f'provider "{setup.name}" has no free slot')
            result = await self._call(visit, key, outgoing, request)
            if isinstance(result, Completed):
                return result
            if self._is_too_late():
                raise _OutOfTime
            self._note_health(visit, key, result)
            step = next_step(
                result,
                policy=setup.retry,
                retries_used=retries_used,
                another_key_is_eligible=keys.can_replace(key),
                is_primary=index == 0,
                time_left=self._time_left(),
                chance=self._tools.rng.chance(),
            )
            match step:
                case NextCandidate():
                    return result
                case GiveUp():
                    self._gave_up = True
                    return result
                case RotateKey():
                    keys.kill(key)
                case RetryCall(delay=delay):
                    retries_used += 1
                    if result.failure_class is FailureClass.RATE_LIMITED:
                        keys.rest(key)
                    await self._pause(delay)

    def _no_key_left(self, visit: _Visit) -> Failure:
        failure = visit.keys.why_none()
        if not self._log.mentions(visit.index):
            self._log.skip(visit.index, failure.code)
        return failure

    async def _call(
        self, visit: _Visit, key: ProviderKey, outgoing: HttpCall, request: InferenceRequest
    ) -> Completed | Failure:
        """One HTTP request, under one of the provider's slots and in its turn."""
        slot = self._slot = await self._tools.slots.take(visit.setup.name)
        try:
            await self._tools.pace.turn(visit.setup.name)
            self._check_may_call()
            if visit.index > 0:
                self._tools.lanes[visit.setup.name].enter(self._tools.clock.monotonic())
            return await self._send(visit, key, outgoing, request)
        finally:
            slot.release()

    def _check_may_call(self) -> None:
        if self._is_leaving:
            raise LeftEarly
        if self._is_too_late():
            raise _OutOfTime

    async def _send(
        self, visit: _Visit, key: ProviderKey, outgoing: HttpCall, request: InferenceRequest
    ) -> Completed | Failure:
        setup = visit.setup
        record = Call(visit.index, setup.name, visit.candidate.model, key.name, self._tools.clock.now())
        began = self._tools.clock.monotonic()
        self.is_calling = True
        fault_points.reached("before_call")
        try:
            reply = await self._tools.transport.send(
                outgoing, time_limit=min(setup.call_timeout, self._time_left())
            )
            ended = self._tools.clock.monotonic()
            if isinstance(reply, Failure):
                return self._log.failed(record, reply)
            result = self._read(setup, request, reply)
        except BaseException:
            self._log.cut_off(record)
            raise
        finally:
            self.is_calling = False
        if isinstance(result, Failure):
            return self._log.failed(record, result)
        self._tools.lanes[setup.name].succeeded(ended)
        if result.usage is not None:
            self._tools.pace.spent(setup.name, result.usage.total_tokens)
        self._log.succeeded(record, reply, result)
        dropped = (*request.dropped, *outgoing.dropped)
        return self._completed(visit, dropped, result, timedelta(seconds=ended - began))

    def _read(
        self, setup: ProviderSetup, request: InferenceRequest, reply: HttpReply
    ) -> Completion | Failure:
        dialect = self._tools.dialects[setup.name]
        return dialect.parse(request, reply) if 200 <= reply.status < 300 else dialect.explain(reply)

    def _completed(
        self, visit: _Visit, dropped: Sequence[str], completion: Completion, took: timedelta
    ) -> Completed:
        extra = _extra_fields(self._job, visit.candidate, dropped, completion, took)
        result = {**completion.result, "extra_fields": extra}
        result.setdefault("model", visit.candidate.model)
        return Completed(msgspec.json.encode(result))

    def _note_health(self, visit: _Visit, used: ProviderKey, failure: Failure) -> None:
        """Tell the lane, which is everybody's: a limit on one of several keys is no concern of theirs."""
        lane = self._tools.lanes[visit.setup.name]
        now = self._tools.clock.monotonic()
        if not failure.failure_class.may_heal:
            lane.refused(now)
        elif failure.failure_class is FailureClass.TRANSIENT:
            lane.failed(now)
        elif visit.keys.others_can_replace(used):
            return
        elif failure.retry_after:
            lane.limited(now, failure.retry_after.total_seconds())
        else:
            lane.failed(now)

    async def _pause(self, delay: timedelta) -> None:
        if self._is_leaving:
            raise LeftEarly
        await self._tools.clock.sleep(delay)

    def _after(self, primary: Candidate, failures: Sequence[Failure]) -> Ending:
        verdict = after_attempt(
            failures,
            failed_attempts=self._job.failed_attempts + 1,
            max_attempts=self._job.options.max_attempts,
            time_left=self._time_left(),
            chance=self._tools.rng.chance(),
        )
        if isinstance(verdict, End):
            return Failed(_job_error(verdict.failure, primary))
        return Postponed(delay=verdict.delay, dead_keys=tuple(sorted(self._dead_keys)))

    def _time_left(self) -> timedelta:
        return self._job.deadline_at - self._tools.clock.now()

    def _is_too_late(self) -> bool:
        return self._time_left() <= _TOO_LATE


def _extra_fields(
    job: Claimed, candidate: Candidate, dropped: Sequence[str], completion: Completion, took: timedelta
) -> dict[str, Any]:
    """Members that every result carries (contract §6.6)."""
    extra: dict[str, Any] = {
        "request_type": job.request_type,
        "provider": candidate.provider,
        "model_requested": job.model,
        "original_model_requested": job.model,
        "resolved_model_used": candidate.model,
        "latency": round(took / timedelta(milliseconds=1)),
    }
    if dropped:
        extra["dropped_params"] = list(dict.fromkeys(dropped))
    if completion.response_headers:
        extra["provider_response_headers"] = completion.response_headers
    if completion.is_simulated:
        extra["simulated"] = True
    return extra


def _job_error(failure: Failure, primary: Candidate) -> JobError:
    refused = failure.code in {FailureCode.PROVIDER_BLOCKED, FailureCode.MODEL_BLOCKED}
    return JobError(
        code=failure.code,
        message=failure.message,
        status_code=failure.job_status,
        outcome=Outcome.REFUSED if refused else Outcome.PROVIDER_ERROR,
        provider=primary.provider,
    )


def _refused(code: ErrorCode, message: str, status: int) -> JobError:
    return JobError(code, message, status, Outcome.REFUSED)
