"""Collects what is wrong and what is worth saying while a configuration is read."""

from collections.abc import Mapping

from tidegate.settings.document import Document, Place
from tidegate.settings.problems import Code, Problem, Refused, SettingsError, Trail, dotted


class Report:
    """Knows the document, so that each problem finds its place."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self._problems: list[tuple[Place, Problem]] = []
        self.warnings: list[str] = []
        self.literals: list[Trail] = []
        """Secrets that stand in the file, or on the command line, in clear."""
        self.references: dict[Trail, str] = {}
        """By which reference a secret came."""
        self._ignored: dict[str, str] = {}
        self._unusable: set[Trail] = set()

    def problem(
        self,
        code: Code,
        trail: Trail,
        message: str,
        allowed: str,
        hint: str = "",
        *,
        place: Place | None = None,
    ) -> None:
        where = place or self.document.place(trail)
        next_step = allowed if allowed.endswith(".") else f"{allowed}."
        self._problems.append((where, Problem(dotted(trail), str(where), message, next_step, hint, code)))

    def refused(self, trail: Trail, reason: Refused, allowed: str = "") -> None:
        """A value that cannot be used: what builds on it is not checked, to keep the report short."""
        self._unusable.add(trail)
        self.problem(reason.code, trail, reason.message, reason.allowed or f"Allowed: {allowed}", reason.hint)

    def is_usable(self, *trail: str | int) -> bool:
        """Whether the value there could be read, with everything above and below it."""
        return not any(known[: len(trail)] == trail[: len(known)] for known in self._unusable)

    def ignore(self, name: str, consequence: str) -> None:
        self._ignored.setdefault(name, consequence)

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    @property
    def ignored(self) -> tuple[str, ...]:
        return tuple(
            f"{name}: {consequence}" if consequence else name for name, consequence in self._ignored.items()
        )

    def ignore_all(self, left_out: Mapping[str, str]) -> None:
        for name, consequence in left_out.items():
            self.ignore(name, consequence)

    def raise_problems(self) -> None:
        """In the order of the file; what comes from elsewhere follows."""
        if self._problems:
            in_order = sorted(
                self._problems, key=lambda one: (one[0].origin != "file", one[0].line, one[0].column)
            )
            raise SettingsError([problem for _, problem in in_order])
