"""A SQLite VFS over the real one that fails where it is told to, and counts what is asked of it."""

from collections import Counter
from typing import Any, Final, final

import apsw

WRITES: Final = frozenset({"xWrite", "xSync", "xTruncate"})


@final
class FaultyVFS(apsw.VFS):
    """Registered under a name of its own; ``fail_next`` makes the next such calls fail."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.calls: Counter[str] = Counter()
        self.failures: dict[str, type[apsw.Error]] = {}
        self.afterwards: Counter[str] | None = None
        """What was asked since the one call that was to fail did."""
        self._to_fail: tuple[str, int] | None = None
        super().__init__(name, "")

    def fail(self, call: str, error: type[apsw.Error]) -> None:
        """From now on ``call`` fails with ``error``."""
        self.failures[call] = error

    def fail_once(self, call: str, number: int) -> None:
        """The ``number``-th ``call`` from now on fails with an I/O error, and no other."""
        self._to_fail = (call, self.calls[call] + number)

    def heal(self) -> None:
        self.failures.clear()

    def asked(self, call: str) -> None:
        self.calls[call] += 1
        if self.afterwards is not None:
            self.afterwards[call] += 1
        if self._to_fail == (call, self.calls[call]):
            self.afterwards = Counter()
            raise apsw.IOError(f"{call} fails")
        error = self.failures.get(call)
        if error is not None:
            raise error(f"{call} fails")

    def xOpen(self, name: Any, flags: Any) -> Any:  # noqa: N802 – SQLite's name
        return _File(self, name, flags)


@final
class _File(apsw.VFSFile):
    def __init__(self, vfs: FaultyVFS, name: Any, flags: Any) -> None:
        self._vfs = vfs
        super().__init__("", name, flags)

    def xWrite(self, data: Any, offset: int) -> None:  # noqa: N802 – SQLite's name
        self._vfs.asked("xWrite")
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802 – SQLite's name
        self._vfs.asked("xSync")
        super().xSync(flags)

    def xTruncate(self, size: int) -> None:  # noqa: N802 – SQLite's name
        self._vfs.asked("xTruncate")
        super().xTruncate(size)

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802 – SQLite's name
        self._vfs.asked("xRead")
        return super().xRead(amount, offset)
