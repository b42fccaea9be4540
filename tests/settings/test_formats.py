"""One configuration in three formats, and what a file can be that is none."""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from msgspec.structs import replace

from tidegate.domain.secret import Secret
from tidegate.settings import Code, Problem, Settings, SettingsError, load

Load = Callable[..., Settings]
Problems = Callable[..., tuple[Problem, ...]]

ENVIRON: Final = {"JWT_SECRET": "j" * 32, "OPENAI_API_KEY": "sk-upstream"}
DATA: Final[dict[str, Any]] = {
    "server": {"host": "127.0.0.1", "port": 8080},
    "store": {"url": "sqlite:///./tidegate.db"},
    "client": {"async_job_result_ttl": 3600},
    "auth": {
        "required": True,
        "jwt": {
            "issuers": [
                {
                    "iss": "https://id.example",
                    "aud": "tidegate",
                    "algorithms": ["HS256"],
                    "key": "env.JWT_SECRET",
                    "kinds": ["virtual_key", "admin"],
                }
            ]
        },
    },
    "governance": {"virtual_keys": [{"name": "a", "value": "sk-bf-…", "is_active": True}]},
    "providers": {
        "openai": {
            "keys": [{"name": "main", "value": "env.OPENAI_API_KEY", "models": ["*"], "weight": 1.0}],
            "network_config": {
                "base_url": "http://127.0.0.1:9000",
                "max_retries": 2,
                "retry_backoff_initial": 500,
                "retry_backoff_max": 5000,
                "default_request_timeout_in_seconds": 600,
            },
            "concurrency_and_buffer_size": {"concurrency": 1000, "buffer_size": 5000},
        }
    },
}
YAML: Final = """
server: {host: 127.0.0.1, port: 8080}
store:
  url: sqlite:///./tidegate.db
client:
  async_job_result_ttl: 1h
auth:
  required: true
  jwt:
    issuers:
      - iss: https://id.example
        aud: tidegate
        algorithms: [HS256]
        key: env.JWT_SECRET
        kinds: [virtual_key, admin]
governance:
  virtual_keys:
    - {name: a, value: sk-bf-…, is_active: true}
providers:
  openai:
    keys:
      - {name: main, value: env.OPENAI_API_KEY, models: ["*"], weight: 1.0}
    network_config: &network
      base_url: http://127.0.0.1:9000
      max_retries: 2
      retry_backoff_initial: 500ms
      retry_backoff_max: 5s
      default_request_timeout_in_seconds: 600
    concurrency_and_buffer_size:
      concurrency: 1000
      buffer_size: 5000
"""
TOML: Final = """
[server]
host = "127.0.0.1"
port = 8080
[store]
url = "sqlite:///./tidegate.db"
[client]
async_job_result_ttl = 3600
[auth]
required = true
[[auth.jwt.issuers]]
iss = "https://id.example"
aud = "tidegate"
algorithms = ["HS256"]
key = "env.JWT_SECRET"
kinds = ["virtual_key", "admin"]
[[governance.virtual_keys]]
name = "a"
value = "sk-bf-…"
is_active = true
[[providers.openai.keys]]
name = "main"
value = "env.OPENAI_API_KEY"
models = ["*"]
weight = 1.0
[providers.openai.network_config]
base_url = "http://127.0.0.1:9000"
max_retries = 2
retry_backoff_initial = 500
retry_backoff_max = 5000
default_request_timeout_in_seconds = 600
[providers.openai.concurrency_and_buffer_size]
concurrency = 1000
buffer_size = 5000
"""


def test_the_three_formats_load_equal(load_document: Load) -> None:
    from_json = load_document(DATA, ENVIRON)
    from_yaml = load_document(YAML, ENVIRON, name="tidegate.yaml")
    from_toml = load_document(TOML, ENVIRON, name="tidegate.toml")

    assert replace(from_yaml, origins={}) == replace(from_json, origins={})
    assert replace(from_toml, origins={}) == replace(from_json, origins={})


