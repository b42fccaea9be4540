"""Vendors as they are on a bad day, by the throw of a seeded die."""

from datetime import datetime, timedelta
from random import Random
from typing import Final, final

import msgspec
from msgspec import Struct

from support.attempts import COMPLETION, completion
from tidegate.domain.failures import Failure, FailureCode
from tidegate.domain.inference import HttpCall, HttpReply
from tidegate.ports import Clock

_MOODS: Final = {
    "answers": 12,
    "limits": 2,
    "breaks": 2,
    "hangs": 1,
    "unreachable": 1,
    "garbage": 1,
    "refuses": 1,
}
_GARBAGE: Final = (b"", b"<html>Bad Gateway</html>", b'{"choices":', b'{"choices":[]}', b"[1]", b"\xff\x00")
_SLOWEST: Final = 4.0


class Sent(Struct, frozen=True):
    """One call, as the vendor wrote it down before anything else."""

    label: str
    at: datetime


@final
class MoodyVendors:
    """Implements ``Transport``. The completion repeats the message, so that no two jobs have the same."""

    def __init__(self, random: Random) -> None:
        self.clock: Clock
        """Of the process that calls: what it notes of a call and what is noted here bear the same time."""
        self.is_calm = False
        self.journal: list[Sent] = []
        self.answered: set[str] = set()
        self._random = random

    async def send(self, call: HttpCall, *, time_limit: timedelta) -> HttpReply | Failure:
        label = msgspec.json.decode(call.body)["messages"][0]["content"]
        self.journal.append(Sent(label, self.clock.now()))
        mood = "answers" if self.is_calm else self._random.choices([*_MOODS], [*_MOODS.values()])[0]
        takes = timedelta(seconds=self._random.uniform(0.001, _SLOWEST))
        if mood == "hangs" or takes > time_limit:
            await self.clock.sleep(time_limit)
            return Failure(FailureCode.TIMEOUT, "no answer in time", was_sent=True)
        await self.clock.sleep(takes)
        return self._reply(mood, label)

    def _reply(self, mood: str, label: str) -> HttpReply | Failure:
        status, headers, body = 200, {}, b'{"error":{"message":"no"}}'
        match mood:
            case "answers":
                self.answered.add(label)
                body = completion(choices=[_choice(label)]).body
            case "limits":
                status, headers = 429, {"retry-after": str(self._random.randint(0, 40))}
            case "breaks":
                status = self._random.choice((500, 502, 503))
            case "refuses":
                status = 400
            case "garbage":
                body = self._random.choice(_GARBAGE)
            case _:
                return Failure(FailureCode.CONNECTION_FAILED, "could not reach the provider")
        return HttpReply(status, headers, body, self.clock.now())


def _choice(label: str) -> dict[str, object]:
    return {**COMPLETION["choices"][0], "message": {"role": "assistant", "content": label}}
