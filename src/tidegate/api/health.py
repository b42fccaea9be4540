"""Health, readiness, metrics: for probes and scrapers (contract §2.4)."""

import hmac
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, final

from tidegate.api.answers import Answer, json_answer
from tidegate.api.errors import error_answer
from tidegate.api.inbound import Inbound
from tidegate.domain.access import Caller
from tidegate.domain.errors import ErrorCode, Overloaded, StoreError
from tidegate.domain.secret import Secret
from tidegate.ports import Clock, JobStore

_PROBE_EVERY: Final = 1.0


@final
class HealthChecks:
    """Handlers of the health routes. No health route ever calls a vendor."""

    def __init__(
        self,
        store: JobStore,
        clock: Clock,
        *,
        is_draining: Callable[[], bool],
        warnings: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        """``warnings`` tells what is wrong with the store, though it works."""
        self._store = store
        self._warnings = warnings
        self._clock = clock
        self._is_draining = is_draining
        self._probed_at = float("-inf")
        self._trouble: StoreError | None = None

    async def health(self, inbound: Inbound, caller: Caller) -> Answer:
        trouble = await self._probe()
        if trouble is not None:
            return self._refused(trouble, inbound)
        return json_answer(200, {"status": "ok", "components": {"db_pings": "ok"}})

    async def alive(self, inbound: Inbound, caller: Caller) -> Answer:
        return json_answer(200, {"status": "ok"})

    async def ready(self, inbound: Inbound, caller: Caller) -> Answer:
        if self._is_draining():
            raise Overloaded(ErrorCode.SHUTTING_DOWN, "the server is shutting down")
        trouble = await self._probe()
        if trouble is not None:
            return self._refused(trouble, inbound)
        warnings = self._warnings()
        return json_answer(200, {"status": "ready"} | ({"warnings": [*warnings]} if warnings else {}))

    async def _probe(self) -> StoreError | None:
        """Whether a write is possible: tried at most once a second, whoever asks."""
        now = self._clock.monotonic()
        if now - self._probed_at >= _PROBE_EVERY:
            self._probed_at = now
            try:
                await self._store.check()
                self._trouble = None
            except StoreError as exc:
                self._trouble = exc
        return self._trouble

    def _refused(self, trouble: StoreError, inbound: Inbound) -> Answer:
        reason = "; ".join((trouble.message, *self._warnings()))
        error = StoreError(ErrorCode.STORAGE_UNAVAILABLE, f"no write is possible: {reason}")
        return error_answer(error, request_id=inbound.request_id, request_type=None)


@final
class Metrics:
    """Handler of ``/metrics``, and who may read it besides admins."""

    def __init__(
        self, render: Callable[[], Awaitable[bytes]], *, is_public: bool, token: Secret | None
    ) -> None:
        self._render = render
        self._is_public = is_public
        self._token = token

    def may_read(self, inbound: Inbound) -> bool:
        if self._is_public:
            return True
        if self._token is None:
            return False
        scheme, _, value = inbound.headers.get(b"authorization", b"").partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(value, self._token.reveal().encode())

    async def scrape(self, inbound: Inbound, caller: Caller) -> Answer:
        body = await self._render()
        return Answer(200, body, ((b"content-type", b"text/plain; version=0.0.4; charset=utf-8"),))
