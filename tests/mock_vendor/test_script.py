"""Scripts: where they are read from, and what is said about a mistake in them."""

from pathlib import Path
from typing import Any

import pytest

from tidegate.mock_vendor import Bomb, Latency, Rule, Script, ScriptError, load_script
from tidegate.mock_vendor.script import read_script

AS_YAML = """
rules:
  - model: gpt-*
    first: 2
    latency: {min: 0.1, max: 0.2}
    error: {error: {message: busy}}
    bomb: {size: 1000}
default:
  status: 418
"""
AS_TOML = """
[[rules]]
model = "gpt-*"
first = 2
latency = {min = 0.1, max = 0.2}
error = {error = {message = "busy"}}
bomb = {size = 1000}
[default]
status = 418
"""
AS_JSON = """
{"rules": [{"model": "gpt-*", "first": 2, "latency": {"min": 0.1, "max": 0.2},
            "error": {"error": {"message": "busy"}}, "bomb": {"size": 1000}}],
 "default": {"status": 418}}
"""
MEANT = Script(
    rules=(
        Rule(
            model="gpt-*",
            first=2,
            latency=Latency(min=0.1, max=0.2),
            error={"error": {"message": "busy"}},
            bomb=Bomb(size=1000),
        ),
    ),
    default=Rule(status=418),
)


@pytest.mark.parametrize(
    ("name", "text"), [("s.yaml", AS_YAML), ("s.yml", AS_YAML), ("s.toml", AS_TOML), ("s.json", AS_JSON)]
)
def test_a_script_reads_the_same_in_every_format(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)

    assert load_script(path) == MEANT


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ({"rulez": []}, "$.rulez is not known; did you mean rules?"),
        ({"rules": [{}, {"modle": "x"}]}, "$.rules[1].modle is not known; did you mean model?"),
        ({"default": {"latency": {"maen": 1}}}, "$.default.latency.maen is not known; did you mean mean?"),
        ({"default": {"zzz": 1}}, "$.default.zzz is not known; known are model, api_key, first"),
        ({"default": {"status": 99}}, "Expected `int` >= 200 - at `$.default.status`"),
        ({"default": {"hang": "always"}}, "Invalid enum value 'always' - at `$.default.hang`"),
        ({"default": {"fail_rate": 1.5}}, "Expected `float` <= 1.0 - at `$.default.fail_rate`"),
        ({"rules": {}}, "Expected `array`, got `object` - at `$.rules`"),
        ([], "Expected `object`, got `array`"),
        (
            {"default": {"latency": {"min": 1}}},
            "either min and max, or mean and sigma - at `$.default.latency`",
        ),
        ({"default": {"latency": {"min": 2, "max": 1}}}, "min is above max"),
        ({"default": {"headers": {"a b": "c"}}}, "'a b' is not a header name"),
        ({"default": {"headers": {"a": "c\r\nd"}}}, "characters that HTTP forbids"),
        ({"default": {"retry_after": "\n"}}, "characters that HTTP forbids"),
        ({"default": {"headers": {"Content-Length": "7"}}}, "set by the server"),
        ({"default": {"endless": True, "body": ""}}, "endless needs a body"),
        ({"default": {"endless": True, "size": 5}}, "endless goes with none of"),
    ],
)
def test_a_mistake_is_named_with_its_place(script: Any, message: str) -> None:
    with pytest.raises(ScriptError) as error:
        read_script(script, place="mock.yaml")

    assert str(error.value).startswith("mock.yaml: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [("s.yaml", "rules: [\n"), ("s.toml", "rules = \n"), ("s.json", "{"), ("s.json", "\x00")],
)
def test_a_file_in_the_wrong_format_is_named(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)

    with pytest.raises(ScriptError) as error:
        load_script(path)

    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "s.yaml"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ScriptError, match="cannot be read"):
        load_script(path)


def test_flags_change_the_default_and_echo_and_leave_rules_alone() -> None:
    script = Script(rules=(Rule(model="gpt-4o", latency=1.0),), default=Rule(status=418))

    changed = script.with_flags(latency=0.5, fail_rate=0.25)

    assert changed.rules == (script.rules[0], Rule(model="echo", status=418, latency=0.5, fail_rate=0.25))
    assert changed.default == Rule(status=418, latency=0.5, fail_rate=0.25)
    assert script.with_flags(latency=None, fail_rate=None) is script


def test_flags_out_of_range_are_refused() -> None:
    with pytest.raises(ScriptError, match=r"flags: .*fail_rate"):
        Script().with_flags(latency=None, fail_rate=2.0)
