"""Whatever stands in a file, a variable or a flag: settings or one report, never a crash."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tidegate.providers.vendors import Vendor
from tidegate.settings import SettingsError, load, reference, show
from tidegate.settings.bifrost import IGNORED
from tidegate.settings.unsupported import UNSUPPORTED

NAMES: Final = sorted(
    {
        step.replace("[]", "").replace("<name>", "openai")
        for name in (*(row.name for row in reference()), *IGNORED, *UNSUPPORTED)
        for step in name.split(".")
    }
    | {"mock", "groq", "acme", "$schema", "retry_backoff_max_ms", "value", "ref", "type"}
)
ODD_TEXTS: Final = (
    *(
        "",
        "*",
        "x",
        "\0",
        "\ud800",
        "env.A",
        "env.B",
        "env.",
        "file:",
        "file:.",
        "vault.x",
        "HS256",
        "openai",
    ),
    *(
        "25s",
        "9" * 30 + "d",
        "20MiB",
        "2027-01-31T00:00:00Z",
        "sqlite:///x",
        "sqlite:////",
        "sqlite:///\ud800",
    ),
    *("http://h/v1", "https://[", "http://h:x", "-----BEGIN", "{"),
)
ODD_VALUES: Final[tuple[Any, ...]] = (None, True, -1, 10**40, "x", "\ud800", [None], {"x": 1})
SCALARS: Final = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(ODD_TEXTS)
)
VALUES: Final = st.recursive(
    SCALARS,
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.sampled_from(NAMES), children, max_size=5)
    ),
    max_leaves=25,
)
ENVIRON: Final = {"A": "a" * 40, "B": ""}
QUICK: Final = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def settings_or_report(
    path: Path, environ: Mapping[str, str], vendors: Mapping[str, Vendor], **more: Any
) -> None:
    try:
        loaded = load(path, environ, vendors=vendors, **more)
    except SettingsError as refused:
        check_report(refused)
    else:
        json.dumps(show(loaded, loaded.origins))


def check_report(refused: SettingsError) -> None:
    assert refused.problems
    for problem in refused.problems:
        assert problem.message
        assert problem.allowed
        assert problem.place
        assert all(line.isprintable() for line in str(problem).split("\n"))


@pytest.mark.parametrize("suffix", ["yaml", "toml", "json"])
def test_junk_text(vendors: Mapping[str, Vendor], tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t.{suffix}"

    @QUICK
    @given(st.text() | st.text(alphabet="{}[]:,-&*!|>'\"%@`#?<=\n\t 0a.~\\"))
    @example("!!int ''")
    @example("a: !!timestamp x")
    @example("a: =")
    @example("a: <<")
    @example("<<: 1")
    @example("%YAML 1." + "9" * 5000)
    @example("a: 0x" + "f" * 8000)
    @example("a: 1:" + "9" * 400)
    @example("a: !!set {b}")
    def check(text: str) -> None:
        path.write_text(text, errors="replace")
        settings_or_report(path, ENVIRON, vendors)

    check()


def test_junk_documents(vendors: Mapping[str, Vendor], tmp_path: Path) -> None:
    path = tmp_path / "t.json"

    @QUICK
    @given(st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=6))
    def check(document: dict[str, Any]) -> None:
        path.write_text(json.dumps(document))
        settings_or_report(path, ENVIRON, vendors)

    check()


WHOLE: Final = {
    "auth": {"jwt": {"issuers": [{"iss": "i", "aud": "a", "algorithms": ["HS256"], "key": "env.A"}]}},
    "governance": {
        "virtual_keys": [{"name": "a", "value": "env.A", "provider_configs": [{"provider": "openai"}]}]
    },
    "providers": {
        "openai": {
            "keys": [{"name": "a", "value": "env.A"}],
            "custom_provider_config": {"base_provider_type": "openai"},
        }
    },
}


@pytest.mark.parametrize("name", [row.name for row in reference()])
def test_one_odd_value_anywhere(vendors: Mapping[str, Vendor], tmp_path: Path, name: str) -> None:
    """A value of every kind at every setting there is."""
    path = tmp_path / "t.json"
    steps = name.replace("[]", ".0").replace("<name>", "openai").split(".")

    for value in ODD_VALUES:
        path.write_text(json.dumps(_with(WHOLE, steps, value)))
        settings_or_report(path, ENVIRON, vendors)


def _with(document: Any, steps: list[str], value: object) -> Any:
    """A copy of the document with another value at the end of the steps."""
    if not steps:
        return value
    first, rest = steps[0], steps[1:]
    if isinstance(document, list):
        return [_with(document[0], rest, value), *document[1:]]
    return {**document, first: _with(document.get(first, {}), rest, value)}


def test_junk_in_variables_and_flags(vendors: Mapping[str, Vendor], tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text('{"providers": {"openai": {"keys": [{"name": "a", "value": "env.A"}]}}, "server": []}')
    steps = st.lists(st.sampled_from(NAMES) | st.text(max_size=3), max_size=5)

    @QUICK
    @given(st.lists(st.tuples(steps, VALUES), max_size=4), st.lists(st.tuples(steps, SCALARS), max_size=3))
    def check(variables: list[tuple[list[str], Any]], flags: list[tuple[list[str], Any]]) -> None:
        environ = {
            "TIDEGATE__" + "__".join(names).upper(): value if isinstance(value, str) else json.dumps(value)
            for names, value in variables
        }
        overrides = {".".join(names): value for names, value in flags}
        settings_or_report(path, ENVIRON | environ, vendors, overrides=overrides)

    check()
