"""Room on the disk: submits stop before it is used up, so that results still fit."""

import shutil
from pathlib import Path
from typing import Final, final

from tidegate.domain.errors import StorageFull
from tidegate.store.sqlite.time import StoreClock
from tidegate.store.sqlite.writer import Writer

_LOOK_EVERY: Final = 1.0
_TRY_AGAIN_AFTER: Final = 5.0


@final
class Space:
    """Closed to submits while less than ``min_free`` bytes are free, and for 5 s after a write found no room.

    Then the next submit may try: it succeeds, or closes the store for another 5 s.
    """

    def __init__(self, writer: Writer, directory: Path, min_free: int, clock: StoreClock) -> None:
        self._writer = writer
        self._directory = directory
        self._min_free = min_free
        self._clock = clock
        self._looked_at = float("-inf")
        self._is_low = False

    def check(self) -> None:
        """Raises ``StorageFull`` while there is no room for another job."""
        now = self._clock.monotonic()
        if now - self._looked_at >= _LOOK_EVERY:
            self._looked_at = now
            self._is_low = shutil.disk_usage(self._directory).free < self._min_free
        full_at = self._writer.full_at
        if self._is_low or (full_at is not None and now - full_at < _TRY_AGAIN_AFTER):
            raise StorageFull
