"""Where secrets may come from, and that they never come out again."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from tidegate.domain.secret import Secret
from tidegate.settings import Code, Problem, Settings, SettingsError, load, show

Load = Callable[..., Settings]
Problems = Callable[..., tuple[Problem, ...]]

CANARY: Final = "sk-canary-0123456789abcdefghijklmnop"


def token(value: Any) -> dict[str, Any]:
    return {"metrics": {"token": value}}


@pytest.mark.parametrize(
    "value",
    [
        "env.TOKEN",
        "os.environ/TOKEN",
        "file:secrets/token",
        CANARY,
        {"value": CANARY},
        {"env_var": "TOKEN", "from_env": True},
        {"value": "", "env_var": "env.TOKEN", "from_env": True},
        {"type": "env", "ref": "TOKEN"},
        {"type": "plain_text", "value": CANARY},
    ],
)
def test_a_secret_comes_from_a_variable_a_file_or_stands_there(
    load_document: Load, tmp_path: Path, value: Any
) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "token").write_text(f"{CANARY}\n")

    assert load_document(token(value), {"TOKEN": CANARY}).metrics.token == Secret(CANARY)


def test_a_file_reference_counts_from_the_configuration_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "token").write_text("from the file")
    (tmp_path / "etc" / "t.yaml").write_text("metrics: {token: 'file:token'}")
    monkeypatch.chdir(tmp_path)

    settings = load(Path("etc/t.yaml"), {}, vendors={})

    assert settings.metrics.token == Secret("from the file")
    assert settings.origins["metrics.token"] == "file etc/t.yaml:1:11, file:token"


@pytest.mark.parametrize(
    ("value", "code", "message"),
    [
        ("file:none", Code.UNREADABLE, 'file:"none" cannot be read: No such file or directory.'),
        ("file:.", Code.UNREADABLE, 'file:"." cannot be read: Is a directory.'),
        ("file:a\0b", Code.UNREADABLE, 'file:"a\\x00b" cannot be read: not a path, or not text.'),
        ("file:binary", Code.UNREADABLE, 'file:"binary" cannot be read: not a path, or not text.'),
        ("file:empty", Code.MISSING_FIELD, 'file:"empty" is empty.'),
        ("file:large", Code.OUT_OF_RANGE, 'file:"large" is too large for a secret.'),
        ("env.MY-TOKEN", Code.INVALID_VALUE, "env.MY-TOKEN names no variable."),
        ("env.\n", Code.INVALID_VALUE, "env.… names no variable."),
        ({"type": "vault", "ref": "a/b"}, Code.UNSUPPORTED, "References to a vault are not supported by this version."),
        ({"vlaue": "x"}, Code.WRONG_TYPE, "Wrong type: found an object."),
        (["x"], Code.WRONG_TYPE, "Wrong type: found a list."),
        (f"{CANARY}\n", Code.INVALID_VALUE, "The secret holds a line break or a control character."),
        ("env.BROKEN", Code.INVALID_VALUE, "The secret holds a line break or a control character."),
        ("env.PADDED", Code.INVALID_VALUE, "The secret begins or ends with white space."),
    ],
)  # fmt: skip
def test_a_secret_that_cannot_be_had_stops_the_start(
    problems_of: Problems, tmp_path: Path, value: Any, code: Code, message: str
) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "empty").write_text(" \n")
    (tmp_path / "large").write_text("x" * 70_000)

    (problem,) = problems_of(token(value), {"PADDED": f" {CANARY}", "BROKEN": "a\udcff"})

    assert (problem.path, problem.code, problem.message) == ("metrics.token", code, message)


def test_keys_in_pem_form_keep_their_lines(load_document: Load) -> None:
    pem = "-----BEGIN PUBLIC KEY-----\nabc\n-----END PUBLIC KEY-----\n"
    issuer = {"iss": "i", "aud": "a", "algorithms": ["RS256"], "key": "env.PEM"}

    settings = load_document({"auth": {"jwt": {"issuers": [issuer]}}}, {"PEM": pem})

    assert settings.auth.jwt.issuers[0].key == Secret(pem)


def test_a_literal_is_warned_about_and_louder_if_others_can_read_it(load_document: Load) -> None:
    quiet = load_document(token(CANARY)).warnings
    Path("tidegate.json").chmod(0o644)
    loud = load(Path("tidegate.json"), {}, vendors={}).warnings

    assert quiet == ("secrets stand in clear at metrics.token; write env.NAME or file:PATH instead",)
    assert loud[0] == quiet[0]
    assert loud[1].startswith("OTHERS CAN READ the secrets in tidegate.json")


def test_references_and_variables_are_not_warned_about(load_document: Load) -> None:
    from_reference = load_document(token("env.TOKEN"), {"TOKEN": CANARY})
    from_variable = load_document({}, {"TIDEGATE__METRICS__TOKEN": CANARY})

    assert from_reference.warnings == from_variable.warnings == ()


def test_strict_secrets_refuses_a_literal_on_the_command_line_too(problems_of: Problems) -> None:
    (problem,) = problems_of({"security": {"strict_secrets": True}}, overrides={"metrics.token": CANARY})

    assert (problem.code, problem.place) == (Code.LITERAL_SECRET, "command line")


EVERYWHERE: Final = {
    "auth": {"jwt": {"issuers": [{"iss": "i", "aud": "a", "algorithms": ["HS256"], "key": CANARY}]}},
    "governance": {"virtual_keys": [{"name": "a", "value": CANARY + "v"}]},
    "metrics": {"token": CANARY},
    "providers": {
        "openai": {
            "keys": [{"name": "a", "value": CANARY}],
            "network_config": {"proxy_url": f"http://user:{CANARY}@proxy:3128"},
        }
    },
}


def test_no_secret_shows_in_settings_or_their_view(load_document: Load) -> None:
    settings = load_document(EVERYWHERE)

    shown = json.dumps(show(settings, settings.origins), default=str)
    for text in (repr(settings), str(settings), shown, *settings.warnings, *settings.ignored):
        assert CANARY not in text
        assert "canary" not in text
    assert shown.count('"***"') == 5


@pytest.mark.parametrize(
    "document",
    [
        {"providers": {"openai": {"keys": [CANARY]}}},
        {"providers": {"openai": {"keys": CANARY}}},
        {"providers": {"openai": CANARY}},
        {"providers": {"openai": {"keys": [{"name": "a", "value": [CANARY]}]}}},
        {"providers": {"openai": {"keys": [{"name": "a", "valeu": CANARY}]}}},
        {"providers": {"openai": {"keys": [{"name": "a", "value": f"{CANARY}\n"}]}}},
        {"providers": {"openai": {"keys": [{"name": "a", "value": f"{CANARY}é"}]}}},
        {"providers": {"openai": {"network_config": {"base_url": f"https://u:{CANARY}@h"}}}},
        {"providers": {"openai": {"network_config": {"base_url": f"https://h/?key={CANARY}"}}}},
        {"providers": {"openai": {"network_config": {"base_url": f"https://h\n{CANARY}"}}}},
        {"providers": {"openai": {"network_config": {"proxy_url": f"socks://u:{CANARY}@h"}}}},
        {"store": {"url": f"postgresql://u:{CANARY}@h/"}},
        {"store": {"url": f"u:{CANARY}@h/db"}},
        {"store": {"url": "x" * 3000 + CANARY}},
        {"auth": {"jwt": {"issuers": [{"iss": "i", "aud": "a", "algorithms": ["HS256"], "key": "canary"}]}}},
        {"auth": {"jwt": {"issuers": [{"iss": "i", "aud": "a", "algorithms": ["RS256"], "key": CANARY}]}}},
        {"auth": {"jwt": {"issuers": [{"iss": "i", "aud": "a", "algorithms": ["RS256"], "jwks_url": f"https://u:{CANARY}@h"}]}}},
        {"governance": {"virtual_keys": [{"name": "a", "value": CANARY}, {"name": "b", "value": CANARY}]}},
        {"security": {"strict_secrets": True}, "metrics": {"token": CANARY}},
        '{"metrics": {"token": "' + CANARY,
        "metrics: {token: *" + CANARY,
        "metrics: {token: !" + CANARY,
        "metrics: {token: '" + CANARY,
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["t.json", "t.yaml"])
def test_no_problem_quotes_a_secret(load_document: Load, document: Any, name: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_document(document, name=name)

    assert "canary" not in str(caught.value)
    assert "canary" not in repr(caught.value)


def test_a_traceback_of_the_error_shows_no_secret(load_document: Load) -> None:
    """Chained exceptions are printed too: none of them may carry the value."""
    with pytest.raises(SettingsError) as caught:
        load_document({"providers": {"openai": {"keys": [{"name": "a", "value": [CANARY]}]}}})

    causes: list[BaseException | None] = [caught.value, caught.value.__cause__, caught.value.__context__]
    assert all("canary" not in repr(cause) for cause in causes)
