"""Every kind of mistake, and the words it is answered with."""

from collections.abc import Callable
from typing import Any, Final

import pytest

from tidegate.settings import Code, Problem, Settings, SettingsError

Load = Callable[..., Settings]
Problems = Callable[..., tuple[Problem, ...]]

KEY: Final = {"name": "a", "value": "env.KEY"}
ENVIRON: Final = {"KEY": "k" * 40, "OPENAI_API_KEY": "o" * 40, "EMPTY": " "}
ISSUER: Final = {"iss": "i", "aud": "t", "algorithms": ["HS256"], "key": "env.KEY"}


def issuer(**changes: Any) -> dict[str, Any]:
    return {"auth": {"jwt": {"issuers": [{**ISSUER, **changes}]}}}


def openai(**members: Any) -> dict[str, Any]:
    return {"providers": {"openai": {"keys": [KEY], **members}}}


def network(**members: Any) -> dict[str, Any]:
    return openai(network_config=members)


def virtual_key(**members: Any) -> dict[str, Any]:
    return {"governance": {"virtual_keys": [{"name": "a", "value": "env.KEY", **members}]}}


CASES: Final = [
    # unknown fields
    ({"reset": 1}, Code.UNKNOWN_FIELD, "reset", 'Unknown field "reset".', "Allowed here: server, store, client,"),
    ({"servers": {}}, Code.UNKNOWN_FIELD, "servers", "Did you mean server?", "Allowed here: server"),
    ({"server": {"Port": 1}}, Code.UNKNOWN_FIELD, "server.Port", "Did you mean port?", "Allowed here: host, port"),
    ({"data_dir": "x"}, Code.UNKNOWN_FIELD, "data_dir", "Did you mean server.data_dir?", "Allowed here"),
    (
        openai(max_retries=2),
        Code.UNKNOWN_FIELD,
        "providers.openai.max_retries",
        "Did you mean providers.openai.network_config.max_retries?",
        "Allowed here: keys, network_config",
    ),
    ({"a\nb": 1}, Code.UNKNOWN_FIELD, '["a\\nb"]', 'Unknown field "a\\nb".', "Allowed here"),
    # types
    ({"server": 5}, Code.WRONG_TYPE, "server", "Wrong type: found a number.", "Allowed: an object with host, port"),
    ({"server": {"port": "80"}}, Code.WRONG_TYPE, "server.port", 'found "80".', "a whole number from 0 to 65535."),
    ({"server": {"port": True}}, Code.WRONG_TYPE, "server.port", "found true.", "a whole number"),
    ({"server": {"port": 80.5}}, Code.WRONG_TYPE, "server.port", "found 80.5.", "a whole number"),
    ({"server": {"host": 5}}, Code.WRONG_TYPE, "server.host", "found 5. Write it in quotes.", "Allowed: text"),
    ({"server": {"data_dir": []}}, Code.WRONG_TYPE, "server.data_dir", "found a list.", "a path, as text"),
    ({"server": {"allowed_hosts": "a"}}, Code.WRONG_TYPE, "server.allowed_hosts", "found text.", "Allowed: a list"),
    ({"auth": {"required": "yes"}}, Code.WRONG_TYPE, "auth.required", 'found "yes".', "Allowed: true or false."),
    ({"auth": {"required": 1}}, Code.WRONG_TYPE, "auth.required", "found 1.", "Allowed: true or false."),
    ({"providers": []}, Code.WRONG_TYPE, "providers", "found a list.", "an object with one member per name"),
    ({"providers": {"openai": "x"}}, Code.WRONG_TYPE, "providers.openai", "found text.", "an object with keys"),
    (openai(keys=["sk"]), Code.WRONG_TYPE, "providers.openai.keys[0]", "found text.", "an object with name, value"),
    (openai(keys=[None]), Code.WRONG_TYPE, "providers.openai.keys[0]", "found nothing.", "an object with"),
    (
        openai(keys=[KEY | {"weight": True}]),
        Code.WRONG_TYPE,
        "providers.openai.keys[0].weight",
        "found true.",
        "Allowed: a number from 0 to 1000000.",
    ),
    (
        openai(keys=[KEY | {"value": 5}]),
        Code.WRONG_TYPE,
        "providers.openai.keys[0].value",
        "found a number.",
        "Allowed: env.NAME, file:PATH or the secret itself, as text.",
    ),
    (
        openai(keys=[KEY | {"models": ["a", 5]}]),
        Code.WRONG_TYPE,
        "providers.openai.keys[0].models[1]",
        "found 5. Write it in quotes.",
        "Allowed: text",
    ),
    (issuer(kinds=[5]), Code.WRONG_TYPE, "auth.jwt.issuers[0].kinds[0]", "found 5.", "one of admin, virtual_key."),
    (virtual_key(expires_at=5), Code.WRONG_TYPE, "governance.virtual_keys[0].expires_at", "found 5.", "with its offset"),
    (network(max_retries=None, retry_backoff_max=[]), Code.WRONG_TYPE, "providers.openai.network_config.retry_backoff_max", "found a list.", "a duration"),
    ({"store": {"min_free_bytes": True}}, Code.WRONG_TYPE, "store.min_free_bytes", "found true.", "a size from 0B"),
    # values
    (issuer(kinds=["root"]), Code.INVALID_VALUE, "auth.jwt.issuers[0].kinds[0]", 'found "root".', "one of admin"),
    (issuer(algorithms=["none"]), Code.INVALID_VALUE, "auth.jwt.issuers[0].algorithms[0]", 'found "none".', "one of ES256"),
    ({"server": {"drain_timeout": "25"}}, Code.INVALID_VALUE, "server.drain_timeout", 'Not a duration: found "25".', "from 0s to 1h"),
    ({"store": {"min_free_bytes": "1GB"}}, Code.INVALID_VALUE, "store.min_free_bytes", 'Not a size: found "1GB".', "written like 20MiB"),
    ({"server": {"data_dir": ""}}, Code.INVALID_VALUE, "server.data_dir", 'Not a path: found "".', "a path"),
    ({"server": {"data_dir": "a\0b"}}, Code.INVALID_VALUE, "server.data_dir", "Not a path", "a path"),
    ({"server": {"host": "a\nb"}}, Code.INVALID_VALUE, "server.host", 'found "a\\nb".', "Allowed: text"),
    ({"server": {"allowed_hosts": ["http://a"]}}, Code.INVALID_VALUE, "server.allowed_hosts[0]", 'found "http://a".', "a host name or address"),
    ({"client": {"allowed_origins": ["https://a/b"]}}, Code.INVALID_VALUE, "client.allowed_origins[0]", 'found "https://a/b".', "an origin, such as"),
    ({"client": {"allowed_origins": ["https://a\n"]}}, Code.INVALID_VALUE, "client.allowed_origins[0]", "Invalid value", "an origin"),
    ({"client": {"required_headers": ["a b"]}}, Code.INVALID_VALUE, "client.required_headers[0]", 'found "a b".', "the name of a header"),
    (virtual_key(expires_at="soon"), Code.INVALID_VALUE, "governance.virtual_keys[0].expires_at", 'Not a time: found "soon".', "with its offset"),
    (virtual_key(expires_at="2027-01-31T00:00:00"), Code.INVALID_VALUE, "governance.virtual_keys[0].expires_at", "The time has no offset.", "2027-01-31T00:00:00Z"),
    ({"store": {"url": "tidegate.db"}}, Code.INVALID_VALUE, "store.url", "Not the URL of a store.", "sqlite:///relative/path"),
    ({"store": {"url": "sqlite:x.db"}}, Code.INVALID_VALUE, "store.url", "Not the URL of an SQLite file.", "sqlite:////absolute"),
    ({"store": {"url": "sqlite:///x.db?mode=rw"}}, Code.INVALID_VALUE, "store.url", "Not the URL of an SQLite file.", "sqlite:///"),
    ({"store": {"url": "sqlite:///x/"}}, Code.INVALID_VALUE, "store.url", "Not the URL of an SQLite file.", "sqlite:///"),
    # ranges
    ({"server": {"port": 65536}}, Code.OUT_OF_RANGE, "server.port", "Out of range: found 65536.", "from 0 to 65535."),
    ({"server": {"port": 10**30}}, Code.OUT_OF_RANGE, "server.port", "found a very large number.", "from 0 to 65535."),
    ({"server": {"host": ""}}, Code.OUT_OF_RANGE, "server.host", 'Too short or too long: found "".', "1 to 255 characters"),
    ({"store": {"commit_wait": 3}}, Code.OUT_OF_RANGE, "store.commit_wait", "found 3.", "from 0s to 2ms"),
    ({"store": {"commit_wait": "0.1s"}}, Code.OUT_OF_RANGE, "store.commit_wait", 'found "0.1s".', "from 0s to 2ms"),
    ({"server": {"drain_timeout": -1}}, Code.OUT_OF_RANGE, "server.drain_timeout", "found -1.", "from 0s to 1h"),
    ({"server": {"drain_timeout": 10**300}}, Code.OUT_OF_RANGE, "server.drain_timeout", "a very large", "from 0s"),
    ({"server": {"drain_timeout": "999999999999999w"}}, Code.OUT_OF_RANGE, "server.drain_timeout", "999w", "from 0s"),
    ({"client": {"max_request_body_size_mb": 0}}, Code.OUT_OF_RANGE, "client.max_request_body_size_mb", "found 0.", "from 1MiB to 1GiB"),
    ({"client": {"async_job_result_ttl_max": "31d"}}, Code.OUT_OF_RANGE, "client.async_job_result_ttl_max", 'found "31d".', "from 1s to 30d"),
    ({"auth": {"jwt": {"max_lifetime_seconds": 86401}}}, Code.OUT_OF_RANGE, "auth.jwt.max_lifetime_seconds", "found 86401.", "to 1d"),
    ({"async": {"worker_loss_budget": -1}}, Code.OUT_OF_RANGE, "async.worker_loss_budget", "found -1.", "from 0 to 100"),
    (issuer(algorithms=[]), Code.OUT_OF_RANGE, "auth.jwt.issuers[0].algorithms", "The list is empty.", "a list that is not empty"),
    (virtual_key(**{"async": {"weight": 0}}), Code.OUT_OF_RANGE, "governance.virtual_keys[0].async.weight", "found 0.", "a number above 0 up to 1000."),
    (virtual_key(**{"async": {"priority_ceiling": 6}}), Code.OUT_OF_RANGE, "governance.virtual_keys[0].async.priority_ceiling", "found 6.", "from 1 to 5"),
    (openai(concurrency_and_buffer_size={"concurrency": 0}), Code.OUT_OF_RANGE, "providers.openai.concurrency_and_buffer_size.concurrency", "found 0.", "from 1 to 100000"),
    # what is missing
    (openai(keys=[{"value": "env.KEY"}]), Code.MISSING_FIELD, "providers.openai.keys[0].name", "name is missing.", "1 to 128 characters"),
    ({"governance": {"virtual_keys": [{"name": "a"}]}}, Code.MISSING_FIELD, "governance.virtual_keys[0].value", "value is missing.", "env.NAME"),
    (virtual_key(value=" "), Code.MISSING_FIELD, "governance.virtual_keys[0].value", "The secret is empty.", "Set it, or remove the key."),
    ({"providers": {"openai": None}}, Code.MISSING_FIELD, "providers.openai.keys", "openai needs a key and has none.", "Add one, with name and value."),
    # variables
    (openai(keys=[KEY | {"value": "env.OPENAI_KEY"}]), Code.ENV_MISSING, "providers.openai.keys[0].value", "env.OPENAI_KEY is not set. Did you mean env.OPENAI_API_KEY (set)?", "Set the variable, or remove the key."),
    (openai(keys=[KEY | {"value": "os.environ/EMPTY"}]), Code.ENV_MISSING, "providers.openai.keys[0].value", "env.EMPTY is empty.", "Set the variable"),
    (issuer(key="env.NOTHING"), Code.ENV_MISSING, "auth.jwt.issuers[0].key", "env.NOTHING is not set.", "remove the issuer."),
    ({"metrics": {"token": "env."}}, Code.INVALID_VALUE, "metrics.token", "env. names no variable.", "Write env. and letters"),
    ({"server": {"host": "env.HOST"}}, Code.UNSUPPORTED, "server.host", "references are read for secrets only.", "its TIDEGATE__… variable."),
    # what this version does not do
    ({"otel": {"capture_content": True}}, Code.UNSUPPORTED, "otel", '"otel" is not supported by this version.', "Remove it;"),
    ({"drop_in": {}}, Code.UNSUPPORTED, "drop_in", "is not supported by this version.", "Remove it;"),
    ({"server": {"tls": {}}}, Code.UNSUPPORTED, "server.tls", "not supported", "Remove it;"),
    (virtual_key(budget={}), Code.UNSUPPORTED, "governance.virtual_keys[0].budget", "not supported", "Remove it;"),
    (virtual_key(**{"async": {"max_pending": 1}}), Code.UNSUPPORTED, "governance.virtual_keys[0].async.max_pending", "not supported", "Remove it;"),
    ({"auth": {"local_issuer_key": "short"}}, Code.WEAK_SECRET, "auth.local_issuer_key", "The key has 5 bytes.", "at least 32 random bytes"),
    ({"store": {"url": "mysql://h/d"}}, Code.UNSUPPORTED, "store.url", "A store at mysql: is not supported.", "postgresql://user:password@host:5432/name"),
    ({"store": {"url": "postgresql:///d"}}, Code.INVALID_VALUE, "store.url", "The URL names no host.", "postgresql://user:password@host:5432/name"),
    ({"store": {"url": "postgresql://h"}}, Code.INVALID_VALUE, "store.url", "The URL names no database.", "postgresql://user:password@host:5432/name"),
    ({"store": {"url": "sqlite:///:memory:"}}, Code.UNSUPPORTED, "store.url", "A store in memory would lose accepted jobs.", "sqlite:///"),
    ({"store": {"url": "sqlite://"}}, Code.UNSUPPORTED, "store.url", "A store in memory would lose accepted jobs.", "sqlite:///"),
    (openai(keys=[KEY | {"value": "vault.a/b#c"}]), Code.UNSUPPORTED, "providers.openai.keys[0].value", "References to a vault are not supported", "Use env.NAME or file:PATH."),
    # contradictions
    ({"client": {"async_job_result_ttl": 7200, "async_job_result_ttl_max": 3600}}, Code.CONFLICT, "client.async_job_result_ttl", "2h is longer than async_job_result_ttl_max, 1h.", "Lower async_job_result_ttl or raise"),
    (network(retry_backoff_initial=2000, retry_backoff_max="1.5s"), Code.CONFLICT, "providers.openai.network_config.retry_backoff_initial", "2s is longer than retry_backoff_max, 1500ms.", "Lower retry_backoff_initial"),
    (network(retry_backoff_max=1, retry_backoff_max_ms=1), Code.CONFLICT, "providers.openai.network_config.retry_backoff_max", "Given under two names: retry_backoff_max and retry_backoff_max_ms.", "Keep one."),
    ({"auth": {"jwt": {"claims": {"role": "r", "virtual_key": "r"}}}}, Code.CONFLICT, "auth.jwt.claims", 'both read from the claim "r".', "Name two different claims."),
    # strictness
    ({"security": {"strict_secrets": True}, "metrics": {"token": "plain"}}, Code.LITERAL_SECRET, "metrics.token", "A secret stands here in clear, and security.strict_secrets is set.", "Write env.NAME or file:PATH."),
    (issuer(key="short"), Code.WEAK_SECRET, "auth.jwt.issuers[0].key", "The HS256 key has 5 bytes.", "Use at least 32 random bytes."),
]  # fmt: skip


