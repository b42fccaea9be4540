"""A configuration before it is checked: plain values, and where each of them came from."""

from pathlib import Path
from typing import Any, Literal

from msgspec import Struct, field

from tidegate.settings.problems import Trail

Origin = Literal["flag", "environment", "file", "default"]


class Place(Struct, frozen=True):
    """Where a value was written."""

    origin: Origin
    name: str = ""
    """The file or the variable."""
    line: int = 0
    column: int = 0

    @property
    def where(self) -> str:
        """``file:line:column`` as far as the format tells, or the variable."""
        return f"{self.name}:{self.line}:{self.column}" if self.line else self.name

    def __str__(self) -> str:
        """For a problem's heading."""
        return {"flag": "command line", "environment": f"environment {self.name}"}.get(
            self.origin, self.where
        )


DEFAULT = Place("default")


class Document(Struct):
    """Values with their places. A value without a place of its own stands where its parent stands."""

    values: dict[str, Any] = field(default_factory=dict)
    places: dict[Trail, Place] = field(default_factory=dict)
    file: Path | None = None

    def place(self, trail: Trail) -> Place:
        for length in range(len(trail), -1, -1):
            if trail[:length] in self.places:
                return self.places[trail[:length]]
        return DEFAULT

    def has(self, trail: Trail) -> bool:
        """Whether somebody wrote this."""
        value: Any = self.values
        for step in trail:
            try:
                value = value[step]
            except (LookupError, TypeError):
                return False
        return value is not None

    def put(self, parent: dict[str, Any], trail: Trail, value: Any, place: Place) -> None:
        """Write ``value`` under the last step of ``trail`` into ``parent``, over what stood there."""
        parent[str(trail[-1])] = value
        for known in [known for known in self.places if known[: len(trail)] == trail]:
            del self.places[known]
        self.places[trail] = place
