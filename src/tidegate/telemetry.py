"""What is worth knowing: every event becomes one rich line and moves the metrics."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, final

import structlog

from tidegate.domain.access import VirtualKey, key_of_owner
from tidegate.domain.inference import Call
from tidegate.domain.jobs import Claimed, Completed, Ending, Failed, JobDetails, NewJob, Postponed
from tidegate.logs import configure_logging, mask
from tidegate.metrics import GatewayMetrics

__all__ = ["Telemetry", "configure_logging", "mask"]


@final
class Telemetry:
    """Implements ``Observer``: every event becomes a line and moves the metrics."""

    def __init__(self, metrics: GatewayMetrics) -> None:
        self._metrics = metrics
        # Bound once: binding anew for every line would cost more than the line.
        self._log: Any = structlog.get_logger().bind()

    def job_accepted(self, job: NewJob, *, is_replay: bool) -> None:
        self._metrics.job_submitted(job)
        self._log.info(
            "job.accepted",
            job_id=job.id,
            request_id=job.request_id,
            key_id=key_of_owner(job.owner) or job.owner,
            type=job.request_type,
            model=job.model,
            priority=job.options.priority,
            replay=is_replay,
        )

    def job_ended(
        self, job: Claimed, ending: Ending, calls: Sequence[Call], *, duration: timedelta, was_ours: bool
    ) -> None:
        self._metrics.job_ended(job, ending, calls, duration=duration, was_ours=was_ours)
        self._log.info(
            _event_of(ending) if was_ours else "job.superseded",
            job_id=job.id,
            request_id=job.request_id,
            key_id=key_of_owner(job.owner) or job.owner,
            type=job.request_type,
            model=job.model,
            attempt=job.attempt,
            run_ms=duration // timedelta(milliseconds=1),
            queue_ms=max(0, (job.started_at - job.created_at) // timedelta(milliseconds=1)),
            calls=len(calls),
            **_facts_of(ending, calls),
        )

    def job_cancelled(self, job: JobDetails) -> None:
        self._metrics.job_cancelled(job)
        self._log.info("job.cancelled", job_id=job.state.id, request_id=job.state.request_id)

    def key_changed(self, action: str, key: VirtualKey, actor: str) -> None:
        self._log.info(f"key.{action}", key_id=key.id, name=key.name, actor=actor)

    def jobs_rescued(self, count: int) -> None:
        self._metrics.jobs_rescued(count)
        self._log.warning("jobs.rescued", count=count)

    def jobs_expired(self, count: int) -> None:
        self._metrics.jobs_expired(count)
        self._log.warning("jobs.expired", count=count)

    def problem(self, event: str, **facts: object) -> None:
        self._metrics.problem(event)
        self._log.warning(event, **facts)

    def slowed_down(self, address: str, times: int) -> None:
        """Somebody keeps sending credentials that do not hold: each is counted, one a minute gets a line."""
        self._metrics.slowed_down()
        if times == 1:
            self._log.warning("auth.guessing", address=address)

    def started(self, **facts: object) -> None:
        self._log.info("gateway.started", **facts)

    def stopping(self, **facts: object) -> None:
        self._log.info("gateway.stopping", **facts)

    def stopped(self, **facts: object) -> None:
        self._log.info("gateway.stopped", **facts)

    def answered(self, method: str, route: str, status: int, code: str | None, request_id: str) -> None:
        """An HTTP answer: counted; a refusal is worth a line only to who debugs."""
        self._metrics.answered(method, route, str(status), code)
        if code is not None:
            self._log.debug("request.refused", route=route, status=status, code=code, request_id=request_id)


def _event_of(ending: Ending) -> str:
    match ending:
        case Completed() | Failed():
            return "job.finished"
        case Postponed(is_charged=True):
            return "job.postponed"
        case Postponed():
            return "job.released"


def _facts_of(ending: Ending, calls: Sequence[Call]) -> dict[str, Any]:
    last = calls[-1] if calls else None
    facts: dict[str, Any] = {"provider": last.provider if last else None}
    match ending:
        case Completed(result=result):
            facts |= {"status": "completed", "outcome": "succeeded", "result_bytes": len(result)}
        case Failed(error=error):
            facts |= {"status": "failed", "outcome": error.outcome, "error_code": error.code}
        case Postponed(delay=delay):
            facts |= {"delay_s": round(delay.total_seconds(), 3)}
    if last is not None and last.usage is not None:
        facts |= {"tokens": last.usage.total_tokens}
    return {name: value for name, value in facts.items() if value is not None}
