"""Waiting for a job over HTTP: long polls, one after the other."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from time import sleep
from typing import Any, Final
from urllib.parse import quote

from tidegate.cli.client import GatewayClient
from tidegate.cli.exits import CliError, Exit
from tidegate.clock import SystemClock

SUBMIT_PATH: Final = "/v1/async/chat/completions"
JOBS_PATH: Final = "/v1/async/jobs"
_LONGEST_POLL: Final = timedelta(seconds=60)
_SHORTEST_POLL: Final = timedelta(seconds=1)
_PAUSE_SECONDS: Final = 1


@contextmanager
def resumable(job_id: str) -> Iterator[None]:
    """Ctrl-C ends the wait and not the job: say how to go on with it."""
    try:
        yield
    except KeyboardInterrupt:
        raise CliError(f"\nInterrupted; {_how_to_go_on(job_id)}", Exit.INTERRUPTED) from None


def until_ended(
    client: GatewayClient, job_id: str, time_limit: timedelta | None, *, route: str = JOBS_PATH
) -> dict[str, Any]:
    """What ``route`` says of the job once it has ended. Raises ``CliError``; the job goes on whatever happens here."""
    clock = SystemClock()
    began = clock.monotonic()
    while True:
        waited = timedelta(seconds=clock.monotonic() - began)
        left = _LONGEST_POLL if time_limit is None else time_limit - waited
        if left <= timedelta(0):
            seconds = int(waited.total_seconds())
            raise CliError(
                f"{job_id} has not ended after {seconds} s; {_how_to_go_on(job_id)}", Exit.TIMED_OUT
            )
        reply = client.get(f"{route}/{quote(job_id, safe='')}", hold=max(left, _SHORTEST_POLL))
        job: dict[str, Any] = reply.body
        if job["status"] in {"completed", "failed"}:
            return job
        if reply.headers.get("preference-applied") is None:
            sleep(_PAUSE_SECONDS)  # it holds too many answers already


def _how_to_go_on(job_id: str) -> str:
    return f"the job goes on: tidegate jobs wait {job_id}"
