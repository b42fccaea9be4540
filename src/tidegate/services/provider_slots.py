"""How many calls to each provider may run at once."""

import asyncio
from collections.abc import Mapping
from typing import final


@final
class Slot:
    """The right to one call. Giving it back a second time does nothing."""

    __slots__ = ("_slots",)

    def __init__(self, slots: asyncio.Semaphore) -> None:
        self._slots: asyncio.Semaphore | None = slots

    def release(self) -> None:
        if self._slots is not None:
            self._slots.release()
            self._slots = None


@final
class ProviderSlots:
    """A slot is taken per call, whatever lane the job is in."""

    def __init__(self, limits: Mapping[str, int]) -> None:
        self._slots = {provider: asyncio.Semaphore(limit) for provider, limit in limits.items()}

    def has_room(self, provider: str) -> bool:
        return not self._slots[provider].locked()

    async def take(self, provider: str) -> Slot:
        """Waits for a slot where none is free."""
        slots = self._slots[provider]
        await slots.acquire()
        return Slot(slots)
