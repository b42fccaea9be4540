"""Token issuers and virtual keys."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from tidegate.domain.secret import Secret
from tidegate.settings import Code, Problem, Settings

Load = Callable[..., Settings]
Problems = Callable[..., tuple[Problem, ...]]

PEM: Final = "-----BEGIN PUBLIC KEY-----\nabc\n-----END PUBLIC KEY-----"
ENVIRON: Final = {"SECRET": "s" * 32, "SHORT": "s" * 31, "PEM": PEM, "KEY": "sk-bf-1", "KEY2": "sk-bf-2"}


def issuers(*entries: dict[str, Any]) -> dict[str, Any]:
    named = [{"iss": f"i{index}", "aud": "tidegate", **entry} for index, entry in enumerate(entries)]
    return {"auth": {"jwt": {"issuers": named}}}


HS: Final = {"algorithms": ["HS256"], "key": "env.SECRET"}


@pytest.mark.parametrize(
    "entry",
    [
        HS,
        {"algorithms": ["RS256", "ES256", "EdDSA"], "key": "env.PEM", "typ": "at+jwt"},
        {"algorithms": ["ES256"], "key": '{"kty": "EC"}'},
        {"algorithms": ["RS256"], "jwks_url": "https://id.example/keys?p=1", "kinds": ["admin"]},
        {"algorithms": ["RS256"], "jwks_url": "http://127.0.0.1:8000/keys"},
        {"algorithms": ["RS256"], "jwks_url": "http://[::1]/keys"},
        {"algorithms": ["RS256"], "jwks_url": "http://localhost/keys"},
    ],
)
def test_an_issuer_with_one_source_of_keys_loads(load_document: Load, entry: dict[str, Any]) -> None:
    (issuer,) = load_document(issuers(entry), ENVIRON).auth.jwt.issuers

    assert issuer.algorithms == tuple(entry["algorithms"])
    assert issuer.kinds == tuple(entry.get("kinds", ["virtual_key"]))
    assert (issuer.key is None) == ("jwks_url" in entry)


@pytest.mark.parametrize(
    ("entry", "field", "code", "message"),
    [
        ({"algorithms": ["RS256"]}, "", Code.MISSING_FIELD, "The issuer needs a key or a jwks_url, found neither."),
        ({"algorithms": ["RS256"], "key": "env.PEM", "jwks_url": "https://h"}, "", Code.CONFLICT, "The issuer needs a key or a jwks_url, found both."),
        ({"algorithms": ["HS256"], "jwks_url": "https://h"}, ".jwks_url", Code.CONFLICT, "HS256 needs a static key."),
        ({"algorithms": ["HS256", "ES256"], "key": "env.SECRET"}, ".algorithms", Code.CONFLICT, "HS256 is mixed with others: a public key could be taken for its secret."),
        ({"algorithms": ["HS256"], "key": "env.SHORT"}, ".key", Code.WEAK_SECRET, "The HS256 key has 31 bytes."),
        ({"algorithms": ["HS256"], "key": "env.PEM"}, ".key", Code.CONFLICT, "A key in PEM form cannot be an HS256 secret."),
        ({"algorithms": ["RS256"], "key": "env.SECRET"}, ".key", Code.INVALID_VALUE, "Not a public key in PEM or JWK form."),
        ({"algorithms": ["RS256"], "jwks_url": "http://h/keys"}, ".jwks_url", Code.INVALID_VALUE, "Not an https URL."),
        ({"algorithms": ["RS256"], "jwks_url": "http://10.0.0.1/keys"}, ".jwks_url", Code.INVALID_VALUE, "Not an https URL."),
        ({"algorithms": ["RS256"], "jwks_url": "https://u:p@h/keys"}, ".jwks_url", Code.INVALID_VALUE, "Not an https URL."),
        ({"algorithms": ["RS256"], "jwks_url": "https://h/keys#x"}, ".jwks_url", Code.INVALID_VALUE, "Not an https URL."),
        ({"algorithms": ["RS256"], "jwks_url": "keys"}, ".jwks_url", Code.INVALID_VALUE, "Not an https URL."),
        (HS | {"iss": "i1"}, "", Code.DUPLICATE, 'Another entry is for the issuer "i1".'),
    ],
)  # fmt: skip
def test_an_issuer_that_invites_confusion_does_not_load(
    problems_of: Problems, entry: dict[str, Any], field: str, code: Code, message: str
) -> None:
    (problem,) = problems_of(issuers(entry, HS), ENVIRON)

    at_fault = "auth.jwt.issuers[1].iss" if code is Code.DUPLICATE else f"auth.jwt.issuers[0]{field}"
    assert (problem.path, problem.code, problem.message) == (at_fault, code, message)


def test_an_unreadable_key_brings_no_second_problem(problems_of: Problems) -> None:
    (problem,) = problems_of(issuers(HS | {"key": "env.NONE"}), ENVIRON)

    assert problem.code is Code.ENV_MISSING


def keys(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"governance": {"virtual_keys": list(entries)}}


def test_a_virtual_key_with_everything(load_document: Load) -> None:
    document = keys(
        {
            "id": "vk-1",
            "name": "batch",
            "value": "env.KEY",
            "description": "for the\nnight",
            "is_active": False,
            "expires_at": "2027-01-31T00:00:00+00:00",
            "provider_configs": [
                {"provider": "openai", "weight": 0.5, "allowed_models": ["*"], "key_ids": ["*"]},
                {"provider": "groq", "allowed_models": ["a"], "key_ids": ["k1"]},
                {"provider": "mock", "weight": None},
            ],
            "async": {"weight": 2, "priority_ceiling": 3, "result_ttl_max": 60},
        }
    )

    (key,) = load_document(document, ENVIRON).governance.virtual_keys

    assert (key.id, key.name, key.value, key.is_active) == ("vk-1", "batch", Secret("sk-bf-1"), False)
    assert key.expires_at == datetime(2027, 1, 31, tzinfo=UTC)
    assert key.provider_configs is not None
    assert [(one.provider, one.weight, one.allowed_models, one.key_ids) for one in key.provider_configs] == [
        ("openai", 0.5, ("*",), None),
        ("groq", None, ("a",), ("k1",)),
        ("mock", None, (), None),
    ]
    assert (key.async_.weight, key.async_.priority_ceiling) == (2.0, 3)
    assert key.async_.result_ttl_max == timedelta(minutes=1)


def test_an_empty_list_of_providers_is_not_the_same_as_none(load_document: Load) -> None:
    document = keys(
        {"name": "nothing", "value": "env.KEY", "provider_configs": []}, {"name": "all", "value": "env.KEY2"}
    )

    nothing, everything = load_document(document, ENVIRON).governance.virtual_keys

    assert nothing.provider_configs == ()
    assert everything.provider_configs is None


@pytest.mark.parametrize("written", ["2027-01-31T00:00:00Z", "2027-01-31 01:00:00+01:00"])
@pytest.mark.parametrize("name", ["t.yaml", "t.toml"])
def test_times_may_be_native_to_the_format(load_document: Load, written: str, name: str) -> None:
    text = (
        f"governance: {{virtual_keys: [{{name: a, value: env.KEY, expires_at: {written}}}]}}"
        if name == "t.yaml"
        else f"[[governance.virtual_keys]]\nname = 'a'\nvalue = 'env.KEY'\nexpires_at = {written}"
    )

    (key,) = load_document(text, ENVIRON, name=name).governance.virtual_keys

    assert key.expires_at == datetime(2027, 1, 31, tzinfo=UTC)


@pytest.mark.parametrize(
    ("second", "field", "message"),
    [
        ({"name": "a", "value": "env.KEY2"}, "name", 'Another virtual key has the name or id "a".'),
        ({"name": "b", "id": "x", "value": "env.KEY2"}, "id", 'Another virtual key has the name or id "x".'),
        ({"name": "x", "value": "env.KEY2"}, "name", 'Another virtual key has the name or id "x".'),
        ({"name": "b", "value": "env.KEY"}, "value", "The same secret as governance.virtual_keys[0].value."),
    ],
)
def test_names_ids_and_secrets_of_virtual_keys_are_unique(
    problems_of: Problems, second: dict[str, Any], field: str, message: str
) -> None:
    (problem,) = problems_of(keys({"id": "x", "name": "a", "value": "env.KEY"}, second), ENVIRON)

    assert problem.path == f"governance.virtual_keys[1].{field}"
    assert (problem.code, problem.message) == (Code.DUPLICATE, message)


def test_a_key_may_be_named_like_its_own_id(load_document: Load) -> None:
    document = keys({"id": "a", "name": "a", "value": "env.KEY"})

    assert load_document(document, ENVIRON).governance.virtual_keys[0].id == "a"


def test_a_grant_must_name_a_provider_and_each_once(problems_of: Problems) -> None:
    grants = [{"provider": "opnai"}, {"provider": "groq"}, {"provider": "anthropic"}, {"provider": "groq"}]

    unknown, twice = problems_of(keys({"name": "a", "value": "env.KEY", "provider_configs": grants}), ENVIRON)

    assert unknown.path == "governance.virtual_keys[0].provider_configs[0].provider"
    assert (unknown.code, unknown.hint) == (Code.UNKNOWN_PROVIDER, "Did you mean openai?")
    assert twice.path == "governance.virtual_keys[0].provider_configs[3].provider"
    assert (twice.code, twice.message) == (Code.DUPLICATE, 'The key has another entry for "groq".')


def test_anonymous_use_can_be_allowed(load_document: Load) -> None:
    settings = load_document({"auth": {"required": False, "local_issuer": False}})

    assert (settings.auth.required, settings.auth.local_issuer) == (False, False)
