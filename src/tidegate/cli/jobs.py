"""``tidegate jobs``: submit, wait, look, cancel."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import quote, urlencode

from cyclopts import App, Parameter
from cyclopts.validators import Number

from tidegate.cli import job_views
from tidegate.cli.client import GatewayClient
from tidegate.cli.connect import connect
from tidegate.cli.exits import CliError, Exit
from tidegate.cli.options import (
    DEFAULT_CONNECTION,
    DEFAULT_OUTPUT,
    Connection,
    Duration,
    Flag,
    Output,
    examples,
)
from tidegate.cli.screen import Screen
from tidegate.cli.waiting import JOBS_PATH, SUBMIT_PATH, resumable, until_ended

_LONGEST_PAGE: Final = 200

app = App(
    name="jobs",
    help_prologue=examples(
        'tidegate jobs submit --model mock/echo --message "Hello" --wait 10',
        "tidegate jobs list --status failed",
    ),
)

Status = Literal["pending", "processing", "completed", "failed"]
JobId = Annotated[str, Parameter(help="Id of the job.")]


@app.command(
    help_prologue=examples(
        'tidegate jobs submit --model mock/echo --message "High water?" --wait 60',
        "tidegate jobs submit -f body.json --priority 1 --idempotency-key order-17",
    )
)
def submit(
    *,
    model: Annotated[str | None, Parameter(help="provider/model; replaces the one in the file.")] = None,
    message: Annotated[str | None, Parameter(help="What to say to the model.")] = None,
    file: Annotated[
        str | None,
        Parameter(alias="-f", help="Request body as JSON; - reads stdin.", allow_leading_hyphen=True),
    ] = None,
    fallback: Annotated[
        list[str] | None, Parameter(help="provider/model to try when the first fails; repeatable.")
    ] = None,
    wait: Annotated[
        Duration | None, Parameter(help="Wait that long for the answer; exit code 8 after it.")
    ] = None,
    priority: Annotated[
        int | None, Parameter(help="1 first, 5 last; 3 by default.", validator=Number(gte=1, lte=5))
    ] = None,
    max_attempts: Annotated[
        int | None, Parameter(help="Attempts that may fail; 3 by default.", validator=Number(gte=1, lte=10))
    ] = None,
    timeout: Annotated[
        Duration | None, Parameter(help="Deadline of the job, from now; 1h by default.")
    ] = None,
    ttl: Annotated[Duration | None, Parameter(help="How long the result stays; 1h by default.")] = None,
    idempotency_key: Annotated[
        str | None, Parameter(help="The same key and body again is the same job again.")
    ] = None,
    connection: Connection = DEFAULT_CONNECTION,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Submit a chat completion and print its id; with --wait also the answer."""
    screen = Screen(output)
    body = _body(model, message, file, fallback)
    headers = {
        "x-bf-async-priority": priority,
        "x-bf-async-max-attempts": max_attempts,
        "x-bf-async-timeout": None if timeout is None else max(1, round(timeout.total_seconds())),
        "x-bf-async-job-result-ttl": None if ttl is None else max(1, round(ttl.total_seconds())),
        "idempotency-key": idempotency_key,
    }
    client = connect(connection, screen)
    receipt = client.send(
        "POST", SUBMIT_PATH, body, {name: str(value) for name, value in headers.items() if value is not None}
    ).body
    if wait is None:
        return _show_receipt(receipt, screen)
    with resumable(receipt["id"]):
        if not screen.is_json:
            screen.line(receipt["id"])
        return _show_end(until_ended(client, receipt["id"], wait), screen)


