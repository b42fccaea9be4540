"""The route table and its guard: no route without a declared scope, no handler without a known caller."""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from enum import Enum, auto
from typing import Final, final

from msgspec import Struct

from tidegate.api.answers import Answer
from tidegate.api.cors import preflight
from tidegate.api.errors import error_answer, internal_error
from tidegate.api.guard import FrontGuard
from tidegate.api.inbound import BodyRoom, ClientGone, Inbound, Receive, Send
from tidegate.api.inbound import Scope as AsgiScope
from tidegate.domain.access import AdminCaller, AnonymousCaller, Caller
from tidegate.domain.errors import (
    ErrorCode,
    Forbidden,
    GatewayError,
    InvalidRequest,
    NotFound,
    Overloaded,
    Unauthenticated,
)
from tidegate.domain.inference import RequestType

Handler = Callable[[Inbound, Caller], Awaitable[Answer]]
Authenticator = Callable[[Inbound], Awaitable[Caller]]

# The only part of a path that is not written in the route table. It stays as it came, nothing is decoded.
_ID: Final = re.compile(r"(?!\.{1,2}$)(?:[A-Za-z0-9._~:-]|%[0-9A-Fa-f]{2})+")


class Scope(Enum):
    """Who may enter a route."""

    OPEN = auto()
    """Anybody, without a credential."""
    CALLER = auto()
    """Any accepted caller."""
    ADMIN = auto()
    """An admin token."""
    METRICS = auto()
    """An admin token, the scraper's token, or anybody where the operator says so."""


class Route(Struct, frozen=True):
    """One line of the route table. ``{id}`` may be the last segment of ``path``, or the last but one."""

    method: str
    path: str
    scope: Scope
    handler: Handler
    request_type: RequestType | None = None
    creates_job: bool = False
    """Refused while the process drains."""


class RouterTools(Struct, frozen=True):
    """What the router needs besides its table."""

    authenticate: Authenticator
    may_read_metrics: Callable[[Inbound], bool]
    is_draining: Callable[[], bool]
    guard: FrontGuard
    make_id: Callable[[], str]
    report_defect: Callable[[Inbound, Exception], None]
    answered: Callable[[str, str, int, str | None, str], None]
    """Hears method, route, status, error code and request id of every answer."""
    refused_credential: Callable[[str], Awaitable[None]]
    """Hears the address that a refused credential came from, and returns when it may be answered."""


