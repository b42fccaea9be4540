"""Submit: every check that can be made before the 202, then the commit that the 202 stands for."""

import hashlib
from collections.abc import Sequence
from datetime import timedelta
from typing import Final, final

import msgspec
from msgspec import Struct

from tidegate.domain.access import Caller, KeyCaller, VirtualKey, idempotency_scope, owner_of
from tidegate.domain.chat import ChatRequest
from tidegate.domain.chat_rules import check_required, check_values
from tidegate.domain.errors import ErrorCode, GatewayError, InvalidRequest
from tidegate.domain.ids import uuid7
from tidegate.domain.inference import Candidate, RequestType
from tidegate.domain.jobs import Accepted, Idempotency, JobId, JobState, Lane, NewJob, Options
from tidegate.domain.models import Catalog, check_allowed, check_available, resolve
from tidegate.ports import Clock, JobStore, Observer, Rng
from tidegate.services.long_work import in_turns

LONGEST_MODEL: Final = 256
_REMEMBERED_FOR: Final = timedelta(hours=24)


class OptionLimits(Struct, frozen=True):
    """Defaults and maxima of the job options, from the configuration. Seconds."""

    result_ttl: int = 3600
    result_ttl_max: int = 2_592_000
    timeout: int = 3600
    timeout_max: int = 604_800


class AskedOptions(Struct, frozen=True):
    """Job options as the headers ask for them; ``None`` where they do not."""

    result_ttl: int | None = None
    timeout: int | None = None
    max_attempts: int | None = None
    priority: int | None = None


class Submission(Struct, frozen=True):
    """One submit, decoded: who sends what, with which options."""

    caller: Caller
    request_type: RequestType
    path: str
    body: bytes
    """As received, decompressed."""
    asked: AskedOptions
    idempotency_key: str | None
    passes_extra_params: bool
    request_id: str
    missing_headers: tuple[str, ...] = ()
    """Headers that the operator demands and the request does not bring."""


@final
class SubmitJob:
    """Steps 7 to 13 of contract §3."""

    def __init__(
        self,
        store: JobStore,
        catalog: Catalog,
        clock: Clock,
        rng: Rng,
        observer: Observer,
        limits: OptionLimits,
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._clock = clock
        self._rng = rng
        self._observer = observer
        self._limits = limits

    async def replayed(self, submission: Submission) -> JobState | None:
        """The job of an earlier submit with the same key and body.

        Asked before validation, so that a replay is not refused because the configuration has changed.
        """
        idempotency = await in_turns(len(submission.body), self._idempotency, submission)
        return await self._store.replayed(idempotency) if idempotency is not None else None

    async def submit(self, submission: Submission, request: ChatRequest) -> Accepted:
        """Durable when it returns. Raises ``GatewayError`` for whatever stands against it."""
        key = submission.caller.key if isinstance(submission.caller, KeyCaller) else None
        try:
            job = await in_turns(len(submission.body), self._checked, submission, request, key)
            accepted = await self._store.accept(job)
        except GatewayError as error:
            error.model_requested = request.model
            raise
        self._observer.job_accepted(job, is_replay=accepted.is_replay)
        return accepted

    def _checked(self, submission: Submission, request: ChatRequest, key: VirtualKey | None) -> NewJob:
        candidates = self._candidates(submission, request, key)
        return self._new_job(submission, request, candidates, key)

    def _candidates(
        self, submission: Submission, request: ChatRequest, key: VirtualKey | None
    ) -> tuple[Candidate, ...]:
        if not request.model:
            raise InvalidRequest(ErrorCode.MISSING_REQUIRED_PARAMETER, "model is required", param="model")
        if len(request.model) > LONGEST_MODEL:
            raise InvalidRequest(
                ErrorCode.TOO_LARGE, f"'model' exceeds {LONGEST_MODEL} characters", param="model"
            )
        candidates = resolve(self._catalog, request.model, request.fallbacks, key, self._rng.chance())
        check_required(request)
        check_values(request, passes_extra_params=submission.passes_extra_params)
        check_available(self._catalog, candidates, submission.request_type, key)
        if submission.missing_headers:
            raise _missing_headers(submission.missing_headers)
        check_allowed(candidates, key)
        return candidates

    def _new_job(
        self,
        submission: Submission,
        request: ChatRequest,
        candidates: tuple[Candidate, ...],
        key: VirtualKey | None,
    ) -> NewJob:
        now = self._clock.now()
        return NewJob(
            id=JobId(uuid7(now, self._rng.secret_bytes(10))),
            request_type=submission.request_type,
            owner=owner_of(submission.caller),
            actor=getattr(submission.caller, "subject", None),
            model=request.model or "",
            candidates=tuple(str(candidate) for candidate in candidates),
            lane=Lane(candidates[0].provider),
            weight=key.weight if key is not None else 1.0,
            options=self._options(submission.asked, key),
            passes_extra_params=submission.passes_extra_params,
            request_id=submission.request_id,
            created_at=now,
            body=submission.body,
            metadata=msgspec.json.encode(request.metadata) if request.metadata is not None else None,
            idempotency=self._idempotency(submission),
        )

    def _options(self, asked: AskedOptions, key: VirtualKey | None) -> Options:
        """Above an operator's maximum an option is lowered to it."""
        limits = self._limits
        ttl = min(asked.result_ttl or limits.result_ttl, limits.result_ttl_max)
        priority = asked.priority or 3
        if key is not None:
            ttl = min(ttl, key.result_ttl_max or ttl)
            priority = max(priority, key.priority_ceiling)
        return Options(
            result_ttl=ttl,
            timeout=min(asked.timeout or limits.timeout, limits.timeout_max),
            max_attempts=asked.max_attempts or 3,
            priority=priority,
        )

    def _idempotency(self, submission: Submission) -> Idempotency | None:
        if submission.idempotency_key is None:
            return None
        scope = f"{idempotency_scope(submission.caller)}\0{submission.idempotency_key}"
        return Idempotency(
            scope_digest=hashlib.sha256(scope.encode()).digest(),
            fingerprint=hashlib.sha256(submission.path.encode() + b"\0" + submission.body).digest(),
            keep_for=_REMEMBERED_FOR,
        )


def _missing_headers(names: Sequence[str]) -> InvalidRequest:
    return InvalidRequest(
        ErrorCode.MISSING_REQUIRED_HEADERS,
        f"missing required headers: {', '.join(names)}",
        param=names[0],
    )