@pytest.mark.parametrize(("document", "code", "path", "text", "allowed"), CASES)
def test_a_mistake_is_answered_with_what_was_found_and_what_is_allowed(
    problems_of: Problems, document: Any, code: Code, path: str, text: str, allowed: str
) -> None:
    (problem,) = problems_of(document, ENVIRON)

    assert (problem.code, problem.path) == (code, path)
    assert text in f"{problem.message} {problem.hint}"
    assert allowed in problem.allowed
    assert problem.place.startswith("tidegate.json:1:")


def test_a_problem_reads_like_the_documentation_says(problems_of: Problems) -> None:
    text = "providers:\n  openai:\n    keys:\n      - name: main\n        value: env.OPENAI_KEY\n"

    (problem,) = problems_of(text, ENVIRON, name="tidegate.yaml")

    assert str(problem) == (
        "tidegate.yaml:5:9  providers.openai.keys[0].value\n"
        "  env.OPENAI_KEY is not set. Did you mean env.OPENAI_API_KEY (set)?\n"
        "  Set the variable, or remove the key.                         [config_env_missing]"
    )


def test_a_long_list_of_what_is_allowed_is_wrapped(problems_of: Problems) -> None:
    (problem,) = problems_of({"providers": {"opnai": {}}})

    assert str(problem) == (
        "tidegate.json:1:16  providers.opnai\n"
        '  Unknown provider "opnai". Did you mean openai?\n'
        "  Available: deepseek, gemini-compat, groq, local, mock, ollama, openai, openrouter, zai; a provider\n"
        "  of another name needs custom_provider_config.base_provider_type. [config_unknown_provider]"
    )