@final
class Router:
    """The ASGI application: front guard, match, authenticate, handle, answer."""

    def __init__(self, routes: Iterable[Route], tools: RouterTools) -> None:
        self._tools = tools
        self._cors = tools.guard.cors
        self._room = BodyRoom()
        self._exact: dict[str, dict[str, Route]] = {}
        self._last: dict[str, dict[str, Route]] = {}
        self._last_but_one: dict[tuple[str, str], dict[str, Route]] = {}
        for route in routes:
            self._add(route)

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"unexpected ASGI scope {scope['type']}")
        inbound = Inbound(scope, receive, self._tools.make_id, self._room)
        route: Route | None = None
        code: str | None = None
        try:
            methods = self._methods(inbound)
            if self._cors.is_preflight(inbound):
                answer = preflight(inbound, sorted(methods))
            else:
                route = _chosen(methods, inbound)
                answer = await self._handle(inbound, route)
        except GatewayError as error:
            code = error.code
            if isinstance(error, Unauthenticated) and error.credential_was_sent:
                await self._tools.refused_credential(_address_of(scope))
            answer = self._refusal(error, inbound, route)
        except ClientGone:
            return
        except Exception as exc:  # noqa: BLE001 – a defect is answered with the envelope, never with a traceback
            code = ErrorCode.INTERNAL_ERROR
            self._tools.report_defect(inbound, exc)
            answer = internal_error(inbound.request_id)
        where = route.path if route is not None else "other"
        self._tools.answered(
            route.method if route is not None else "other", where, answer.status, code, inbound.request_id
        )
        await answer.send(
            send, inbound.request_id, is_head=inbound.method == "HEAD", also=self._cors.headers(inbound)
        )

    async def _handle(self, inbound: Inbound, route: Route) -> Answer:
        if route.creates_job and self._tools.is_draining():
            raise Overloaded(ErrorCode.SHUTTING_DOWN, "the server is shutting down")
        caller = await self._admit(inbound, route)
        if inbound.method not in {"GET", "HEAD"}:
            self._tools.guard.check_origin(inbound, caller)
        return await route.handler(inbound, caller)

    async def _admit(self, inbound: Inbound, route: Route) -> Caller:
        if route.scope is Scope.OPEN:
            return AnonymousCaller()
        if route.scope is Scope.METRICS and self._tools.may_read_metrics(inbound):
            return AnonymousCaller()
        caller = await self._tools.authenticate(inbound)
        if route.scope is not Scope.CALLER:
            _require_admin(caller)
        return caller

    def _methods(self, inbound: Inbound) -> Mapping[str, Route]:
        """The routes of the path, by method."""
        self._tools.guard.check_host(inbound)
        methods = self._match(inbound)
        if methods is None:
            raise NotFound(ErrorCode.ROUTE_NOT_FOUND, "no such route")
        return methods

    def _match(self, inbound: Inbound) -> dict[str, Route] | None:
        """Exact paths only: no decoding, no case folding, no trailing slash."""
        path = inbound.path
        found = self._exact.get(path)
        if found is not None:
            return found
        head, _, tail = path.rpartition("/")
        start, _, middle = head.rpartition("/")
        if head in self._last:
            found, inbound.path_id = self._last[head], tail
        else:
            found, inbound.path_id = self._last_but_one.get((start, tail)), middle
        return found if _ID.fullmatch(inbound.path_id) else None

    def _add(self, route: Route) -> None:
        if "{id}" not in route.path:
            self._exact.setdefault(route.path, {})[route.method] = route
            return
        head, _, tail = route.path.partition("/{id}")
        if not tail:
            self._last.setdefault(head, {})[route.method] = route
        else:
            self._last_but_one.setdefault((head, tail[1:]), {})[route.method] = route

    def _refusal(self, error: GatewayError, inbound: Inbound, route: Route | None) -> Answer:
        headers = (error.allow,) if isinstance(error, MethodNotAllowed) else ()
        request_type = route.request_type if route is not None else None
        if error.code is ErrorCode.JOB_NOT_FOUND:
            request_type = None  # the same body whichever way a job is not there
        return error_answer(error, request_id=inbound.request_id, request_type=request_type, headers=headers)


def _address_of(scope: AsgiScope) -> str:
    client = scope.get("client")
    return client[0] if client else ""


def _chosen(methods: Mapping[str, Route], inbound: Inbound) -> Route:
    route = methods.get("GET" if inbound.method == "HEAD" else inbound.method)
    if route is None:
        raise MethodNotAllowed(inbound.method, sorted(methods))
    return route


class MethodNotAllowed(InvalidRequest):
    def __init__(self, method: str, allowed: Sequence[str]) -> None:
        super().__init__(ErrorCode.METHOD_NOT_ALLOWED, f"method {method} is not allowed here")
        names = [*allowed, *(["HEAD"] if "GET" in allowed else [])]
        self.allow = (b"allow", ", ".join(names).encode())


def _require_admin(caller: Caller) -> None:
    if isinstance(caller, AdminCaller):
        return
    if isinstance(caller, AnonymousCaller):
        raise Unauthenticated(
            ErrorCode.VIRTUAL_KEY_REQUIRED,
            "authentication is required: send an admin JWT",
            credential_was_sent=False,
        )
    raise Forbidden(ErrorCode.ADMIN_REQUIRED, "this needs an admin token")
