"""When to ask again: advice for pollers, from how long a model has taken lately (contract §4.4)."""

import math
from datetime import timedelta
from typing import Final, final

from tidegate.domain.jobs import JobState
from tidegate.ports import Clock

_SHORTEST: Final = 1
_LONGEST: Final = 5
_LONGEST_UNTIL_NEXT_RUN: Final = 60
_WEIGHT_OF_LAST: Final = 0.2
_MOST_MODELS: Final = 1000


@final
class PollHints:
    """A moving average per model. Seconds."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._averages: dict[str, float] = {}

    def note(self, model: str, duration: timedelta) -> None:
        took = duration.total_seconds()
        if model not in self._averages and len(self._averages) >= _MOST_MODELS:
            self._averages.clear()
        known = self._averages.get(model, took)
        self._averages[model] = known + _WEIGHT_OF_LAST * (took - known)

    def retry_after(self, job: JobState) -> int:
        """Whole seconds: 1 to 5, or until a waiting job runs again, at most 60."""
        if job.next_run_at is not None:
            until = (job.next_run_at - self._clock.now()).total_seconds()
            return max(_SHORTEST, min(math.ceil(until), _LONGEST_UNTIL_NEXT_RUN))
        return max(_SHORTEST, min(round(self._averages.get(job.model, 0.0)), _LONGEST))
