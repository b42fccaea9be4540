"""Jobs for people: a row of the list, the whole story of one, its answer, its error."""

from typing import Any, Final

from tidegate.cli.screen import Screen

COLUMNS: Final = ("ID", "STATUS", "MODEL", "ATTEMPT", "CREATED", "ENDED", "KEY")


def row(job: dict[str, Any], screen: Screen) -> tuple[str, ...]:
    return (
        job["id"],
        _status(job),
        job["model"],
        str(job["attempt"]),
        screen.moment(job["created_at"]),
        screen.moment(job.get("completed_at")),
        _key_of(job),
    )


def show(job: dict[str, Any], screen: Screen) -> None:
    timings = job["timings"]
    facts = {
        "id": job["id"],
        "status": _status(job),
        "model": job["model"],
        "candidates": ", ".join(job["candidates"]),
        "key": _key_of(job),
        "actor": job.get("actor"),
        "request id": job["request_id"],
        "created": screen.moment(job["created_at"]),
        "next attempt": screen.moment(job.get("next_run_at")),
        "ended": screen.moment(job.get("completed_at")),
        "deadline": screen.moment(job["deadline_at"]),
        "result until": screen.moment(job.get("expires_at")),
        "time": f"{timings['queue_ms']} ms queued, {timings['run_ms']} ms run, {timings['upstream_ms']} ms upstream",
        "workers lost": job["losses"] or None,
    }
    rows = [(name, str(value)) for name, value in facts.items() if value]
    rows += [(f"attempt {attempt['number']}", _attempt(attempt)) for attempt in job["attempts"]]
    rows += [
        (f"call {attempt['number']}.{number}", _call(call))
        for attempt in job["attempts"]
        for number, call in enumerate(attempt.get("calls", ()), start=1)
    ]
    if job["status"] == "failed":
        rows.append(("error", error_text(job)))
    screen.table(("MEMBER", "VALUE"), rows)
    if "result" in job:
        screen.line("")
        screen.line(answer_text(job["result"]))


def answer_text(result: dict[str, Any]) -> str:
    """What the model said in its first choice."""
    choices = result.get("choices") or [{}]
    message = choices[0].get("message") or {}
    content = message.get("content") or message.get("refusal")
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content)
    if content:
        return str(content)
    named = [call.get("function", {}).get("name") for call in message.get("tool_calls") or ()]
    return f"(calls {', '.join(map(str, named))}; see --json)" if named else "(no text; see --json)"


def error_text(job: dict[str, Any]) -> str:
    error = job["error"]["error"]
    return f"{error['message']} [{error['code']}]"


def _status(job: dict[str, Any]) -> str:
    outcome = job.get("outcome")
    return f"{job['status']} ({outcome})" if job["status"] == "failed" and outcome else str(job["status"])


def _key_of(job: dict[str, Any]) -> str:
    key = job.get("virtual_key") or {}
    return str(key.get("name") or key.get("id") or "")


def _attempt(attempt: dict[str, Any]) -> str:
    return str(attempt.get("end", "running"))


def _call(call: dict[str, Any]) -> str:
    target = f"{call['provider']}/{call['model']}" if "provider" in call else f"candidate {call['candidate']}"
    status, code, message = call.get("status_code"), call.get("error_code"), call.get("message")
    parts = [target, f"HTTP {status}" if status else None, code, message]
    usage = call.get("usage") or {}
    if usage.get("total_tokens") is not None:
        parts.append(f"{usage['total_tokens']} tokens")
    return ", ".join(str(part) for part in parts if part)