@app.command(
    help_prologue=examples(
        "tidegate jobs wait 019cadd6-a3fe-72d0-833c-352f8860e41f",
        "tidegate jobs wait 019cadd6-a3fe-72d0-833c-352f8860e41f --timeout 10m --json",
    )
)
def wait(
    job_id: JobId,
    /,
    *,
    timeout: Annotated[Duration | None, Parameter(help="Give up after that, with exit code 8.")] = None,
    connection: Connection = DEFAULT_CONNECTION,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Wait until the job has ended and print its answer; exit code 1 if it failed."""
    screen = Screen(output)
    client = connect(connection, screen)
    with resumable(job_id):
        return _show_end(until_ended(client, job_id, timeout), screen)


@app.command(
    name="list",
    help_prologue=examples(
        "tidegate jobs list", "tidegate jobs list --status pending --status processing --all"
    ),
)
def list_jobs(
    *,
    status: Annotated[list[Status] | None, Parameter(help="Only these; repeatable.")] = None,
    model: Annotated[str | None, Parameter(help="Only with exactly this model.")] = None,
    limit: Annotated[int, Parameter(help="How many, newest first.", validator=Number(gte=1))] = 50,
    all_: Annotated[Flag, Parameter(name="--all", help="All of them.")] = False,
    connection: Connection = DEFAULT_CONNECTION,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """List jobs, newest first: your own, or everybody's for an administrator."""
    screen = Screen(output)
    found = _listed(connect(connection, screen), status or [], model, None if all_ else limit)
    if screen.is_json:
        screen.entries(found)
        return Exit.OK
    screen.table(job_views.COLUMNS, [job_views.row(job, screen) for job in found])
    return Exit.OK


@app.command(
    help_prologue=examples(
        "tidegate jobs show 019cadd6-a3fe-72d0-833c-352f8860e41f",
        "tidegate jobs show 019cadd6-a3fe-72d0-833c-352f8860e41f --json",
    )
)
def show(
    job_id: JobId, /, *, connection: Connection = DEFAULT_CONNECTION, output: Output = DEFAULT_OUTPUT
) -> int:
    """Show everything about one job: times, attempts, calls, answer or error."""
    screen = Screen(output)
    job = connect(connection, screen).get(f"{JOBS_PATH}/{quote(job_id, safe='')}").body
    if screen.is_json:
        screen.document(job)
    else:
        job_views.show(job, screen)
    return Exit.OK


@app.command(
    help_prologue=examples(
        "tidegate jobs cancel 019cadd6-a3fe-72d0-833c-352f8860e41f",
        "tidegate jobs cancel $(tidegate jobs list --status pending | cut -f1)",
    )
)
def cancel(
    *job_ids: JobId, connection: Connection = DEFAULT_CONNECTION, output: Output = DEFAULT_OUTPUT
) -> int:
    """Cancel jobs, waiting or running; exit code 5 if some could not be."""
    if not job_ids:
        raise CliError("name at least one job: tidegate jobs cancel ID", Exit.USAGE)
    screen = Screen(output)
    client = connect(connection, screen)
    refusals = [refusal for job_id in job_ids if (refusal := _cancel(client, job_id, screen)) is not None]
    for refusal in refusals:
        screen.problem(str(refusal))
    if not refusals:
        return Exit.OK
    return refusals[0].code if len(refusals) == len(job_ids) else Exit.PARTLY


def _cancel(client: GatewayClient, job_id: str, screen: Screen) -> CliError | None:
    try:
        job = client.send("POST", f"{JOBS_PATH}/{quote(job_id, safe='')}/cancel").body
    except CliError as refusal:
        return CliError(f"{job_id}: {refusal}", refusal.code)
    if screen.is_json:
        screen.entries([job])
    else:
        screen.line(f"cancelled {job['id']}")
    return None


def _body(model: str | None, message: str | None, file: str | None, fallback: list[str] | None) -> bytes:
    """What is sent: the file as it stands, unless a flag says otherwise. Raises ``CliError``."""
    if (message is None) == (file is None):
        raise CliError("say either --message TEXT or -f FILE", Exit.USAGE)
    if file is not None and model is None and fallback is None:
        return _read(file)
    request = _request_in(file) if file is not None else {}
    if message is not None:
        request["messages"] = [{"role": "user", "content": message}]
    if model is not None:
        request["model"] = model
    if fallback is not None:
        request["fallbacks"] = fallback
    if "model" not in request:
        raise CliError("name a model: --model provider/model", Exit.USAGE)
    return json.dumps(request, ensure_ascii=False).encode()


def _read(file: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise CliError(f"cannot read {file}: {error.strerror}", Exit.USAGE) from error


def _request_in(file: str) -> dict[str, Any]:
    try:
        request = json.loads(_read(file))
    except ValueError as error:
        raise CliError(f"{file} is not JSON: {error}", Exit.USAGE) from error
    if not isinstance(request, dict):
        raise CliError(f"{file} is not a JSON object", Exit.USAGE)
    return request


def _listed(
    client: GatewayClient, statuses: list[Status], model: str | None, limit: int | None
) -> Iterator[dict[str, Any]]:
    """Page by page; ``None`` is no limit."""
    left, after = limit, None
    while left is None or left > 0:
        size = _LONGEST_PAGE if left is None else min(left, _LONGEST_PAGE)
        query: list[tuple[str, str]] = [("limit", str(size)), *(("status", one) for one in statuses)]
        query += [(name, value) for name, value in (("model", model), ("after", after)) if value is not None]
        page = client.get(f"{JOBS_PATH}?{urlencode(query)}").body
        yield from page["data"]
        after = page.get("next_cursor")
        if after is None:
            return
        left = None if left is None else left - len(page["data"])


def _show_receipt(receipt: dict[str, Any], screen: Screen) -> int:
    if screen.is_json:
        screen.document(receipt)
    else:
        screen.line(receipt["id"])
        screen.note(f"Wait for it with: tidegate jobs wait {receipt['id']}")
    return Exit.OK


def _show_end(job: dict[str, Any], screen: Screen) -> int:
    """The job has ended, one way or the other."""
    if screen.is_json:
        screen.document(job)
    elif job["status"] == "completed":
        screen.line(job_views.answer_text(job["result"]))
    else:
        screen.problem(f"The job failed: {job_views.error_text(job)}")
    return Exit.OK if job["status"] == "completed" else Exit.FAILED
