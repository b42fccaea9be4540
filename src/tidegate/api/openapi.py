"""The OpenAPI 3.1 document: the route table, its words, and the schemas of the wire types."""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from tidegate.api.operations import OPERATIONS, Operation, Reply
from tidegate.api.routing import Route, Scope

# A page for people is not part of the API.
UNDOCUMENTED: Final = frozenset({"/docs", "/docs/rapidoc.js"})
_REF: Final = "#/components/schemas/{name}"


def openapi_document(routes: Iterable[Route], version: str) -> dict[str, Any]:
    """Describes exactly ``routes``. Raises ``KeyError`` for a route nobody has described."""
    types: set[type[msgspec.Struct]] = set()
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        if route.path not in UNDOCUMENTED:
            operation = OPERATIONS[route.method, route.path]
            paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, operation, types)
    ordered = sorted(types, key=lambda found: found.__name__)
    _, components = msgspec.json.schema_components(ordered, ref_template=_REF)
    for component in components.values():
        for member in component.get("properties", {}).values():
            _admit_null(member)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tidegate",
            "version": version,
            "summary": "Asynchronous inference gateway for LLMs",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A virtual key (`sk-bf-…`), a virtual-key JWT or an admin JWT",
                },
                "virtualKey": {"type": "apiKey", "in": "header", "name": "x-bf-vk"},
            },
        },
    }


def _admit_null(member: dict[str, Any]) -> None:
    """Where a member's own words stand beside what its type says, the words lack that ``null`` is absent."""
    choices = member.get("anyOf", ())
    if {"type": "null"} not in choices or member.keys().isdisjoint({"type", "enum"}):
        return
    del member["anyOf"]
    kind = member.get("type") or next(choice["type"] for choice in choices)
    member["type"] = [kind, "null"]
    if "enum" in member:
        member["enum"] = [*member["enum"], None]


def _operation(route: Route, operation: Operation, types: set[type[msgspec.Struct]]) -> dict[str, Any]:
    document: dict[str, Any] = {
        "operationId": _operation_id(route),
        "summary": operation.summary,
        "tags": [operation.tag],
        "responses": {
            str(status): _reply(reply, types) for status, reply in sorted(operation.replies.items())
        },
    }
    if operation.description:
        document["description"] = operation.description
    parameters = _parameters(route, operation)
    if parameters:
        document["parameters"] = parameters
    if operation.body is not None:
        types.add(operation.body)
        document["requestBody"] = {
            "required": True,
            "content": {
                "application/json": {
                    "schema": _reference(operation.body),
                    "example": operation.body_example,
                }
            },
        }
    document["security"] = _security(route.scope)
    return document


def _operation_id(route: Route) -> str:
    words = [word.strip("{}") for word in route.path.replace("-", "_").split("/") if word]
    return "_".join((route.method.lower(), *words))


def _parameters(route: Route, operation: Operation) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {
            "name": parameter.name,
            "in": parameter.where,
            "description": parameter.description,
            "schema": parameter.schema,
        }
        for parameter in operation.parameters
    ]
    if "{id}" in route.path:
        found.insert(0, {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}})
    return found


def _reply(reply: Reply, types: set[type[msgspec.Struct]]) -> dict[str, Any]:
    document: dict[str, Any] = {"description": reply.description}
    if reply.example is None:
        return document
    schema: dict[str, Any] = {"type": "string"}
    if reply.shape is not None:
        types.add(reply.shape)
        schema = _reference(reply.shape)
    document["content"] = {reply.media_type: {"schema": schema, "example": reply.example}}
    return document


def _reference(struct: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": _REF.format(name=struct.__name__)}


def _security(scope: Scope) -> list[dict[str, list[str]]]:
    match scope:
        case Scope.OPEN:
            return []
        case Scope.CALLER:
            return [{"bearer": []}, {"virtualKey": []}]
        case Scope.ADMIN | Scope.METRICS:
            return [{"bearer": []}]
