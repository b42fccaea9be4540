"""From the model string to the candidates, and whether they can be served (contract §9.1, §3 steps 8 to 10)."""

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest

from tidegate.domain.access import KeyId, ProviderGrant, VirtualKey
from tidegate.domain.errors import Forbidden, InvalidRequest, Overloaded
from tidegate.domain.inference import Candidate, ProviderKey, RequestType
from tidegate.domain.models import (
    Catalog,
    ProviderSetup,
    check_allowed,
    check_available,
    resolve,
    weighted_choice,
)
from tidegate.domain.secret import Secret

NOW = datetime(2026, 3, 2, tzinfo=UTC)
CHAT = RequestType.CHAT_COMPLETION


def provider_key(*models: str, **members: Any) -> ProviderKey:
    usual: dict[str, Any] = {"id": "main", "name": "main", "value": Secret("s" * 20)}
    return ProviderKey(models=models, **usual | members)


def setup(name: str, *keys: ProviderKey, **members: Any) -> ProviderSetup:
    usual: dict[str, Any] = {"dialect": "openai", "base_url": "http://x", "operations": frozenset({CHAT})}
    return ProviderSetup(name=name, keys=keys, **usual | members)


CATALOG = Catalog(
    providers={
        found.name: found
        for found in (
            setup("openai", provider_key("*")),
            setup("groq", provider_key("llama", "shared", "meta-llama/Llama-3")),
            setup("mistral", provider_key("small", "shared"), provider_key("large", id="second")),
            setup("mine", provider_key("*", "special")),
            setup("off", provider_key("small", is_enabled=False)),
            setup("unpaid", provider_key("small", value=None)),
            setup("keyless", provider_key("small", value=None), needs_key=False),
            setup("empty", provider_key()),
            setup("mute", provider_key("*"), operations=frozenset()),
        )
    },
    known=frozenset({"openai", "groq", "mistral", "deepseek", "openrouter"}),
)


def virtual_key(*grants: ProviderGrant) -> VirtualKey:
    return VirtualKey(
        id=KeyId("k"), name="k", created_at=NOW, updated_at=NOW, value_hint="***", grants=grants
    )


def grant(provider: str, *models: str, weight: float | None = None, **members: Any) -> ProviderGrant:
    return ProviderGrant(provider, allowed_models=models, weight=weight, **members)


def names(candidates: tuple[Candidate, ...]) -> list[str]:
    return [str(candidate) for candidate in candidates]


@pytest.mark.parametrize(
    ("model", "primary"),
    [
        pytest.param("openai/gpt-4o", ("openai", "gpt-4o"), id="9.1 provider/model"),
        pytest.param("openai/openai/gpt", ("openai", "openai/gpt"), id="9.1 the first slash splits"),
        pytest.param(
            "openrouter/openai/gpt-4o", ("openrouter", "openai/gpt-4o"), id="9.1 known, not configured"
        ),
        pytest.param("mine/x", ("mine", "x"), id="9.1 a name of the operator's own"),
        pytest.param("meta-llama/Llama-3", ("groq", "meta-llama/Llama-3"), id="9.1 a slash in a bare model"),
        pytest.param("openai/ gpt ", ("openai", " gpt "), id="9.1 nothing is trimmed"),
        pytest.param("openai//gpt", ("openai", "/gpt"), id="9.1 two slashes"),
        pytest.param("llama", ("groq", "llama"), id="9.1 bare, listed by name"),
        pytest.param("shared", ("groq", "shared"), id="9.1 bare, the first in configuration order"),
        pytest.param("special", ("mine", "special"), id="9.1 bare, by name beside a wildcard"),
        pytest.param("small", ("mistral", "small"), id="9.1 bare, before later providers"),
    ],
)
def test_the_primary_without_a_virtual_key(model: str, primary: tuple[str, str]) -> None:
    assert resolve(CATALOG, model, None, None, 0.0) == (Candidate(*primary),)