def test_every_value_of_the_example_arrives(load_document: Load, tmp_path: Path) -> None:
    settings = load_document(DATA, ENVIRON)

    assert (settings.server.host, settings.server.port) == ("127.0.0.1", 8080)
    assert settings.store.path == tmp_path / "tidegate.db"
    assert settings.server.data_dir == tmp_path
    assert settings.client.async_job_result_ttl == timedelta(hours=1)
    issuer = settings.auth.jwt.issuers[0]
    assert (issuer.iss, issuer.aud, issuer.algorithms) == ("https://id.example", "tidegate", ("HS256",))
    assert issuer.key == Secret("j" * 32)
    assert issuer.kinds == ("virtual_key", "admin")
    key = settings.governance.virtual_keys[0]
    assert (key.name, key.value, key.is_active, key.id) == ("a", Secret("sk-bf-…"), True, None)
    assert key.provider_configs is None
    openai = settings.providers["openai"]
    assert openai.keys[0].value == Secret("sk-upstream")
    assert (openai.vendor, openai.needs_key, openai.keys[0].id) == ("openai", True, None)
    assert openai.network_config.base_url == "http://127.0.0.1:9000"
    assert openai.network_config.retry_backoff_initial == timedelta(milliseconds=500)
    assert openai.network_config.retry_backoff_max == timedelta(seconds=5)
    assert openai.network_config.default_request_timeout == timedelta(minutes=10)
    assert openai.concurrency_and_buffer_size.concurrency == 1000
    assert settings.ignored == (
        "providers.<name>.concurrency_and_buffer_size.buffer_size: not enforced by this version",
    )
    assert settings.warnings == (
        "secrets stand in clear at governance.virtual_keys[0].value; write env.NAME or file:PATH instead",
    )


def test_an_empty_file_means_the_defaults(load_document: Load) -> None:
    settings = load_document("", name="tidegate.yaml")

    assert settings.server.port == 8080
    assert settings.providers == {}


def test_null_is_the_same_as_not_there(load_document: Load) -> None:
    settings = load_document("server:\nclient: {async_job_result_ttl: null}\n", name="tidegate.yaml")

    assert settings.server.host == "127.0.0.1"
    assert settings.client.async_job_result_ttl == timedelta(hours=1)


def test_yaml_anchors_and_merges_work(load_document: Load) -> None:
    text = """
providers:
  groq:
    keys: [{name: g, value: env.KEY}]
    network_config: &network {max_retries: 5, retry_backoff_max: 9s}
  openai:
    keys: [{name: o, value: env.KEY}]
    network_config: {<<: *network, max_retries: 1}
"""

    settings = load_document(text, {"KEY": "k"}, name="tidegate.yml")

    assert list(settings.providers) == ["groq", "openai"]
    assert settings.providers["openai"].network_config.max_retries == 1
    assert settings.providers["openai"].network_config.retry_backoff_max == timedelta(seconds=9)


def test_a_byte_order_mark_is_no_obstacle(load_document: Load) -> None:
    assert load_document("\ufeff" + json.dumps(DATA), ENVIRON).server.port == 8080


@pytest.mark.parametrize(
    ("name", "text", "place"),
    [
        ("t.yaml", "server:\n  host: a\n  port: x\n", "t.yaml:3:3"),
        ("t.json", '{"server": {\n\t"host": "a",\n\t"port": "x"}}', "t.json:3:2"),
        ("t.toml", "[server]\nhost = 'a'\nport = 'x'\n", "t.toml"),
    ],
)
def test_a_problem_names_its_place_as_far_as_the_format_tells(
    problems_of: Problems, name: str, text: str, place: str
) -> None:
    (problem,) = problems_of(text, name=name)

    assert (problem.place, problem.path) == (place, "server.port")


def test_json_that_is_not_quite_yaml_still_loads_and_reports_without_a_line(problems_of: Problems) -> None:
    long_name = "x" * 1100

    (problem,) = problems_of({long_name: 1})

    assert problem.code is Code.UNKNOWN_FIELD
    assert problem.place == "tidegate.json"


