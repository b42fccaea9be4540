"""``POST /v1/async/chat/completions``: the receipt (contract §3, §4)."""

from datetime import timedelta
from typing import Final, final

from tidegate.api.answers import NO_STORE, Answer, Header, header, json_bytes
from tidegate.api.inbound import Inbound
from tidegate.api.options import read_idempotency_key, read_options, read_wait
from tidegate.api.views import envelope, poll_path
from tidegate.api.wire import read_json, to_chat_request
from tidegate.domain.access import Caller
from tidegate.domain.inference import RequestType
from tidegate.domain.jobs import JobRef, JobState
from tidegate.services.poll_hints import PollHints
from tidegate.services.read_job import ReadJob
from tidegate.services.submit_job import Submission, SubmitJob

_REPLAYED: Final = (b"idempotent-replayed", b"true")
_QUERY: Final = ("wait",)


@final
class SubmitChat:
    """Handler of the submit route."""

    def __init__(
        self,
        submit: SubmitJob,
        read: ReadJob,
        hints: PollHints,
        *,
        body_limit: int,
        required_headers: tuple[str, ...] = (),
    ) -> None:
        self._submit = submit
        self._read = read
        self._hints = hints
        self._body_limit = body_limit
        self._required_headers = tuple(name.lower() for name in required_headers)

    async def __call__(self, inbound: Inbound, caller: Caller) -> Answer:
        inbound.check_body_headers(self._body_limit)
        query = inbound.query(_QUERY) if inbound.query_string else {}
        wait = read_wait(inbound, query)
        asked = read_options(inbound)
        key = read_idempotency_key(inbound)
        body = await inbound.body(self._body_limit)
        value = await read_json(body)
        submission = Submission(
            caller=caller,
            request_type=RequestType.CHAT_COMPLETION,
            path=inbound.path,
            body=body,
            asked=asked,
            idempotency_key=key,
            passes_extra_params=inbound.headers.get(b"x-bf-passthrough-extra-params") == b"true",
            request_id=inbound.request_id,
            missing_headers=self._missing_headers(inbound),
        )
        earlier = await self._submit.replayed(submission) if key is not None else None
        if earlier is not None:
            return await self._answer(caller, earlier, wait, is_replay=True)
        request = to_chat_request(value)
        accepted = await self._submit.submit(submission, request)
        return await self._answer(caller, accepted.job, wait, is_replay=accepted.is_replay)

    async def _answer(
        self, caller: Caller, job: JobState, wait: timedelta | None, *, is_replay: bool
    ) -> Answer:
        headers: list[Header] = [header("location", poll_path(job)), NO_STORE]
        if is_replay:
            headers.append(_REPLAYED)
        status = 202
        if wait is not None and self._read.may_wait():
            headers.append(applied(wait))
            job = await self._read.state(caller, JobRef(job.id, job.request_type), wait=wait)
            status = 200 if job.status.is_terminal else 202
        if not job.status.is_terminal:
            headers.append(header("retry-after", self._hints.retry_after(job)))
        return json_bytes(status, envelope(job), *headers)

    def _missing_headers(self, inbound: Inbound) -> tuple[str, ...]:
        return tuple(name for name in self._required_headers if name.encode() not in inbound.headers)


def applied(wait: timedelta) -> Header:
    return header("preference-applied", f"wait={wait // timedelta(seconds=1)}")