@pytest.mark.parametrize(
    ("model", "code"),
    [
        pytest.param("gpt-4o", "provider_unresolved", id="9.1 a wildcard draws no bare model"),
        pytest.param("OpenAI/gpt-4o", "provider_unresolved", id="9.1 by case"),
        pytest.param(" openai/gpt-4o", "provider_unresolved", id="9.1 nothing is trimmed"),
        pytest.param("nobody/gpt-4o", "provider_unresolved", id="9.1 an unknown provider"),
        pytest.param("/gpt-4o", "provider_unresolved", id="9.1 an empty provider"),
        pytest.param("openai/", "missing_required_parameter", id="9.1 an empty rest"),
    ],
)
def test_a_model_that_leads_nowhere(model: str, code: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        resolve(CATALOG, model, None, None, 0.0)

    assert (caught.value.code, caught.value.param) == (code, "model")


class TestWeightedRouting:
    KEY = virtual_key(
        grant("openai", "*", weight=1),
        grant("groq", "shared", weight=3),
        grant("mistral", "*", weight=2),
        grant("mine", "*"),
        grant("keyless", "*", weight=0),
    )

    @pytest.mark.parametrize(
        ("chance", "expected"),
        [
            (0.0, ["openai/shared", "groq/shared", "mistral/shared"]),
            (0.17, ["groq/shared", "mistral/shared", "openai/shared"]),
            (0.66, ["groq/shared", "mistral/shared", "openai/shared"]),
            (0.67, ["mistral/shared", "groq/shared", "openai/shared"]),
            (0.999, ["mistral/shared", "groq/shared", "openai/shared"]),
        ],
    )
    def test_the_choice_comes_first_and_the_others_by_weight(
        self, chance: float, expected: list[str]
    ) -> None:
        assert names(resolve(CATALOG, "shared", None, self.KEY, chance)) == expected

    def test_sent_fallbacks_replace_the_others(self) -> None:
        found = resolve(CATALOG, "shared", ["mistral/large"], self.KEY, 0.0)

        assert names(found) == ["openai/shared", "mistral/large"]

    def test_an_empty_list_of_fallbacks_is_one_that_was_sent(self) -> None:
        assert names(resolve(CATALOG, "shared", [], self.KEY, 0.0)) == ["openai/shared"]

    def test_a_provider_in_the_model_ends_the_routing(self) -> None:
        assert names(resolve(CATALOG, "mistral/shared", None, self.KEY, 0.0)) == ["mistral/shared"]

    def test_only_providers_that_allow_and_serve_the_model_take_part(self) -> None:
        key = virtual_key(
            grant("openai", "other", weight=1),
            grant("groq", "*", weight=1),
            grant("nowhere", "*", weight=1),
            grant("mistral", "large", weight=1),
        )

        assert names(resolve(CATALOG, "large", None, key, 0.0)) == ["mistral/large"]

    def test_without_weights_the_configuration_s_order_decides(self) -> None:
        key = virtual_key(grant("mistral", "*"), grant("groq", "*", weight=0))

        assert names(resolve(CATALOG, "shared", None, key, 0.9)) == ["groq/shared"]


@pytest.mark.parametrize(
    ("fallbacks", "expected"),
    [
        (["groq/llama"], ["groq/llama"]),
        (["groq/llama", "groq/llama"], ["groq/llama", "groq/llama"]),
        (["deepseek/chat"], ["deepseek/chat"]),
        (["mistral/a/b"], ["mistral/a/b"]),
        (["openai/x"] * 10, ["openai/x"] * 10),
        (None, []),
    ],
)
def test_fallbacks_keep_their_order(fallbacks: list[str] | None, expected: list[str]) -> None:
    assert names(resolve(CATALOG, "openai/gpt", fallbacks, None, 0.0))[1:] == expected


@pytest.mark.parametrize("text", ["llama", "", "/", "nobody/x", "openai/", "Groq/llama"])
def test_a_fallback_must_name_its_provider(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        resolve(CATALOG, "openai/gpt", ["groq/llama", text], None, 0.0)

    assert (caught.value.code, caught.value.param) == ("provider_unresolved", "fallbacks[1]")


def test_the_model_is_resolved_before_its_fallbacks_are_counted() -> None:
    with pytest.raises(InvalidRequest) as caught:
        resolve(CATALOG, "nobody", ["x"] * 11, None, 0.0)
    assert caught.value.code == "provider_unresolved"

    with pytest.raises(InvalidRequest) as caught:
        resolve(CATALOG, "openai/gpt", ["x"] * 11, None, 0.0)
    assert caught.value.code == "too_many_items"


class TestWeightedChoice:
    @pytest.mark.parametrize(
        ("weights", "chance", "index"),
        [
            ([1], 0.999, 0),
            ([1, 1], 0.49, 0),
            ([1, 1], 0.5, 1),
            ([0, 1], 0.0, 1),
            ([1, 0], 0.999, 0),
            ([0, 0], 0.0, 0),
            ([0, 0], 0.5, 1),
            ([0.1, 0.2, 0.7], 0.29, 1),
            ([0.1] * 10, 0.9999999999999999, 9),
        ],
    )
    def test_where_a_chance_falls(self, weights: list[float], chance: float, index: int) -> None:
        assert weighted_choice(weights, chance) == index

    def test_shares_follow_the_weights(self) -> None:
        counts = Counter(weighted_choice([1, 3, 6], step / 1000) for step in range(1000))

        assert (counts[0], counts[1], counts[2]) == (100, 300, 600)


def candidates(*models: str) -> tuple[Candidate, ...]:
    return tuple(Candidate(*model.split("/", 1)) for model in models)


class TestAvailability:
    @pytest.mark.parametrize(
        "models",
        [
            ("openai/anything",),
            ("keyless/small",),
            ("mistral/large", "groq/llama"),
            ("off/small", "openai/x"),
            ("openai/x", "off/small"),
        ],
        ids=str,
    )
    def test_what_can_be_served(self, models: tuple[str, ...]) -> None:
        check_available(CATALOG, candidates(*models), CHAT, None)

    @pytest.mark.parametrize(
        ("models", "code", "param", "provider", "message"),
        [
            (
                ("deepseek/chat",),
                "provider_not_configured",
                "model",
                "deepseek",
                'provider "deepseek" is not configured',
            ),
            (
                ("openai/x", "deepseek/chat"),
                "provider_not_configured",
                "fallbacks[0]",
                "deepseek",
                'provider "deepseek" is not configured',
            ),
            (
                ("mute/x",),
                "unsupported_operation",
                "model",
                "mute",
                'chat_completion is not supported by provider "mute"',
            ),
            (
                ("groq/other",),
                "model_not_found",
                "model",
                "groq",
                'model "other" is not available at provider "groq"',
            ),
            (
                ("empty/x",),
                "model_not_found",
                "model",
                "empty",
                'model "x" is not available at provider "empty"',
            ),
            (
                ("openai/x", "openai/y", "groq/other"),
                "model_not_found",
                "fallbacks[1]",
                "groq",
                'model "other" is not available at provider "groq"',
            ),
        ],
    )
    def test_the_first_candidate_at_fault_is_named(
        self, models: tuple[str, ...], code: str, param: str, provider: str, message: str
    ) -> None:
        with pytest.raises(InvalidRequest) as caught:
            check_available(CATALOG, candidates(*models), CHAT, None)

        error = caught.value
        assert (error.code, error.param, error.provider, error.message) == (code, param, provider, message)

    @pytest.mark.parametrize(
        ("models", "key"),
        [
            (("off/small",), None),
            (("unpaid/small",), None),
            (("off/small", "unpaid/small"), None),
            (("openai/x",), virtual_key(grant("openai", "*", key_ids=()))),
            (("openai/x",), virtual_key(grant("openai", "*", key_ids=("other",)))),
        ],
    )
    def test_without_any_usable_key_it_is_the_operators_turn(
        self, models: tuple[str, ...], key: VirtualKey | None
    ) -> None:
        with pytest.raises(Overloaded) as caught:
            check_available(CATALOG, candidates(*models), CHAT, key)

        assert (caught.value.code, caught.value.provider) == ("no_eligible_keys", models[0].split("/")[0])
        assert caught.value.retry_after is not None


class TestPermission:
    KEY = virtual_key(grant("openai", "gpt"), grant("groq", "*"))

    def test_all_candidates_may_be_used(self) -> None:
        check_allowed(candidates("openai/gpt", "groq/anything"), self.KEY)
        check_allowed(candidates("openai/anything"), None)

    @pytest.mark.parametrize(
        ("models", "code", "param", "message"),
        [
            (
                ("mistral/x",),
                "provider_blocked",
                "model",
                "provider 'mistral' is not allowed for this virtual key",
            ),
            (("openai/x",), "model_blocked", "model", "model 'x' is not allowed for this virtual key"),
            (
                ("openai/gpt", "groq/x", "openai/y"),
                "model_blocked",
                "fallbacks[1]",
                "model 'y' is not allowed for this virtual key",
            ),
            (("openai/x", "mistral/x"), "model_blocked", "model", None),
        ],
    )
    def test_the_first_that_may_not_is_named(
        self, models: tuple[str, ...], code: str, param: str, message: str | None
    ) -> None:
        with pytest.raises(Forbidden) as caught:
            check_allowed(candidates(*models), self.KEY)

        assert (caught.value.code, caught.value.param) == (code, param)
        assert message is None or caught.value.message == message
