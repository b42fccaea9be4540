"""How many calls to each provider may run at once in this process."""

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import final


@final
class Slot:
    """The right to one call. Giving it back a second time does nothing."""

    __slots__ = ("_slots",)

    def __init__(self, slots: "_Slots") -> None:
        self._slots: _Slots | None = slots

    def release(self) -> None:
        if self._slots is not None:
            self._slots.give_back()
            self._slots = None


@final
class _Slots:
    """Those of one provider, handed out in order of asking."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def has_room(self) -> bool:
        return self._taken < self._limit and not self._waiting

    def resize(self, limit: int) -> None:
        self._limit = limit
        self._hand_out()

    async def take(self) -> None:
        if self.has_room:
            self._taken += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give_back()  # it came in the moment in which nobody wanted it any more
            else:
                self._waiting.remove(turn)
            raise

    def give_back(self) -> None:
        self._taken -= 1
        self._hand_out()

    def _hand_out(self) -> None:
        while self._waiting and self._taken < self._limit:
            turn = self._waiting.popleft()
            if not turn.done():
                self._taken += 1
                turn.set_result(None)


@final
class ProviderSlots:
    """A slot is taken per call, whatever lane the job is in."""

    def __init__(self, limits: Mapping[str, int]) -> None:
        self._slots = {provider: _Slots(limit) for provider, limit in limits.items()}

    def has_room(self, provider: str) -> bool:
        return self._slots[provider].has_room

    def resize(self, provider: str, limit: int) -> None:
        """From now on; calls under way beyond a smaller limit go on."""
        self._slots[provider].resize(limit)

    async def take(self, provider: str) -> Slot:
        """Waits for a slot where none is free."""
        slots = self._slots[provider]
        await slots.take()
        return Slot(slots)
