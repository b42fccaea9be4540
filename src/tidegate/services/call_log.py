"""What an attempt records of its calls: one entry each, also for those that were not made."""

from datetime import timedelta
from typing import Any, final

import msgspec

from tidegate.domain.failures import Failure, FailureCode
from tidegate.domain.inference import Call, Completion, HttpReply
from tidegate.ports import Clock


@final
class CallLog:
    """The calls of one attempt, in order."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.calls: list[Call] = []

    def mentions(self, candidate: int) -> bool:
        return any(call.candidate == candidate for call in self.calls)

    def skip(self, candidate: int, code: FailureCode) -> None:
        """No call was made to this candidate."""
        self.calls.append(Call(candidate=candidate, error_code=code))

    def cut_off(self, begun: Call) -> None:
        """It was left before it had an answer: what it cost is the vendor's secret."""
        self._end(begun, billing="unknown")

    def failed(self, begun: Call, failure: Failure) -> Failure:
        self._end(
            begun,
            status_code=failure.upstream_status,
            error_code=failure.code,
            message=failure.message,
            retry_after=_whole_seconds(failure.retry_after),
            billing="unknown" if failure.may_have_billed else "none",
            upstream=failure.upstream,
        )
        return failure

    def succeeded(self, begun: Call, reply: HttpReply, completion: Completion) -> None:
        self._end(
            begun,
            status_code=reply.status,
            usage=completion.usage,
            billing="known" if completion.usage is not None else "unknown",
            simulated=completion.is_simulated,
        )

    def _end(self, begun: Call, **facts: Any) -> None:
        self.calls.append(msgspec.structs.replace(begun, ended_at=self._clock.now(), **facts))


def _whole_seconds(duration: timedelta | None) -> int | None:
    return None if duration is None else -(-duration // timedelta(seconds=1))
