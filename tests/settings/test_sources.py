"""Flag over environment over file over default, and where each value came from."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from tidegate.domain.secret import Secret
from tidegate.providers.vendors import Vendor
from tidegate.settings import Code, Problem, Settings, SettingsError, load

Load = Callable[..., Settings]
Problems = Callable[..., tuple[Problem, ...]]

FILE: Final = {
    "server": {"port": 1111, "host": "10.0.0.1"},
    "providers": {
        "my-vendor": {
            "keys": [{"name": "a", "value": "env.KEY"}],
            "network_config": {"retry_backoff_initial_ms": 100},
            "custom_provider_config": {"base_provider_type": "openai"},
        }
    },
}


def test_a_flag_beats_the_environment_and_the_environment_the_file(load_document: Load) -> None:
    environ = {"KEY": "k", "TIDEGATE__SERVER__PORT": "2222", "TIDEGATE__SERVER__HOST": "10.0.0.2"}

    settings = load_document(FILE, environ, overrides={"server.port": 3333})

    assert (settings.server.port, settings.server.host) == (3333, "10.0.0.2")
    assert settings.origins["server.port"] == "flag"
    assert settings.origins["server.host"] == "environment TIDEGATE__SERVER__HOST"
    assert settings.origins["server.drain_timeout"] == "default"
    assert settings.origins["providers.my-vendor.keys[0].name"].startswith("file tidegate.json:1:")
    assert settings.origins["providers.my-vendor.keys[0].value"].endswith(", env.KEY")


def test_a_flag_that_was_not_given_changes_nothing(load_document: Load) -> None:
    assert load_document(FILE, {"KEY": "k"}, overrides={"server.port": None}).server.port == 1111


def test_flags_may_be_typed_already(load_document: Load, tmp_path: Path) -> None:
    overrides = {
        "server.data_dir": tmp_path / "data",
        "server.allowed_hosts": ("a", "b"),
        "auth.required": False,
    }

    settings = load_document({}, overrides=overrides)

    assert settings.server.data_dir == tmp_path / "data"
    assert settings.server.allowed_hosts == ("a", "b")
    assert not settings.auth.required


@pytest.mark.parametrize(
    ("variable", "text", "read"),
    [
        ("SERVER__PORT", "9", lambda s: s.server.port == 9),
        ("SERVER__DRAIN_TIMEOUT", "10m", lambda s: s.server.drain_timeout == timedelta(minutes=10)),
        ("SERVER__DRAIN_TIMEOUT", "1.5", lambda s: s.server.drain_timeout == timedelta(seconds=1.5)),
        ("STORE__COMMIT_WAIT", "2", lambda s: s.store.commit_wait == timedelta(milliseconds=2)),
        ("STORE__MIN_FREE_BYTES", "20MiB", lambda s: s.store.min_free_bytes == 20 << 20),
        ("STORE__MIN_FREE_BYTES", "5", lambda s: s.store.min_free_bytes == 5),
        ("CLIENT__MAX_REQUEST_BODY_SIZE_MB", "5", lambda s: s.client.max_request_body_size == 5 << 20),
        ("AUTH__REQUIRED", "False", lambda s: s.auth.required is False),
        ("SERVER__ALLOWED_HOSTS", '["a"]', lambda s: s.server.allowed_hosts == ("a",)),
        ("METRICS__TOKEN", "12345", lambda s: s.metrics.token == Secret("12345")),
        ("METRICS__TOKEN", "env.KEY", lambda s: s.metrics.token == Secret("k")),
        ("ASYNC", '{"worker_loss_budget": 7}', lambda s: s.async_.worker_loss_budget == 7),
        (
            "PROVIDERS__MY_VENDOR__NETWORK_CONFIG__BASE_URL",
            "http://h",
            lambda s: s.providers["my-vendor"].network_config.base_url == "http://h",
        ),
        (
            "PROVIDERS__MY_VENDOR__NETWORK_CONFIG__RETRY_BACKOFF_INITIAL",
            "700",
            lambda s: s.providers["my-vendor"].network_config.retry_backoff_initial == timedelta(seconds=0.7),
        ),
        (
            "PROVIDERS__GROQ__KEYS",
            '[{"name": "g", "value": "env.KEY"}]',
            lambda s: s.providers["groq"].keys[0].value == Secret("k"),
        ),
        ("PROVIDERS__MOCK", "{}", lambda s: s.providers["mock"].vendor == "mock"),
    ],
)
def test_a_variable_sets_what_its_name_says(
    load_document: Load, variable: str, text: str, read: Callable[[Settings], bool]
) -> None:
    settings = load_document(FILE, {"KEY": "k", f"TIDEGATE__{variable}": text})

    assert read(settings)
    assert settings.warnings == ()


@pytest.mark.parametrize(
    ("variable", "text", "path", "code"),
    [
        ("SERVER__PROT", "9", "server.prot", Code.UNKNOWN_FIELD),
        ("SERVR__PORT", "9", "servr", Code.UNKNOWN_FIELD),
        ("", "9", '[""]', Code.UNKNOWN_FIELD),
        ("SERVER__PORT__X", "9", "server.port", Code.WRONG_TYPE),
        ("SERVER__PORT", "", "server.port", Code.WRONG_TYPE),
        ("AUTH__REQUIRED", "yes", "auth.required", Code.WRONG_TYPE),
        ("SERVER__ALLOWED_HOSTS", "a,b", "server.allowed_hosts", Code.WRONG_TYPE),
        ("METRICS__TOKEN", "", "metrics.token", Code.MISSING_FIELD),
        ("PROVIDERS__MY_VENDOR__KEYS__0__NAME", "x", "providers.my-vendor.keys", Code.UNKNOWN_FIELD),
        ("OTEL__CAPTURE_CONTENT", "true", "otel", Code.UNSUPPORTED),
    ],
)
def test_a_wrong_variable_is_named(
    problems_of: Problems, variable: str, text: str, path: str, code: Code
) -> None:
    document = {name: value for name, value in FILE.items() if name != "server"}

    (problem,) = problems_of(document, {"KEY": "k", f"TIDEGATE__{variable}": text})

    assert (problem.path, problem.code) == (path, code)
    assert problem.place == f"environment TIDEGATE__{variable}"


def test_a_wrong_flag_is_named(problems_of: Problems) -> None:
    (problem,) = problems_of({}, overrides={"server.port": "no"})

    assert str(problem).startswith('command line  server.port\n  Wrong type: found "no".')


def test_a_section_that_is_no_object_is_reported_once(problems_of: Problems) -> None:
    (problem,) = problems_of({"server": 5}, {"TIDEGATE__SERVER__PORT": "9"})

    assert (problem.path, problem.place) == ("server", "tidegate.json:1:2")


def test_the_variable_names_the_file_unless_a_flag_does(
    vendors: Mapping[str, Vendor], tmp_path: Path
) -> None:
    (tmp_path / "a.yaml").write_text("server: {port: 1}")
    (tmp_path / "b.toml").write_text("server = {port = 2}")
    environ = {"TIDEGATE_CONFIG": str(tmp_path / "a.yaml")}

    assert load(None, environ, vendors=vendors).server.port == 1
    assert load(tmp_path / "b.toml", environ, vendors=vendors).server.port == 2
    with pytest.raises(SettingsError, match="Cannot be read"):
        load(None, {"TIDEGATE_CONFIG": str(tmp_path / "c.yaml")}, vendors=vendors)


class TestWithoutAFile:
    @pytest.fixture(autouse=True)
    def _in_an_empty_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)

    def load(self, vendors: Mapping[str, Vendor], environ: Mapping[str, str], **more: Any) -> Settings:
        return load(None, environ, vendors=vendors, **more)

    def test_the_mock_answers_and_the_data_lies_in_its_own_folder(
        self, vendors: Mapping[str, Vendor], tmp_path: Path
    ) -> None:
        settings = self.load(vendors, {"TIDEGATE_CONFIG": ""})

        assert list(settings.providers) == ["mock"]
        (key,) = settings.providers["mock"].keys
        assert (key.name, key.value, key.models) == ("default", None, ("echo", "slow"))
        assert settings.server.data_dir == tmp_path / "tidegate-data"
        assert settings.store.path == tmp_path / "tidegate-data" / "tidegate.db"
        assert settings.store.url == f"sqlite:///{settings.store.path}"
        assert not settings.store.path.parent.exists()

    def test_a_vendor_whose_usual_variable_is_set_is_configured(self, vendors: Mapping[str, Vendor]) -> None:
        environ = {"GROQ_API_KEY": "g", "OPENAI_API_KEY": "o", "DEEPSEEK_API_KEY": " "}

        settings = self.load(vendors, environ)

        assert list(settings.providers) == ["openai", "groq", "mock"]
        (key,) = settings.providers["groq"].keys
        assert (key.name, key.value) == ("GROQ_API_KEY", Secret("g"))
        assert settings.origins["providers.groq.keys[0].value"] == "environment GROQ_API_KEY"
        assert settings.warnings == ()

    def test_overrides_reach_such_a_vendor(self, vendors: Mapping[str, Vendor]) -> None:
        environ = {
            "OPENAI_API_KEY": "o",
            "TIDEGATE__PROVIDERS__OPENAI__NETWORK_CONFIG__BASE_URL": "http://127.0.0.1:9",
        }

        settings = self.load(vendors, environ)

        assert settings.providers["openai"].network_config.base_url == "http://127.0.0.1:9"
        assert settings.providers["openai"].keys[0].value == Secret("o")

    def test_the_caller_may_add_providers(self, vendors: Mapping[str, Vendor]) -> None:
        settings = self.load(vendors, {}, extra_providers=("local", "mock"))

        assert list(settings.providers) == ["mock", "local"]
        assert settings.providers["local"].keys[0].models == ("small",)

    def test_the_data_folder_can_be_chosen(self, vendors: Mapping[str, Vendor], tmp_path: Path) -> None:
        settings = self.load(vendors, {}, overrides={"server.data_dir": Path("data")})

        assert settings.store.path == tmp_path / "data" / "tidegate.db"


def test_with_a_file_only_what_it_defines_exists(load_document: Load) -> None:
    assert load_document({}, {"OPENAI_API_KEY": "o"}).providers == {}


def test_the_caller_may_add_providers_to_those_of_a_file(load_document: Load) -> None:
    settings = load_document(FILE, {"KEY": "k"}, extra_providers=("local", "my-vendor"))

    assert list(settings.providers) == ["my-vendor", "local"]
    assert list(load_document({"providers": None}, extra_providers=("local",)).providers) == ["local"]


@pytest.mark.parametrize(
    ("document", "data_dir", "path"),
    [
        ({}, "tidegate-data", "tidegate-data/tidegate.db"),
        ({"server": {"data_dir": "d"}}, "d", "d/tidegate.db"),
        ({"store": {"url": "sqlite:///x/y.db"}}, "x", "x/y.db"),
        ({"store": {"url": "sqlite:///./y.db"}}, ".", "y.db"),
        ({"store": {"url": "sqlite:////tmp/z/y.db"}}, "/tmp/z", "/tmp/z/y.db"),
        ({"server": {"data_dir": "d"}, "store": {"url": "sqlite:///x/y.db"}}, "d", "x/y.db"),
    ],
)
def test_data_folder_and_store_follow_each_other(
    load_document: Load, tmp_path: Path, document: Any, data_dir: str, path: str
) -> None:
    settings = load_document(document)

    assert settings.server.data_dir == (tmp_path / data_dir).resolve()
    assert settings.store.path == (tmp_path / path).resolve()


def test_a_default_gives_way_to_a_limit_that_is_set(load_document: Load) -> None:
    settings = load_document({"client": {"async_job_result_ttl_max": 60}})

    assert settings.client.async_job_result_ttl == timedelta(minutes=1)
