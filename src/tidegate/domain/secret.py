"""A secret that cannot leak by accident: printing, logging or formatting it shows a mask."""

import hmac
from typing import Final, final

_SHOWN_AT_THE_END: Final = 4
_SHORTEST_WITH_A_HINT: Final = 20


@final
class Secret:
    """A string that is only seen where ``reveal()`` is written."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def hint(self) -> str:
        """Enough to recognise the secret by, too little to use it: ``sk-bf-…a1b2``."""
        if len(self._value) < _SHORTEST_WITH_A_HINT:
            return "***"
        prefix = "sk-bf-" if self._value[:6].lower() == "sk-bf-" else ""
        return f"{prefix}…{self._value[-_SHOWN_AT_THE_END:]}"

    def __repr__(self) -> str:
        return f"Secret({self.hint()})"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __bool__(self) -> bool:
        return bool(self._value)

    def __reduce__(self) -> str:
        raise TypeError("a Secret cannot be pickled")
