"""Our keys for one candidate: which one to call with, and what has become of them."""

from collections.abc import Sequence
from typing import final

from tidegate.domain.access import VirtualKey, usable_key_ids
from tidegate.domain.failures import Failure, FailureCode
from tidegate.domain.inference import Candidate, ProviderKey
from tidegate.domain.models import ProviderSetup, no_eligible_keys_message, weighted_choice


@final
class CandidateKeys:
    """A refused key is dead for the rest of the job, a limited one rests until all others were limited too."""

    def __init__(
        self, candidate: Candidate, setup: ProviderSetup, virtual_key: VirtualKey | None, dead: set[str]
    ) -> None:
        self._candidate = candidate
        self._setup = setup
        self._dead = dead
        self._limited: set[str] = set()
        self._usable = setup.usable_keys(candidate.model, usable_key_ids(virtual_key, setup.name))

    def choose(self, chance: float) -> ProviderKey | None:
        """By weight; ``None`` when no key is left."""
        alive = self._alive(self._usable)
        fresh = [key for key in alive if key.id not in self._limited]
        if alive and not fresh:
            self._limited.clear()
            fresh = list(alive)
        return fresh[weighted_choice([key.weight for key in fresh], chance)] if fresh else None

    def why_none(self) -> Failure:
        if self._usable:
            return Failure(
                FailureCode.CREDENTIALS_EXHAUSTED, f'every key of provider "{self._setup.name}" was refused'
            )
        return Failure(FailureCode.NO_ELIGIBLE_KEYS, no_eligible_keys_message(self._candidate))

    def kill(self, key: ProviderKey) -> None:
        self._dead.add(self._name_of(key))

    def rest(self, key: ProviderKey) -> None:
        self._limited.add(key.id)

    def can_replace(self, key: ProviderKey) -> bool:
        """Whether this job has a key to go on with in its place."""
        return self._has_fresh(self._usable, besides=key)

    def others_can_replace(self, key: ProviderKey) -> bool:
        """Whether jobs of any virtual key have one: a lane is everybody's."""
        return self._has_fresh(self._setup.usable_keys(self._candidate.model, None), besides=key)

    def _has_fresh(self, keys: Sequence[ProviderKey], *, besides: ProviderKey) -> bool:
        return any(key.id != besides.id and key.id not in self._limited for key in self._alive(keys))

    def _alive(self, keys: Sequence[ProviderKey]) -> Sequence[ProviderKey]:
        return [key for key in keys if self._name_of(key) not in self._dead] if self._dead else keys

    def _name_of(self, key: ProviderKey) -> str:
        """Ids are given by people and need not differ between providers."""
        return f"{self._setup.name}/{key.id}"
