"""The jobs resource: rich view, list, cancel (contract §11)."""

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final, final

import msgspec

from tidegate.api.answers import NO_STORE, Answer, Header, header, json_answer
from tidegate.api.inbound import Inbound
from tidegate.api.options import read_wait
from tidegate.api.poll import conditional, job_id_of
from tidegate.api.submit import applied
from tidegate.api.views import list_entry, rich_view
from tidegate.domain.access import AdminCaller, Caller, Owner, key_of_owner
from tidegate.domain.errors import ErrorCode, InvalidRequest
from tidegate.domain.ids import is_uuid
from tidegate.domain.jobs import JobDetails, JobFilter, JobId, JobRef, Status
from tidegate.ports import Clock
from tidegate.services.cancel_job import CancelJob
from tidegate.services.key_directory import KeyDirectory
from tidegate.services.list_jobs import ListJobs
from tidegate.services.poll_hints import PollHints
from tidegate.services.read_job import ReadJob

_VIEW_QUERY: Final = ("result", "wait")
_LIST_QUERY: Final = ("status", "model", "limit", "order", "after")
_LONGEST_PAGE: Final = 200
_PAGE: Final = 50


@final
class Jobs:
    """Handlers of ``/v1/async/jobs``."""

    def __init__(
        self,
        read: ReadJob,
        cancel: CancelJob,
        listing: ListJobs,
        keys: KeyDirectory,
        hints: PollHints,
        clock: Clock,
    ) -> None:
        self._read = read
        self._cancel = cancel
        self._listing = listing
        self._keys = keys
        self._hints = hints
        self._clock = clock

    async def view(self, inbound: Inbound, caller: Caller) -> Answer:
        query = inbound.query(_VIEW_QUERY) if inbound.query_string else {}
        wait = read_wait(inbound, query)
        with_result = _flag(query, "result")
        ref = JobRef(job_id_of(inbound))
        headers: list[Header] = [NO_STORE]
        if wait is not None and self._read.may_wait():
            headers.append(applied(wait))
            job = await self._read.details(caller, ref, wait=wait)
        else:
            job = await self._read.details(caller, ref)
        if not job.state.status.is_terminal:
            headers.append(header("retry-after", self._hints.retry_after(job.state)))
        body = msgspec.json.encode(await self._rich(caller, job, with_result=with_result))
        return conditional(inbound, 200, body, headers)

    async def cancel(self, inbound: Inbound, caller: Caller) -> Answer:
        inbound.query(())
        job = await self._cancel.cancel(caller, JobRef(job_id_of(inbound)))
        return json_answer(200, await self._rich(caller, job, with_result=True), NO_STORE)

    async def list(self, inbound: Inbound, caller: Caller) -> Answer:
        query = inbound.query(_LIST_QUERY)
        wanted = JobFilter(statuses=_statuses(query), model=_single(query, "model"))
        newest_first = _choice(query, "order", ("desc", "asc")) == "desc"
        cursor = _Cursor(wanted, newest_first=newest_first)
        page = await self._listing.page(
            caller,
            wanted,
            limit=_limit(query),
            newest_first=newest_first,
            after=cursor.read(_single(query, "after")),
        )
        now, for_admin = self._clock.now(), _is_admin(caller)
        answer: dict[str, Any] = {
            "object": "list",
            "data": [
                list_entry(job, now, for_admin=for_admin, key_name=await self._key_name(job.owner))
                for job in page.jobs
            ],
            "has_more": page.next_after is not None,
        }
        if page.next_after is not None:
            answer["next_cursor"] = cursor.write(page.next_after)
        return json_answer(200, answer, NO_STORE)

    async def _rich(self, caller: Caller, job: JobDetails, *, with_result: bool) -> dict[str, Any]:
        return rich_view(
            job,
            self._clock.now(),
            for_admin=_is_admin(caller),
            key_name=await self._key_name(job.owner),
            with_result=with_result,
        )

    async def _key_name(self, owner: Owner) -> str | None:
        key_id = key_of_owner(owner)
        key = await self._keys.get(key_id) if key_id is not None else None
        return key.name if key is not None else None


class _Cursor:
    """An opaque place in one particular list: bound to the filters it was made with."""

    def __init__(self, wanted: JobFilter, *, newest_first: bool) -> None:
        filters = msgspec.json.encode((wanted, newest_first))
        self._seal = hashlib.sha256(filters).digest()[:6]

    def write(self, last: JobId) -> str:
        place = bytes.fromhex(last.replace("-", ""))
        return base64.urlsafe_b64encode(self._seal + place).rstrip(b"=").decode()

    def read(self, cursor: str | None) -> JobId | None:
        if cursor is None:
            return None
        try:
            raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        digits = raw[6:].hex()
        place = f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
        if raw[:6] != self._seal or not is_uuid(place):
            raise InvalidRequest(ErrorCode.INVALID_CURSOR, "cursor is not valid for this list", param="after")
        return JobId(place)


def _is_admin(caller: Caller) -> bool:
    return isinstance(caller, AdminCaller)


def _single(query: Mapping[str, Sequence[str]], name: str) -> str | None:
    values = query.get(name)
    if values is None:
        return None
    if len(values) > 1:
        raise _invalid(name, "expected to be given once")
    return values[0]


def _statuses(query: Mapping[str, Sequence[str]]) -> tuple[Status, ...]:
    names = [str(status) for status in Status]
    for value in query.get("status", ()):
        if value not in names:
            raise _invalid("status", f"expected one of {', '.join(names)}")
    return tuple(Status(value) for value in query.get("status", ()))


def _limit(query: Mapping[str, Sequence[str]]) -> int:
    value = _single(query, "limit")
    if value is None:
        return _PAGE
    if not (value.isascii() and value.isdigit() and len(value) <= 3 and 1 <= int(value) <= _LONGEST_PAGE):
        raise _invalid("limit", f"expected an integer from 1 to {_LONGEST_PAGE}")
    return int(value)


def _choice(query: Mapping[str, Sequence[str]], name: str, allowed: tuple[str, ...]) -> str:
    value = _single(query, name)
    if value is None:
        return allowed[0]
    if value not in allowed:
        raise _invalid(name, f"expected one of {', '.join(allowed)}")
    return value


def _flag(query: Mapping[str, Sequence[str]], name: str) -> bool:
    return _choice(query, name, ("true", "false")) == "true"


def _invalid(name: str, problem: str) -> InvalidRequest:
    return InvalidRequest(ErrorCode.INVALID_QUERY_PARAMETER, f"invalid {name}: {problem}", param=name)
