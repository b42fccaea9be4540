"""Metrics in Prometheus' words. Label values come from the configuration, never from request text."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, final

from prometheus_client import CollectorRegistry, generate_latest

from tidegate import __version__
from tidegate.domain.inference import Call
from tidegate.domain.jobs import (
    Claimed,
    Completed,
    Ending,
    Failed,
    JobDetails,
    Lane,
    NewJob,
    Postponed,
    QueueCounts,
)
from tidegate.domain.models import Catalog
from tidegate.family_tallies import FamilyTallies
from tidegate.tally import Durations, Level, Tallies, Tally

OTHER: Final = "other"
_PRIORITIES: Final = ("", "1", "2", "3", "4", "5")


@final
class GatewayMetrics:
    """What is counted, and what moves it."""

    def __init__(self, catalog: Catalog) -> None:
        self._models = {
            model
            for setup in catalog.providers.values()
            for key in setup.keys
            for name in key.models
            if name != "*"
            for model in (name, f"{setup.name}/{name}")
        }
        self._submitted = Tally("jobs_submitted", "Jobs accepted", ("type", "model"))
        self._finished = Tally("jobs_finished", "Jobs that have ended", ("type", "model", "outcome"))
        self._attempts = Tally("attempts", "Attempts that are over", ("end",))
        self._calls = Tally("upstream_calls", "Calls to providers", ("provider", "model", "error_code"))
        self._fallbacks = Tally("fallbacks", "Calls to a fallback", ("provider",))
        self._tokens = Tally("tokens", "Tokens reported by providers", ("provider", "model", "direction"))
        self._losses = Tally("worker_losses", "Attempts lost with a worker")
        self._zombies = Tally("zombie_writes", "Endings dropped because the lease was lost")
        self._expired = Tally("jobs_expired", "Jobs that did not end before their deadline")
        self._stuck = Tally("stuck_runs", "Runs that went on after they were cancelled")
        self._clock_steps = Tally("clock_step", "Jumps of the wall clock")
        self._rejected = Tally("rejected", "Requests refused", ("code",))
        self._slowed = Tally("auth_failures_slowed", "Refused credentials that were answered late")
        self._requests = Tally("http_requests", "HTTP requests answered", ("method", "route", "status"))
        self._queue_wait = Durations("queue_wait_seconds", "From submit to the first claim", ("priority",))
        self._duration = Durations("job_duration_seconds", "From submit to the end", ("type", "priority"))
        self._latency = Durations("upstream_latency_seconds", "Duration of a call", ("provider",))
        self._pending = Level("jobs_pending", "Jobs that wait", ("priority",))
        self._processing = Level("jobs_processing", "Jobs that run", ("priority",))
        self._oldest = Level("oldest_pending_age_seconds", "Age of the oldest job that waits", ("priority",))
        self._lane_open = Level("provider_lane_open", "1 while the provider is called", ("provider",))
        self._running = Level("provider_calls_running", "Jobs under way", ("provider",))
        build_info = Level("build_info", "The version that runs", ("version",))
        build_info.set((__version__,), 1)
        self._family: FamilyTallies | None = None
        self._tallies = Tallies(
            (
                self._submitted, self._finished, self._attempts, self._calls, self._fallbacks, self._tokens,
                self._losses, self._zombies, self._expired, self._stuck, self._clock_steps, self._rejected, self._slowed, self._requests, self._queue_wait,
                self._duration, self._latency, self._pending, self._processing, self._oldest,
                self._lane_open, self._running, build_info,
            )
        )  # fmt: skip
        self._registry = CollectorRegistry()
        self._registry.register(self._tallies)

    def share(self, family: FamilyTallies) -> None:
        """Tell the other processes on this address what was counted here; a scrape shows all of it from now on.

        Raises ``OSError`` when it cannot be written.
        """
        self._family = family
        family.write(self._tallies.state())

    def job_submitted(self, job: NewJob) -> None:
        self._submitted.add((job.request_type, self._model(job.model)))

    def job_ended(
        self, job: Claimed, ending: Ending, calls: Sequence[Call], *, duration: timedelta, was_ours: bool
    ) -> None:
        for call in calls:
            self._called(call)
        if not was_ours:
            self._zombies.add()
            return
        waited = (job.started_at - job.created_at).total_seconds()
        priority = _PRIORITIES[job.options.priority]
        if job.attempt == 1:
            self._queue_wait.observe((priority,), waited)
        match ending:
            case Postponed(is_charged=is_charged):
                self._attempts.add(("requeued" if is_charged else "released",))
                return
            case Completed():
                self._attempts.add(("succeeded",))
                outcome = "succeeded"
            case Failed(error=error):
                self._attempts.add(("failed",))
                outcome = error.outcome
        self._finished.add((job.request_type, self._model(job.model), outcome))
        self._duration.observe((job.request_type, priority), waited + duration.total_seconds())

    def job_cancelled(self, job: JobDetails) -> None:
        self._finished.add((job.state.request_type, self._model(job.state.model), "cancelled"))

    def jobs_rescued(self, count: int) -> None:
        self._losses.add(amount=count)

    def jobs_expired(self, count: int) -> None:
        self._expired.add(amount=count)

    def problem(self, event: str) -> None:
        """Problems that have a counter of their own move it."""
        match event:
            case "run.stuck":
                self._stuck.add()
            case "clock.step":
                self._clock_steps.add()

    def slowed_down(self) -> None:
        self._slowed.add()

    def answered(self, method: str, route: str, status: str, code: str | None) -> None:
        self._requests.add((method, route, status))
        if code is not None:
            self._rejected.add((code,))

    def render(
        self,
        counts: QueueCounts,
        now: datetime,
        lanes: Mapping[str, bool],
        running: Mapping[Lane, int],
    ) -> bytes:
        """The exposition text; levels are set to what is given."""
        if self._family is not None:
            self._tallies.others = self._family.others()
        for priority in range(1, 6):
            label = (_PRIORITIES[priority],)
            self._pending.set(label, counts.pending.get(priority, 0))
            self._processing.set(label, counts.processing.get(priority, 0))
            oldest = counts.oldest_pending.get(priority)
            age = (now - oldest).total_seconds() if oldest is not None else 0.0
            self._oldest.set(label, max(0.0, age))
        for lane, is_open in lanes.items():
            self._lane_open.set((lane,), int(is_open))
        for lane, count in running.items():
            self._running.set((lane,), count)
        return generate_latest(self._registry)

    def _called(self, call: Call) -> None:
        provider = call.provider
        if provider is None or call.model is None:
            return
        model = self._model(call.model)
        self._calls.add((provider, model, call.error_code or ""))
        if call.candidate > 0:
            self._fallbacks.add((provider,))
        if call.started_at is not None and call.ended_at is not None:
            self._latency.observe((provider,), (call.ended_at - call.started_at).total_seconds())
        if call.usage is not None:
            self._tokens.add((provider, model, "input"), call.usage.prompt_tokens)
            self._tokens.add((provider, model, "output"), call.usage.completion_tokens)

    def _model(self, name: str) -> str:
        return name if name in self._models else OTHER
