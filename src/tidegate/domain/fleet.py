"""The workers that share a store, and what part of a limit each of them has."""

from typing import Final

from msgspec import Struct


class Share(Struct, frozen=True):
    """One of ``of`` equal parts. The parts of all add up to the whole."""

    place: int = 0
    of: int = 1

    def part(self, limit: int) -> int:
        return limit // self.of + (self.place < limit % self.of)


class Fleet(Struct, frozen=True):
    """The live workers in an order that all of them agree on, as one of them sees it."""

    members: tuple[tuple[str, ...], ...] = ((),)
    """The providers each of them serves; empty: all."""
    place: int = 0
    """Which of them is us."""
    is_settled: bool = True
    """The others have heard of us. Until then they still use all there is."""

    def share(self, provider: str) -> Share:
        """Ours of what ``provider`` allows. A worker that does not serve it counts as one more."""
        serving = [
            place
            for place, providers in enumerate(self.members)
            if place == self.place or not providers or provider in providers
        ]
        return Share(serving.index(self.place), len(serving))


ALONE: Final = Fleet()
