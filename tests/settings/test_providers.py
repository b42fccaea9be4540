"""Providers: vendor, address, keys."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from tidegate.domain.secret import Secret
from tidegate.settings import Code, Problem, Settings

Load = Callable[..., Settings]
Problems = Callable[..., tuple[Problem, ...]]

KEY: Final = {"name": "a", "value": "env.KEY"}
ENVIRON: Final = {"KEY": "k" * 40}


def provider(name: str, **members: Any) -> dict[str, Any]:
    return {"providers": {name: {"keys": [KEY], **members}}}


def custom(base: str, **members: Any) -> dict[str, Any]:
    return {"custom_provider_config": {"base_provider_type": base, **members}}


@pytest.mark.parametrize(
    ("vendor", "given", "kept"),
    [
        ("openai", "http://127.0.0.1:9000", "http://127.0.0.1:9000"),
        ("openai", "HTTPS://h:8443/", "https://h:8443"),
        ("openai", "https://h/proxy//", "https://h/proxy"),
        ("openai", "https://h/v2", "https://h/v2"),
        ("openai", "https://h/dev1", "https://h/dev1"),
        ("openai", "http://[::1]:8080", "http://[::1]:8080"),
        ("deepseek", "https://h/v1", "https://h/v1"),
        ("groq", "https://h/openai", "https://h/openai"),
    ],
)
def test_a_base_url_replaces_the_origin(load_document: Load, vendor: str, given: str, kept: str) -> None:
    settings = load_document(provider(vendor, network_config={"base_url": given}), ENVIRON)

    assert settings.providers[vendor].network_config.base_url == kept


@pytest.mark.parametrize(
    ("vendor", "given", "message", "allowed"),
    [
        ("openai", "https://h/v1", 'ends in "/v1"', "Write https://h."),
        ("openai", "https://h/v1/", 'ends in "/v1"', "Write https://h."),
        ("openai", "https://h/x/v1/chat/completions", 'ends in "/v1/chat/completions"', "Write https://h/x."),
        ("groq", "https://h/openai/v1", 'ends in "/openai/v1"', "Write https://h."),
        ("groq", "https://h/v1", 'ends in "/v1"', "Write https://h."),
        ("openrouter", "https://openrouter.ai/api/v1", 'ends in "/api/v1"', "Write https://openrouter.ai."),
        ("zai", "https://api.z.ai/api/paas/v4", 'ends in "/api/paas/v4"', "Write https://api.z.ai."),
        ("gemini-compat", "https://h/v1beta", 'ends in "/v1beta"', "Write https://h."),
        ("gemini-compat", "https://h/v1beta/openai/", 'ends in "/v1beta/openai"', "Write https://h."),
        ("zai", "https://h/v4", 'ends in "/v4"', "Write https://h."),
        ("deepseek", "https://h/chat/completions", 'ends in "/chat/completions"', "Write https://h."),
        ("openai", "ftp://h", "Not an http or https URL.", "Write an origin, such as"),
        ("openai", "h:9000", "Not an http or https URL.", "Write an origin, such as"),
        ("openai", "http://", "Not an http or https URL.", "Write an origin, such as"),
        ("openai", "http://h:99999", "Not an http or https URL.", "Write an origin, such as"),
        ("openai", "http://h h", "Not an http or https URL.", "Write an origin, such as"),
        ("openai", "http://h\\@evil", "Not an http or https URL.", "Write an origin, such as"),
        ("openai", "http://u@h", "The URL holds a user or a password.", "Put the secret into a key's value."),
        ("openai", "http://h?a=b", "The URL has a query or a fragment.", "Remove it."),
        ("openai", "http://h/#", "The URL has a query or a fragment.", "Remove it."),
    ],
)
def test_a_base_url_that_would_not_work_is_refused_with_the_right_one(
    problems_of: Problems, vendor: str, given: str, message: str, allowed: str
) -> None:
    (problem,) = problems_of(provider(vendor, network_config={"base_url": given}), ENVIRON)

    assert (problem.path, problem.code) == (
        f"providers.{vendor}.network_config.base_url",
        Code.INVALID_VALUE,
    )
    assert message in problem.message
    assert problem.allowed.startswith(allowed)


def test_a_vendor_at_an_unknown_address_needs_one(problems_of: Problems, load_document: Load) -> None:
    (problem,) = problems_of({"providers": {"ollama": {}}})
    settings = load_document({"providers": {"ollama": {"network_config": {"base_url": "http://h:11434"}}}})

    assert problem.path == "providers.ollama.network_config.base_url"
    assert problem.message == "base_url is missing: only you know where ollama listens."
    assert settings.providers["ollama"].keys[0].name == "default"
    assert settings.providers["ollama"].keys[0].models == ("*",)
    assert not settings.providers["ollama"].needs_key


@pytest.mark.parametrize(
    ("name", "code", "message", "hint"),
    [
        ("opnai", Code.UNKNOWN_PROVIDER, 'Unknown provider "opnai".', "Did you mean openai?"),
        ("acme", Code.UNKNOWN_PROVIDER, 'Unknown provider "acme".', ""),
        ("anthropic", Code.UNSUPPORTED, 'Provider "anthropic" is not available in this version.', ""),
        ("openai/x", Code.INVALID_VALUE, "Not a name for a provider.", ""),
    ],
)
def test_an_unknown_provider_is_named_with_its_nearest_neighbour(
    problems_of: Problems, name: str, code: Code, message: str, hint: str
) -> None:
    (problem,) = problems_of(provider(name), ENVIRON)

    assert (problem.code, problem.message, problem.hint) == (code, message, hint)


def test_a_custom_provider_speaks_the_dialect_of_its_base(load_document: Load) -> None:
    settings = load_document(
        provider("acme", network_config={"base_url": "http://h"}, **custom("groq")),
        ENVIRON,
    )

    acme = settings.providers["acme"]
    assert (acme.vendor, acme.needs_key, acme.network_config.base_url) == ("groq", True, "http://h")


def test_a_custom_provider_may_stay_at_the_origin_of_its_base(load_document: Load) -> None:
    settings = load_document(provider("openai-eu", **custom("openai")), ENVIRON)

    assert settings.providers["openai-eu"].network_config.base_url is None


def test_a_custom_provider_may_need_no_key(load_document: Load) -> None:
    document = {"providers": {"inhouse": custom("openai", is_key_less=True)}}

    inhouse = load_document(document).providers["inhouse"]

    assert (inhouse.needs_key, inhouse.keys[0].name) == (False, "default")


@pytest.mark.parametrize(
    ("name", "base", "code", "message"),
    [
        ("acme", "opnai", Code.UNKNOWN_PROVIDER, 'Unknown provider "opnai".'),
        ("acme", "bedrock", Code.UNSUPPORTED, 'Provider "bedrock" is not available in this version.'),
        (
            "groq",
            "openai",
            Code.CONFLICT,
            "groq is a vendor of its own and cannot speak the dialect of openai.",
        ),
    ],
)
def test_a_base_must_be_a_vendor_and_fit_the_name(
    problems_of: Problems, name: str, base: str, code: Code, message: str
) -> None:
    (problem,) = problems_of(provider(name, **custom(base)), ENVIRON)

    assert problem.path == f"providers.{name}.custom_provider_config.base_provider_type"
    assert (problem.code, problem.message) == (code, message)


def test_a_vendor_may_name_itself_as_base(load_document: Load) -> None:
    assert load_document(provider("groq", **custom("groq")), ENVIRON).providers["groq"].vendor == "groq"


def test_keys_without_a_model_list_serve_what_the_vendor_is_known_for(load_document: Load) -> None:
    keys = [{"name": "a"}, {"name": "b", "models": []}, {"name": "c", "models": ["echo"]}]

    settings = load_document({"providers": {"mock": {"keys": keys}}})

    assert [key.models for key in settings.providers["mock"].keys] == [("echo", "slow"), (), ("echo",)]


def test_an_empty_value_is_fine_only_where_no_key_is_needed(
    load_document: Load, problems_of: Problems
) -> None:
    keys = [{"name": "a", "value": ""}]

    (problem,) = problems_of({"providers": {"openai": {"keys": keys}}})
    settings = load_document({"providers": {"mock": {"keys": keys}}})

    assert (problem.path, problem.code) == ("providers.openai.keys[0].value", Code.MISSING_FIELD)
    assert problem.message == "The key has no value, or an empty one."
    assert settings.providers["mock"].keys[0].value is None


def test_a_key_that_cannot_travel_in_a_header_is_refused(problems_of: Problems) -> None:
    (problem,) = problems_of(provider("openai"), {"KEY": "sk-…"})

    assert problem.message == "The secret holds a character that cannot travel in a header."


def test_names_are_unique_in_a_provider_and_ids_everywhere(problems_of: Problems) -> None:
    keys = [KEY | {"id": "1"}, KEY | {"name": "b", "id": "1"}, KEY]

    problems = problems_of(
        {"providers": {"openai": {"keys": keys}, "groq": {"keys": [KEY | {"id": "1"}]}}}, ENVIRON
    )

    assert [(problem.path, problem.code) for problem in problems] == [
        ("providers.openai.keys[1].id", Code.DUPLICATE),
        ("providers.openai.keys[2].name", Code.DUPLICATE),
        ("providers.groq.keys[0].id", Code.DUPLICATE),
    ]


def test_an_alias_in_milliseconds_loads(load_document: Load) -> None:
    names = {"retry_backoff_initial_ms": 250, "retry_backoff_max_ms": 750}

    network = (
        load_document(provider("openai", network_config=names), ENVIRON).providers["openai"].network_config
    )

    assert network.retry_backoff_initial == timedelta(milliseconds=250)
    assert network.retry_backoff_max == timedelta(milliseconds=750)


@pytest.mark.parametrize(
    ("given", "initial", "longest"),
    [
        ({"retry_backoff_initial": "10s"}, 10, 10),
        ({"retry_backoff_max": "100ms"}, 0.1, 0.1),
        ({"retry_backoff_max": "1m"}, 0.5, 60),
    ],
)
def test_a_default_pause_gives_way_to_one_that_is_set(
    load_document: Load, given: Any, initial: float, longest: float
) -> None:
    network = (
        load_document(provider("openai", network_config=given), ENVIRON).providers["openai"].network_config
    )

    assert network.retry_backoff_initial == timedelta(seconds=initial)
    assert network.retry_backoff_max == timedelta(seconds=longest)


def test_proxy_and_certificates_are_checked(
    load_document: Load, problems_of: Problems, tmp_path: Path
) -> None:
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----")
    good = {"proxy_url": "env.PROXY", "ca_cert": "ca.pem", "allow_link_local": True}
    bad = {"proxy_url": "env.PROXY", "ca_cert": "none.pem"}

    network = (
        load_document(provider("openai", network_config=good), ENVIRON | {"PROXY": "http://u:p@proxy:3128"})
        .providers["openai"]
        .network_config
    )
    problems = problems_of(provider("openai", network_config=bad), ENVIRON | {"PROXY": "socks5://proxy:1"})

    assert network.proxy_url == Secret("http://u:p@proxy:3128")
    assert network.ca_cert == tmp_path / "ca.pem"
    assert network.allow_link_local
    assert [(problem.path.rpartition(".")[2], problem.code, problem.message) for problem in problems] == [
        ("proxy_url", Code.INVALID_VALUE, "Not the URL of a proxy."),
        ("ca_cert", Code.UNREADABLE, f'"{tmp_path / "none.pem"}" is not a file.'),
    ]


def test_the_order_of_the_file_is_kept(load_document: Load) -> None:
    names = ["zai", "groq", "openai", "deepseek"]

    settings = load_document({"providers": {name: {"keys": [KEY]} for name in names}}, ENVIRON)

    assert list(settings.providers) == names