def test_all_problems_come_in_one_report_in_the_order_of_the_file(load_document: Load) -> None:
    text = """
providers:
  opnai: {keys: [{name: a, value: env.KEY}]}
  openai:
    keys: [{name: a, value: env.NONE}, {name: a, value: env.KEY}, {nam: b, value: env.KEY}]
    network_config: {base_url: "http://h/v1", retry_backoff_max: 1y}
server:
  port: 70000
  data_dri: x
auth:
  jwt:
    issuers:
      - {iss: i, aud: t, algorithms: [HS256, RS256], key: env.KEY}
      - {iss: i, aud: t, algorithms: [HS256]}
"""

    with pytest.raises(SettingsError) as caught:
        load_document(text, ENVIRON | {"TIDEGATE__STORE__URLL": "x"}, name="t.yaml")

    assert [(problem.path, problem.code) for problem in caught.value.problems] == [
        ("providers.opnai", Code.UNKNOWN_PROVIDER),
        ("providers.openai.keys[0].value", Code.ENV_MISSING),
        ("providers.openai.keys[1].name", Code.DUPLICATE),
        ("providers.openai.keys[2].name", Code.MISSING_FIELD),
        ("providers.openai.keys[2].nam", Code.UNKNOWN_FIELD),
        ("providers.openai.network_config.base_url", Code.INVALID_VALUE),
        ("providers.openai.network_config.retry_backoff_max", Code.INVALID_VALUE),
        ("server.port", Code.OUT_OF_RANGE),
        ("server.data_dri", Code.UNKNOWN_FIELD),
        ("auth.jwt.issuers[0].algorithms", Code.CONFLICT),
        ("auth.jwt.issuers[1]", Code.MISSING_FIELD),
        ("auth.jwt.issuers[1].iss", Code.DUPLICATE),
        ("store.urll", Code.UNKNOWN_FIELD),
    ]
    assert str(caught.value) == "\n\n".join(str(problem) for problem in caught.value.problems)


def test_a_wrong_section_brings_no_problems_about_its_content(problems_of: Problems) -> None:
    document = {"providers": {"openai": 5}, "auth": {"jwt": {"issuers": [5, None]}}}

    assert [problem.path for problem in problems_of(document)] == [
        "providers.openai",
        "auth.jwt.issuers[0]",
        "auth.jwt.issuers[1]",
    ]


def test_long_texts_are_cut_and_cannot_move_the_cursor(problems_of: Problems) -> None:
    (problem,) = problems_of({"auth": {"required": "\x1b[2J" + "x" * 500}})

    assert "\x1b" not in str(problem)
    assert len(problem.message) < 100


def test_every_code_is_provoked_somewhere() -> None:
    in_this_file = {case[1] for case in CASES}
    elsewhere = {Code.UNREADABLE, Code.DUPLICATE, Code.UNKNOWN_PROVIDER}

    assert in_this_file | elsewhere == set(Code)
