"""Who owns what, who sees what, and what a virtual key allows."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from tidegate.domain.access import (
    ADMIN,
    ANONYMOUS,
    AdminCaller,
    AllOwners,
    AnonymousCaller,
    Caller,
    KeyCaller,
    KeyId,
    OwnedBy,
    Owner,
    ProviderGrant,
    VirtualKey,
    idempotency_scope,
    key_of_owner,
    owner_of,
    owner_of_key,
    reader_of,
    refusal,
    usable_key_ids,
)

NOW = datetime(2026, 3, 2, tzinfo=UTC)


def a_key(**members: Any) -> VirtualKey:
    usual: dict[str, Any] = {"created_at": NOW, "updated_at": NOW, "value_hint": "***"}
    return VirtualKey(**{"id": KeyId("k1"), "name": "k"} | usual | members)


def grant(provider: str = "openai", *models: str, **members: Any) -> ProviderGrant:
    return ProviderGrant(provider, allowed_models=models, **members)


KEY = KeyCaller(a_key())
ROOT = AdminCaller("https://id.example", "root")
NOBODY = AnonymousCaller()


@pytest.mark.parametrize(
    ("caller", "owner"),
    [(KEY, "key:k1"), (KeyCaller(a_key(), subject="alice"), "key:k1"), (ROOT, ADMIN), (NOBODY, ANONYMOUS)],
)
def test_54_the_owner_of_a_submit(caller: Caller, owner: str) -> None:
    assert owner_of(caller) == owner


@pytest.mark.parametrize("name", ["admin", "anonymous", "key:x", ""])
def test_a_key_s_id_cannot_make_it_somebody_else(name: str) -> None:
    owner = owner_of(KeyCaller(a_key(id=KeyId(name))))

    assert owner not in {ADMIN, ANONYMOUS}
    assert key_of_owner(owner) == name


@pytest.mark.parametrize(
    ("owner", "key_id"), [("key:k1", "k1"), ("key:a:b", "a:b"), ("admin", None), ("anonymous", None)]
)
def test_the_key_behind_an_owner(owner: str, key_id: str | None) -> None:
    assert key_of_owner(Owner(owner)) == key_id


@pytest.mark.parametrize(
    ("caller", "reader"),
    [(KEY, OwnedBy(owner_of_key(KeyId("k1")))), (ROOT, AllOwners()), (NOBODY, OwnedBy(ANONYMOUS))],
)
def test_54_what_a_caller_may_read(caller: Caller, reader: object) -> None:
    assert reader_of(caller) == reader


@pytest.mark.parametrize(
    ("one", "other", "is_shared"),
    [
        (KEY, KeyCaller(a_key(name="renamed"), subject="bob"), True),
        (KEY, KeyCaller(a_key(id=KeyId("k2"))), False),
        (ROOT, AdminCaller("https://id.example", "root"), True),
        (ROOT, AdminCaller("https://id.example", "other"), False),
        (ROOT, AdminCaller("https://other.example", "root"), False),
        (NOBODY, AnonymousCaller(), True),
        (NOBODY, ROOT, False),
    ],
)
def test_10_who_shares_idempotency_keys(one: Caller, other: Caller, *, is_shared: bool) -> None:
    assert (idempotency_scope(one) == idempotency_scope(other)) is is_shared


@pytest.mark.parametrize(
    ("expires_in", "is_expired"),
    [(None, False), (timedelta(seconds=1), False), (timedelta(0), True), (timedelta(seconds=-1), True)],
)
def test_a_key_expires_at_the_instant(expires_in: timedelta | None, *, is_expired: bool) -> None:
    key = a_key(expires_at=None if expires_in is None else NOW + expires_in)

    assert key.is_expired(NOW) is is_expired


@pytest.mark.parametrize(
    ("grants", "provider", "model", "reason"),
    [
        (None, "openai", "gpt", None),
        ((), "openai", "gpt", "provider_blocked"),
        ((grant("openai"),), "openai", "gpt", "model_blocked"),
        ((grant("openai", "*"),), "openai", "gpt", None),
        ((grant("openai", "gpt"),), "openai", "gpt", None),
        ((grant("openai", "gpt"),), "openai", "gpt-4", "model_blocked"),
        ((grant("openai", "GPT"),), "openai", "gpt", "model_blocked"),
        ((grant("openai", "g*"),), "openai", "gpt", "model_blocked"),
        ((grant("openai", "a", "*"),), "openai", "gpt", None),
        ((grant("groq", "*"),), "openai", "gpt", "provider_blocked"),
        ((grant("groq", "*"), grant("openai", "gpt")), "openai", "gpt", None),
        ((grant("OpenAI", "*"),), "openai", "gpt", "provider_blocked"),
    ],
)
def test_55_what_a_key_may_use(
    grants: tuple[ProviderGrant, ...] | None, provider: str, model: str, reason: str | None
) -> None:
    assert refusal(a_key(grants=grants), provider, model) == reason


def test_55_without_a_key_there_are_no_limits() -> None:
    assert refusal(None, "openai", "gpt") is None
    assert usable_key_ids(None, "openai") is None


@pytest.mark.parametrize(
    ("key_ids", "usable"),
    [(None, None), ((), ()), (("main",), ("main",)), (("*",), None), (("main", "*"), None)],
)
def test_55_which_provider_keys_may_serve_it(
    key_ids: tuple[str, ...] | None, usable: tuple[str, ...] | None
) -> None:
    key = a_key(grants=(grant("openai", "*", key_ids=key_ids),))

    assert usable_key_ids(key, "openai") == usable


def test_a_key_survives_being_stored() -> None:
    key = a_key(grants=(grant("openai", "*", weight=0.5, key_ids=("a",)),), expires_at=NOW, from_config=True)

    assert msgspec.json.decode(msgspec.json.encode(key), type=VirtualKey) == key
