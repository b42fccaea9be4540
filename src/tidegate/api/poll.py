"""``GET /v1/async/<type>/{id}``: 202 while the job is unfinished, 200 with its end (contract §4.4)."""

from typing import Final, final

from tidegate.api.answers import NO_STORE, Answer, Header, header, json_bytes
from tidegate.api.inbound import Inbound
from tidegate.api.options import read_wait
from tidegate.api.submit import applied
from tidegate.api.views import envelope, etag
from tidegate.domain.access import Caller
from tidegate.domain.ids import NIL, is_uuid
from tidegate.domain.inference import RequestType
from tidegate.domain.jobs import JobId, JobRef
from tidegate.services.poll_hints import PollHints
from tidegate.services.read_job import ReadJob

_QUERY: Final = ("wait",)


@final
class Poll:
    """Handler of a poll route. No side effect on state, cost, TTL or limits."""

    def __init__(self, read: ReadJob, hints: PollHints, request_type: RequestType) -> None:
        self._read = read
        self._hints = hints
        self._request_type = request_type

    async def __call__(self, inbound: Inbound, caller: Caller) -> Answer:
        query = inbound.query(_QUERY) if inbound.query_string else {}
        wait = read_wait(inbound, query)
        ref = JobRef(job_id_of(inbound), self._request_type)
        headers: list[Header] = [NO_STORE]
        if wait is not None and self._read.may_wait():
            headers.append(applied(wait))
            job = await self._read.state(caller, ref, wait=wait)
        else:
            job = await self._read.state(caller, ref)
        is_over = job.status.is_terminal
        if not is_over:
            headers.append(header("retry-after", self._hints.retry_after(job)))
        return conditional(inbound, 200 if is_over else 202, envelope(job), headers)


def job_id_of(inbound: Inbound) -> JobId:
    """The id in the path; a malformed one becomes the nil UUID, so that every miss runs the same query."""
    return JobId(inbound.path_id if is_uuid(inbound.path_id) else NIL)


def conditional(inbound: Inbound, status: int, body: bytes, headers: list[Header]) -> Answer:
    """The answer with its ``ETag``, or 304 when the client has it already."""
    tag = etag(body)
    headers.append((b"etag", tag))
    asked = inbound.headers.get(b"if-none-match")
    if asked is not None and _names(asked, tag):
        return Answer(304, b"", tuple(headers))
    return json_bytes(status, body, *headers)


def _names(if_none_match: bytes, tag: bytes) -> bool:
    """RFC 9110 §13.1.2: weak comparison against a list, or ``*``."""
    tags = {part.strip().removeprefix(b"W/") for part in if_none_match.split(b",")}
    return b"*" in tags or tag in tags
