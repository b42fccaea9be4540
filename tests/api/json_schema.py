"""JSON Schema, as far as our OpenAPI document uses it. An unknown keyword is an error: nothing passes unseen."""

import re
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

SILENT = {"title", "description", "default", "examples"}
TYPES: Mapping[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    # As the contract has it: any number without a fractional part.
    "integer": lambda value: (
        isinstance(value, int | float) and not isinstance(value, bool) and value == int(value)
    ),
}
FORMATS: Mapping[str, Callable[[str], object]] = {"date-time": datetime.fromisoformat, "uuid": uuid.UUID}


class Mismatch(Exception):
    """The value does not fit, with the place where."""


class Schemas:
    """The schemas of one document."""

    def __init__(self, document: Mapping[str, Any], *, is_closed: bool = True) -> None:
        self._components = document["components"]["schemas"]
        self._is_closed = is_closed
        """Whether members that a schema does not name are a mismatch."""

    def check(self, value: Any, schema: Mapping[str, Any], place: str = "$") -> None:
        """Raises ``Mismatch``."""
        for keyword, demand in schema.items():
            if keyword not in SILENT:
                getattr(self, f"_{keyword.replace('$', '')}")(value, demand, schema, place)

    def _ref(self, value: Any, demand: str, schema: Mapping[str, Any], place: str) -> None:
        self.check(value, self._components[demand.removeprefix("#/components/schemas/")], place)

    def _type(self, value: Any, demand: str | list[str], schema: Mapping[str, Any], place: str) -> None:
        names = [demand] if isinstance(demand, str) else demand
        if not any(TYPES[name](value) for name in names):
            raise Mismatch(f"{place}: {value!r} is no {demand}")

    def _anyOf(  # noqa: N802 – named for its keyword
        self, value: Any, demand: list[Mapping[str, Any]], schema: Mapping[str, Any], place: str
    ) -> None:
        reasons = []
        for choice in demand:
            try:
                self.check(value, choice, place)
            except Mismatch as reason:
                reasons.append(str(reason))
        if len(reasons) == len(demand):
            raise Mismatch(f"{place}: fits none: {reasons}")

    def _enum(self, value: Any, demand: list[Any], schema: Mapping[str, Any], place: str) -> None:
        if value not in demand:
            raise Mismatch(f"{place}: {value!r} is not one of {demand}")

    def _properties(
        self, value: Any, demand: Mapping[str, Any], schema: Mapping[str, Any], place: str
    ) -> None:
        if not isinstance(value, dict):
            return
        for name, member in value.items():
            if name in demand:
                self.check(member, demand[name], f"{place}.{name}")
            elif self._is_closed or schema.get("additionalProperties") is False:
                raise Mismatch(f"{place}.{name} is not in the schema")

    def _required(self, value: Any, demand: list[str], schema: Mapping[str, Any], place: str) -> None:
        missing = [name for name in demand if name not in value]
        if missing:
            raise Mismatch(f"{place}: {missing} missing")

    def _items(self, value: Any, demand: Mapping[str, Any], schema: Mapping[str, Any], place: str) -> None:
        if isinstance(value, list):
            for index, item in enumerate(value):
                self.check(item, demand, f"{place}[{index}]")

    def _additionalProperties(  # noqa: N802 – named for its keyword
        self, value: Any, demand: Any, schema: Mapping[str, Any], place: str
    ) -> None:
        if isinstance(demand, dict) and isinstance(value, dict) and "properties" not in schema:
            for name, member in value.items():
                self.check(member, demand, f"{place}.{name}")

    def _minimum(self, value: Any, demand: float, schema: Mapping[str, Any], place: str) -> None:
        if isinstance(value, int | float) and value < demand:
            raise Mismatch(f"{place}: {value} is below {demand}")

    def _maximum(self, value: Any, demand: float, schema: Mapping[str, Any], place: str) -> None:
        if isinstance(value, int | float) and value > demand:
            raise Mismatch(f"{place}: {value} is above {demand}")

    def _maxItems(  # noqa: N802 – named for its keyword
        self, value: Any, demand: int, schema: Mapping[str, Any], place: str
    ) -> None:
        if isinstance(value, list) and len(value) > demand:
            raise Mismatch(f"{place}: more than {demand} items")

    def _pattern(self, value: Any, demand: str, schema: Mapping[str, Any], place: str) -> None:
        if isinstance(value, str) and re.search(demand, value) is None:
            raise Mismatch(f"{place}: {value!r} does not match {demand}")

    def _format(self, value: Any, demand: str, schema: Mapping[str, Any], place: str) -> None:
        if isinstance(value, str):
            try:
                FORMATS[demand](value)
            except ValueError as exc:
                raise Mismatch(f"{place}: {value!r} is no {demand}") from exc
