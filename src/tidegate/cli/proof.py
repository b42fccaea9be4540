"""The proof: jobs in flight, ``kill -9``, a restart on the same store, and a count of what came of each job."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter, sleep
from typing import Any, Final, final

from tidegate.cli.client import GatewayClient, GatewayRefused
from tidegate.cli.demo_report import Story, Tally
from tidegate.cli.exits import CliError, Exit
from tidegate.cli.job_views import answer_text
from tidegate.cli.stage import Child, Stage
from tidegate.cli.waiting import SUBMIT_PATH, until_ended
from tidegate.clock import SystemClock

_MODEL: Final = "mock/echo"
_PATIENCE: Final = timedelta(seconds=60)
_LONGEST_GATHERING: Final = 2.0
_CALL_AFTER_THE_KILLS: Final = 1.0
_LOOK_EVERY: Final = 0.05


@final
class Proof:
    """One run of it."""

    def __init__(self, stage: Stage, story: Story, config: Path, *, vendor_url: str) -> None:
        self._stage = stage
        self._story = story
        self._config = config
        self._vendor_url = vendor_url
        self._clock = SystemClock()

    def run(self, gateway: Child, client: GatewayClient, *, jobs: int, kills: int) -> Tally:
        calls_before = self._vendor()["total"]
        # Long enough that the first call is still under way when the last job has been submitted.
        self._make_calls_take(2 + jobs / 100)
        accepted = self._submit(client, jobs)
        tally = Tally(accepted=len(accepted), kills=kills)
        restarts: list[datetime] = []
        for _ in range(kills):
            tally.in_flight.append(self._gather(len(accepted)))
            gateway.process.kill()
            gateway.process.wait()
            self._story.killed(gateway.process.pid, tally.in_flight[-1])
            restarts.append(self._clock.now())
            gateway, client = self._stage.start_gateway(self._config)
            self._story.started("gateway again", client.url, gateway.seconds)
        self._make_calls_take(_CALL_AFTER_THE_KILLS)
        claims = self._count(client, accepted, tally)
        tally.first_claims = [_first_after(restart, claims) for restart in restarts]
        tally.vendor_calls = self._vendor()["total"] - calls_before
        return tally

    def _submit(self, client: GatewayClient, jobs: int) -> dict[str, str]:
        """Ids of accepted jobs, each with what it asked."""
        accepted = {}
        with self._story.progress("accepted", jobs) as advance:
            for number in range(1, jobs + 1):
                text = f"Message {number} of {jobs}"
                request = {"model": _MODEL, "messages": [{"role": "user", "content": text}]}
                accepted[client.send("POST", SUBMIT_PATH, request).body["id"]] = text
                advance()
        return accepted

    def _gather(self, jobs: int) -> int:
        """Wait until the vendor is busy with all of them; how many it is busy with."""
        began = perf_counter()
        while (busy := self._vendor()["in_flight"]) < jobs and perf_counter() - began < _LONGEST_GATHERING:
            sleep(_LOOK_EVERY)
        return int(busy)

    def _count(self, client: GatewayClient, accepted: dict[str, str], tally: Tally) -> list[datetime]:
        """What came of each job; when attempts began."""
        claims: list[datetime] = []
        deadline = perf_counter() + _PATIENCE.total_seconds()
        with self._story.progress("ended", len(accepted)) as advance:
            for job_id, text in accepted.items():
                job = _ended(client, job_id, timedelta(seconds=max(1, deadline - perf_counter())))
                _book(job, text, tally)
                claims += [_moment(attempt["started_at"]) for attempt in (job or {}).get("attempts", ())]
                advance()
        return claims

    def _make_calls_take(self, seconds: float) -> None:
        """From now on: those under way keep their pace."""
        script = {"rules": [{"model": "echo", "latency": seconds}]}
        GatewayClient(self._vendor_url, lambda: None).send("PUT", "/mock/script", script)

    def _vendor(self) -> dict[str, Any]:
        totals: dict[str, Any] = GatewayClient(self._vendor_url, lambda: None).get("/mock/calls").body
        return totals


def _ended(client: GatewayClient, job_id: str, patience: timedelta) -> dict[str, Any] | None:
    """The job, or ``None`` if it is gone or never ends."""
    try:
        return until_ended(client, job_id, patience)
    except GatewayRefused as refused:
        if refused.status == 404:
            return None
        raise
    except CliError as error:
        if error.code is Exit.TIMED_OUT:
            return None
        raise


def _book(job: dict[str, Any] | None, text: str, tally: Tally) -> None:
    if job is None:
        tally.lost += 1
        return
    results = sum(attempt.get("end") == "succeeded" for attempt in job["attempts"])
    tally.duplicates += max(0, results - 1)
    if job["status"] == "failed":
        tally.failed += 1
        return
    tally.completed += 1
    tally.wrong_answers += answer_text(job["result"]) != text


def _first_after(restart: datetime, claims: list[datetime]) -> float | None:
    later = [claim for claim in claims if claim >= restart]
    return (min(later) - restart).total_seconds() if later else None


def _moment(timestamp: str) -> datetime:
    return datetime.fromisoformat(timestamp).astimezone(UTC)
