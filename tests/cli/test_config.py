"""``tidegate config``: check, show, schema."""

import json
from pathlib import Path

import pytest

from cli.runs import Cli, one_line, write_json

YAML = """
server:
  port: 9000
  data_dir: data
providers:
  mock: {}
  openai:
    keys:
      - name: main
        value: env.MY_KEY
"""


@pytest.fixture
def file(cli: Cli) -> Path:
    found = cli.directory / "tidegate.yaml"
    found.write_text(YAML)
    return found


def test_a_valid_file_is_said_to_be_valid(cli: Cli, file: Path) -> None:
    told = cli.with_variables(MY_KEY="sk-secret-of-ours")

    plain = told.process("config", "check", "--config", str(file))
    document = json.loads(told("config", "check", "--config", str(file), "--json").stdout)

    assert (plain.returncode, plain.stdout) == (0, f"{file} is valid.\n")
    assert document == {"valid": True, "problems": [], "warnings": [], "ignored": []}


def test_the_file_may_be_named_by_the_environment(cli: Cli, file: Path) -> None:
    result = cli.with_variables(MY_KEY="sk-secret-of-ours", TIDEGATE_CONFIG=str(file))("config", "check")

    assert result.stdout == f"{file} is valid.\n"


def test_all_problems_are_reported_with_their_place_and_exit_code_3(cli: Cli, file: Path) -> None:
    file.write_text(YAML + "serfer: {}\n")

    plain = cli("config", "check", "--config", str(file))
    document = json.loads(cli("config", "check", "--config", str(file), "--json").stdout)

    assert plain.returncode == 3
    assert f"{file}:10:9  providers.openai.keys[0].value" in plain.stdout
    assert "[config_env_missing]" in plain.stdout
    assert "Did you mean server?" in plain.stdout
    assert plain.stderr == f"\n{file} has 2 problems.\n"
    assert (document["valid"], [one["code"] for one in document["problems"]]) == (
        False,
        ["config_env_missing", "config_unknown_field"],
    )


def test_warnings_do_not_make_a_file_invalid(cli: Cli) -> None:
    config = {"providers": {"openai": {"keys": [{"name": "main", "value": "sk-in-clear"}]}}}
    file = write_json(cli.directory / "c.json", config)

    result = cli("config", "check", "--config", str(file))

    assert result.returncode == 0
    assert "Warning: secrets stand in clear at providers.openai.keys[0].value" in result.stderr
    assert "sk-in-clear" not in result.stdout + result.stderr


def test_show_tells_value_and_origin_of_every_setting_and_masks_secrets(cli: Cli, file: Path) -> None:
    told = cli.with_variables(MY_KEY="sk-secret-of-ours-1234", TIDEGATE__SERVER__HOST="::1")

    result = told("config", "show", "--config", str(file))

    rows = {line.split("\t")[0]: line.split("\t")[1:] for line in result.stdout.splitlines()}
    assert rows["server.port"] == ["9000", f"file {file}:3:3"]
    assert rows["server.host"] == ["::1", "environment TIDEGATE__SERVER__HOST"]
    assert rows["server.drain_timeout"] == ["25", "default"]
    assert "secret" not in rows["providers.openai.keys[0].value"][0]
    assert len(rows) > 50


@pytest.mark.parametrize(
    ("field", "shown"),
    [("server.port", "9000\n"), ("providers.mock.keys[0].name", "default\n"), ("auth.required", "true\n")],
)
def test_show_one_field_is_its_value_alone(cli: Cli, file: Path, field: str, shown: str) -> None:
    result = cli.with_variables(MY_KEY="x" * 20)("config", "show", "--config", str(file), "--field", field)

    assert result.stdout == shown


def test_show_a_section_as_json_is_nested_like_the_file(cli: Cli, file: Path) -> None:
    told = cli.with_variables(MY_KEY="x" * 20)

    server = json.loads(told("config", "show", "--config", str(file), "--field", "server", "--json").stdout)
    key = json.loads(
        told("config", "show", "--config", str(file), "--field", "providers.openai.keys[0]", "--json").stdout
    )
    whole = json.loads(told("config", "show", "--config", str(file), "--json").stdout)

    assert server["port"] == {"value": 9000, "origin": f"file {file}:3:3"}
    assert key["name"]["value"] == "main"
    assert whole["server"] == server


@pytest.mark.parametrize(
    "arguments", [("server.prot",), ("server.prot", "--json"), ("server.port.value", "--json")]
)
def test_show_a_field_that_does_not_exist_is_exit_code_7(cli: Cli, arguments: tuple[str, ...]) -> None:
    result = cli("config", "show", "--field", *arguments)

    assert result.returncode == 7
    assert "there is no setting" in one_line(result.stderr)


def test_show_of_a_broken_file_is_exit_code_3(cli: Cli) -> None:
    result = cli("config", "show", "--config", "nowhere.yaml")

    assert (result.returncode, result.stdout) == (3, "")
    assert "[config_unreadable]" in result.stderr


@pytest.mark.parametrize(
    ("flags", "variables", "has_colors"),
    [
        ((), {}, True),
        ((), {"NO_COLOR": "1"}, False),
        (("--color", "never"), {}, False),
        (("--color", "always"), {"NO_COLOR": "1"}, True),
    ],
)
def test_colors_obey_the_flag_then_the_environment(
    cli: Cli, flags: tuple[str, ...], variables: dict[str, str], *, has_colors: bool
) -> None:
    told = cli.with_variables(**variables)

    _, shown = told.on_terminal("config", "show", "--field", "server", *flags)

    assert "server.port" in shown
    assert ("\x1b[" in shown) == has_colors


def test_schema_is_a_json_schema(cli: Cli) -> None:
    schema = json.loads(cli("config", "schema").stdout)

    assert schema["title"] == "Tidegate configuration"
    assert "port" in schema["properties"]["server"]["properties"]
