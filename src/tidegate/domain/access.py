"""Who calls, what they may use and what they may see."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Literal, NewType

from msgspec import Struct

KeyId = NewType("KeyId", str)
Owner = NewType("Owner", str)
"""To whom a job belongs. The prefix keeps a key that somebody named ``admin`` from being the administrator."""

ANONYMOUS: Final = Owner("anonymous")
ADMIN: Final = Owner("admin")


def owner_of_key(key_id: KeyId) -> Owner:
    return Owner(f"key:{key_id}")


def key_of_owner(owner: Owner) -> KeyId | None:
    return KeyId(owner[4:]) if owner.startswith("key:") else None


class ProviderGrant(Struct, frozen=True):
    """What a virtual key may use at one provider (``provider_configs[]``)."""

    provider: str
    allowed_models: tuple[str, ...] = ()
    """Model names; ``*`` allows all, an empty list none."""
    weight: float | None = None
    """Share in weighted routing of a bare model; without it the provider takes no part."""
    key_ids: tuple[str, ...] | None = None
    """Provider keys that may serve this virtual key; ``None`` or ``*`` means all, an empty list none."""

    def allows_model(self, model: str) -> bool:
        return "*" in self.allowed_models or model in self.allowed_models


class VirtualKey(Struct, frozen=True):
    """A client's credential and its rights. The secret itself is not kept, only its digest and a hint."""

    id: KeyId
    name: str
    created_at: datetime
    updated_at: datetime
    value_hint: str
    description: str = ""
    is_active: bool = True
    expires_at: datetime | None = None
    grants: tuple[ProviderGrant, ...] | None = None
    """``None`` allows every configured provider and model, an empty list none."""
    weight: float = 1.0
    """Share of a provider's capacity when keys compete."""
    priority_ceiling: int = 1
    """The best (smallest) priority its jobs may have."""
    result_ttl_max: int | None = None
    """Longest result lifetime in seconds."""
    from_config: bool = False
    """Defined in the configuration file, hence read-only over HTTP."""

    def is_expired(self, now: datetime) -> bool:
        return self.expires_at is not None and self.expires_at <= now

    def grant_for(self, provider: str) -> ProviderGrant | None:
        """The grant that covers ``provider``; ``None`` when the key may not use it."""
        if self.grants is None:
            return ProviderGrant(provider, allowed_models=("*",))
        return next((grant for grant in self.grants if grant.provider == provider), None)


class KeyCaller(Struct, frozen=True, tag=True):
    """A virtual key, shown as a secret or named by a virtual-key JWT."""

    key: VirtualKey
    subject: str | None = None


class AdminCaller(Struct, frozen=True, tag=True):
    """An admin JWT."""

    issuer: str
    subject: str


class AnonymousCaller(Struct, frozen=True, tag=True):
    """Nobody in particular; exists only where ``auth.required`` is false."""


Caller = KeyCaller | AdminCaller | AnonymousCaller


def owner_of(caller: Caller) -> Owner:
    match caller:
        case KeyCaller(key=key):
            return owner_of_key(key.id)
        case AdminCaller():
            return ADMIN
        case AnonymousCaller():
            return ANONYMOUS


def idempotency_scope(caller: Caller) -> str:
    """Callers with the same scope share ``Idempotency-Key`` values (contract §10)."""
    match caller:
        case AdminCaller(issuer=issuer, subject=subject):
            return f"admin:{issuer}\0{subject}"
        case _:
            return owner_of(caller)


class OwnedBy(Struct, frozen=True):
    """Sees the jobs of one owner, and anonymous jobs whose id it knows."""

    owner: Owner


class AllOwners(Struct, frozen=True):
    """Sees every job: a value of its own, so that a forgotten owner can never mean "everything"."""


Reader = OwnedBy | AllOwners


def reader_of(caller: Caller) -> Reader:
    return AllOwners() if isinstance(caller, AdminCaller) else OwnedBy(owner_of(caller))


Refusal = Literal["provider_blocked", "model_blocked"]


def refusal(key: VirtualKey | None, provider: str, model: str) -> Refusal | None:
    """Why ``key`` may not use the model, or ``None`` when it may. No key means no limits."""
    if key is None or key.grants is None:
        return None
    grant = key.grant_for(provider)
    if grant is None:
        return "provider_blocked"
    return None if grant.allows_model(model) else "model_blocked"


def usable_key_ids(key: VirtualKey | None, provider: str) -> Sequence[str] | None:
    """Ids of the provider keys that may serve ``key``; ``None`` means all."""
    if key is None or key.grants is None:
        return None
    grant = key.grant_for(provider)
    if grant is None or grant.key_ids is None or "*" in grant.key_ids:
        return None
    return grant.key_ids