@pytest.mark.parametrize("name", ["t.yaml", "t.json"])
def test_a_member_given_twice_is_refused(problems_of: Problems, name: str) -> None:
    (problem,) = problems_of('{"server": {"port": 1,\n"port": 2}}', name=name)

    assert str(problem).startswith(f"{name}:2:1  server.port\n  Given a second time.\n  Keep one.")
    assert problem.code is Code.DUPLICATE


@pytest.mark.parametrize(
    ("name", "text", "place", "message"),
    [
        ("t.yaml", "a: [1\nb: 2", "t.yaml:2:2", "Not valid YAML: expected ',' or ']', but got ':'."),
        ("t.yaml", "a: *nobody", "t.yaml:1:4", "Not valid YAML: an unknown tag, alias or merge."),
        ("t.yaml", "a: !!python/name:os.system ''", "t.yaml:1:4", "Not valid here: tags are not read."),
        ("t.yaml", "a: !thing {}", "t.yaml:1:4", "Not valid here: tags are not read."),
        ("t.yaml", "? [a]\n: 1", "t.yaml:1:3", "Not valid here: a member's name must be text."),
        ("t.yaml", "a: &a [*a]", "t.yaml", "Nested too deeply, or too many values."),
        ("t.yaml", "a: \x01", "t.yaml", "Not valid YAML: a character or number that cannot be."),
        ("t.yaml", 'a: "\\UFFFFFFFF"', "t.yaml", "Not valid YAML: a character or number that cannot be."),
        ("t.yaml", "- a", "t.yaml", "The file must hold an object with members, found a list."),
        ("t.yaml", "[" * 1000, "t.yaml", "Nested too deeply."),
        (
            "t.json",
            "{'a': 1}",
            "t.json:1:2",
            "Not valid JSON: Expecting property name enclosed in double quotes.",
        ),
        ("t.json", '{"a": NaN}', "t.json", "Not valid JSON: a number that cannot be."),
        ("t.json", '{"a": ' + "9" * 5000 + "}", "t.json", "Not valid JSON: a number that cannot be."),
        ("t.json", "[" * 100_000, "t.json", "Nested too deeply."),
        ("t.json", "3", "t.json", "The file must hold an object with members, found 3."),
        ("t.toml", "a = @", "t.toml:1:5", "Not valid TOML: Invalid value."),
        ("t.toml", "a = ", "t.toml", "Not valid TOML: Invalid value."),
        ("t.toml", "a = " + "9" * 5000, "t.toml", "Not valid TOML: a number that cannot be."),
        ("t.ini", "", "t.ini", '"t.ini" is no known format.'),
    ],
)
def test_a_file_that_cannot_be_read_says_where_and_why(
    problems_of: Problems, name: str, text: str, place: str, message: str
) -> None:
    (problem,) = problems_of(text, name=name)

    assert (problem.code, problem.place, problem.message) == (Code.UNREADABLE, place, message)


def test_aliases_cannot_blow_up(problems_of: Problems) -> None:
    levels = "\n".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 12))

    (problem,) = problems_of(f"l0: &l0 [x]\n{levels}", name="t.yaml")

    assert problem.message == "Nested too deeply, or too many values."


def test_a_file_that_cannot_be_opened_or_has_no_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "endless.yaml").symlink_to("/dev/zero")
    (tmp_path / "folder.yaml").mkdir()

    for name, message in (
        ("binary", "Not UTF-8 text"),
        ("endless", "Larger than 4 MiB"),
        ("folder", "Cannot be read: Is a directory"),
        ("missing", "Cannot be read: No such file or directory"),
    ):
        with pytest.raises(SettingsError, match=message):
            load(tmp_path / f"{name}.yaml", {}, vendors={})


def test_scalars_of_yaml_that_cannot_be_are_text(problems_of: Problems) -> None:
    text = f"server: {{host: 2027-13-45, port: {'9' * 5000}}}"

    (problem,) = problems_of(text, name="t.yaml")

    assert problem.path == "server.port"
    assert problem.code is Code.WRONG_TYPE
