"""The application: every route with who may enter it, on one page."""

from collections.abc import Callable
from typing import Any, Final

from msgspec import Struct

from tidegate.api.docs_page import Reference
from tidegate.api.health import HealthChecks, Metrics
from tidegate.api.jobs import Jobs
from tidegate.api.keys import VirtualKeys
from tidegate.api.openapi import openapi_document
from tidegate.api.poll import Poll
from tidegate.api.routing import Route, Scope
from tidegate.api.submit import SubmitChat
from tidegate.domain.inference import RequestType

_CHAT: Final = RequestType.CHAT_COMPLETION
_CHAT_PATH: Final = "/v1/async/chat/completions"
OPERATIONS: Final = frozenset({"/health", "/healthz", "/readyz", "/metrics"})
"""Paths for those who look after a process, served also where there is no API."""
_KEYS_PATH: Final = "/api/governance/virtual-keys"


class Handlers(Struct, frozen=True):
    """What the routes lead to."""

    submit_chat: SubmitChat
    poll_chat: Poll
    jobs: Jobs
    keys: VirtualKeys
    health: HealthChecks
    metrics: Metrics


def route_table(handlers: Handlers, version: str) -> list[Route]:
    """The whole HTTP surface."""
    h = handlers
    reference = Reference(_document_of(lambda: route_table(handlers, version), version))
    return [
        Route("POST", _CHAT_PATH, Scope.CALLER, h.submit_chat, _CHAT, creates_job=True),
        Route("GET", f"{_CHAT_PATH}/{{id}}", Scope.CALLER, h.poll_chat, _CHAT),
        Route("GET", "/v1/async/jobs", Scope.CALLER, h.jobs.list),
        Route("GET", "/v1/async/jobs/{id}", Scope.CALLER, h.jobs.view),
        Route("POST", "/v1/async/jobs/{id}/cancel", Scope.CALLER, h.jobs.cancel),
        Route("GET", _KEYS_PATH, Scope.ADMIN, h.keys.list),
        Route("POST", _KEYS_PATH, Scope.ADMIN, h.keys.create),
        Route("GET", f"{_KEYS_PATH}/{{id}}", Scope.ADMIN, h.keys.get),
        Route("PUT", f"{_KEYS_PATH}/{{id}}", Scope.ADMIN, h.keys.update),
        Route("DELETE", f"{_KEYS_PATH}/{{id}}", Scope.ADMIN, h.keys.delete),
        Route("POST", f"{_KEYS_PATH}/{{id}}/rotate", Scope.ADMIN, h.keys.rotate),
        Route("GET", "/health", Scope.OPEN, h.health.health),
        Route("GET", "/healthz", Scope.OPEN, h.health.alive),
        Route("GET", "/readyz", Scope.OPEN, h.health.ready),
        Route("GET", "/metrics", Scope.METRICS, h.metrics.scrape),
        Route("GET", "/openapi.json", Scope.OPEN, reference.document),
        Route("GET", "/docs", Scope.OPEN, reference.page),
        Route("GET", "/docs/rapidoc.js", Scope.OPEN, reference.script),
    ]


def _document_of(routes: Callable[[], list[Route]], version: str) -> Callable[[], dict[str, Any]]:
    return lambda: openapi_document(routes(), version)
