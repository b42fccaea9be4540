"""Whether a provider's lane is open: it closes when the provider asks for it or keeps failing."""

from typing import Final, final

FAILURES_IN_A_ROW: Final = 10
FIRST_PAUSE: Final = 15.0
LONGEST_PAUSE: Final = 120.0


@final
class LaneState:
    """One provider's health (reliability §5). Times are seconds of a monotonic clock, given by the caller.

    While closed, jobs wait in the queue and fallbacks skip the provider. When the pause is over one probe is
    let through, and the next only after a pause twice as long: nobody knows how long a probe will take. A
    success opens the lane.
    """

    __slots__ = ("_failures", "_open_at", "_pause", "_probe_is_out", "_was_asked_for")

    def __init__(self) -> None:
        self._failures = 0
        self._open_at: float | None = None
        self._pause = 0.0
        self._was_asked_for = False
        self._probe_is_out = False

    def is_closed(self, now: float) -> bool:
        return self._open_at is not None and now < self._open_at

    def opens_in(self, now: float) -> float:
        """Seconds until a probe may start; 0 when the lane is open."""
        return max(0.0, self._open_at - now) if self._open_at is not None else 0.0

    def capacity(self, limit: int, running: int, now: float) -> int:
        """How many more jobs may start."""
        if self.is_closed(now):
            return 0
        return max(0, min(limit - running, 1 if self._is_opening(now) else limit))

    def enter(self, now: float) -> None:
        """A job or a fallback call begins. On opening it is the probe."""
        if self._is_opening(now):
            self._close(now)
            self._probe_is_out = True

    def succeeded(self, now: float) -> None:
        self._failures = 0
        if self._was_asked_for and self.is_closed(now):
            return  # the call began before the provider spoke, so its word holds
        self._open_at = None
        self._pause = 0.0
        self._probe_is_out = False

    def refused(self, now: float) -> None:
        """The provider is there, though it will not have this request: the next probe need not wait."""
        self._failures = 0
        if self._probe_is_out:
            self._open_at = now
            self._pause = 0.0
            self._probe_is_out = False

    def failed(self, now: float) -> None:
        """A transient failure."""
        self._failures += 1
        if self._open_at is None and self._failures >= FAILURES_IN_A_ROW:
            self._close(now)

    def limited(self, now: float, retry_after: float) -> None:
        """The provider said when to come back.

        It said so to one key about one model, so the others ask again after the longest pause at the latest.
        """
        asked = now + min(retry_after, LONGEST_PAUSE)
        self._open_at = max(self._open_at or 0.0, asked) if self._was_asked_for else asked
        self._was_asked_for = True
        self._pause = 0.0
        self._probe_is_out = False

    def _is_opening(self, now: float) -> bool:
        """The pause is over and no answer has come since."""
        return self._open_at is not None and now >= self._open_at

    def _close(self, now: float) -> None:
        self._pause = min(LONGEST_PAUSE, self._pause * 2 or FIRST_PAUSE)
        self._open_at = now + self._pause
        self._was_asked_for = False
