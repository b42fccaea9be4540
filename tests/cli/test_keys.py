"""``tidegate keys`` against a running gateway."""

import json

import pytest

from cli.conftest import KEY
from cli.runs import Cli, one_line


def created(tg: Cli, name: str, *arguments: str) -> str:
    """The value of a new key."""
    result = tg("keys", "create", "--name", name, *arguments)
    assert result.returncode == 0, result
    return one_line(result.stdout)


def test_create_prints_the_value_alone_once(tg: Cli) -> None:
    result = tg.process("keys", "create", "--name", "once")

    value = one_line(result.stdout)
    shown = tg.process("keys", "show", "once").stdout + tg.process("keys", "list").stdout
    assert value.startswith("sk-bf-")
    assert len(value) == 49
    assert "is not shown again" in one_line(result.stderr)
    assert value not in shown
    assert tg.process("jobs", "list", "--key", value).returncode == 0


def test_rights_and_limits_arrive(tg: Cli) -> None:
    result = tg(
        "keys", "create", "--name", "narrow", "--allow", "mock/echo", "--allow", "mock/slow", "--allow", "openai/*",
        "--expires", "30d", "--weight", "0.5", "--priority-ceiling", "2", "--result-ttl-max", "1h",
        "--description", "for tests", "--json",
    )  # fmt: skip

    key = json.loads(one_line(result.stdout))
    assert key["value"].startswith("sk-bf-")
    assert key["provider_configs"] == [
        {"provider": "mock", "allowed_models": ["echo", "slow"]},
        {"provider": "openai", "allowed_models": ["*"]},
    ]
    assert key["async"] == {"weight": 0.5, "priority_ceiling": 2, "result_ttl_max": 3600}
    assert (key["description"], key["expires_at"][:2]) == ("for tests", "20")


def test_list_is_one_line_per_key_and_json_lines_of_the_api(tg: Cli) -> None:
    created(tg, "list-a")
    created(tg, "list-b")

    lines = tg.process("keys", "list", "--search", "list-").stdout.splitlines()
    entries = [
        json.loads(line)
        for line in tg.process("keys", "list", "--search", "list-", "--json").stdout.splitlines()
    ]

    assert [line.split("\t")[1:3] for line in lines] == [["list-a", "active"], ["list-b", "active"]]
    assert [line.split("\t")[0] for line in lines] == [entry["id"] for entry in entries]


def test_revoke_refuses_the_key_with_403(tg: Cli) -> None:
    value = created(tg, "leaked")

    revoked = tg.process("keys", "revoke", "leaked")
    refused = tg.process("jobs", "list", "--key", value)

    assert one_line(revoked.stdout).startswith("revoked leaked (")
    assert refused.returncode == 6
    assert "not allowed: virtual key is inactive" in one_line(refused.stderr)
    assert json.loads(tg.process("keys", "show", "leaked", "--json").stdout)["is_active"] is False


def test_rotate_gives_a_new_value_and_the_old_one_is_refused(tg: Cli) -> None:
    old = created(tg, "turning")

    new = one_line(tg("keys", "rotate", "turning").stdout)

    assert (
        tg("jobs", "list", "--key", new).returncode,
        tg("jobs", "list", "--key", old).returncode,
    ) == (
        0,
        6,
    )


def test_delete_asks_on_a_terminal(tg: Cli) -> None:
    created(tg, "kept")

    code, shown = tg.on_terminal("keys", "delete", "kept", until="[y/N]", answer="n")

    assert code == 1
    assert "Delete the virtual key kept (" in shown
    assert "Nothing was changed." in shown
    assert tg("keys", "show", "kept").returncode == 0


def test_delete_removes_the_key_without_a_question_where_nobody_sits(tg: Cli) -> None:
    created(tg, "old-team")

    deleted = tg("keys", "delete", "old-team", "--cancel-jobs")
    again = tg("keys", "delete", "old-team", "--yes")

    assert one_line(deleted.stdout).startswith("deleted old-team (")
    assert again.returncode == 7


def test_an_id_works_like_a_name(tg: Cli) -> None:
    created(tg, "by-id")
    key = json.loads(tg("keys", "show", "by-id", "--json").stdout)

    assert json.loads(tg("keys", "show", key["id"], "--json").stdout) == key


def test_only_the_exact_name_counts(tg: Cli) -> None:
    created(tg, "exactly-this")

    result = tg("keys", "revoke", "exactly")

    assert result.returncode == 7
    assert 'no virtual key has the id or the name "exactly"' in one_line(result.stderr)


def test_a_name_that_is_taken_is_one_line(tg: Cli) -> None:
    created(tg, "twice")

    result = tg("keys", "create", "--name", "twice")

    assert (result.returncode, result.stdout) == (1, "")
    assert one_line(result.stderr).endswith("[already_exists]")


def test_a_key_of_the_configuration_is_changed_there(tg: Cli) -> None:
    result = tg("keys", "revoke", "configured")

    assert result.returncode == 1
    assert one_line(result.stderr).endswith("[managed_by_config]")


def test_a_virtual_key_may_not_manage_keys(tg: Cli) -> None:
    result = tg("keys", "list", "--key", KEY)

    assert result.returncode == 6
    assert "this needs an admin token [admin_required]; without --key" in one_line(result.stderr)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--allow", "openai"), '"openai" is not provider/model; write openai/* for every model'),
        (("--expires", "someday"), '"someday" is neither a time'),
        (("--priority-ceiling", "6"), "Must be <= 5"),
    ],
)
def test_a_wrong_right_is_exit_code_2(tg: Cli, arguments: tuple[str, str], complaint: str) -> None:
    result = tg("keys", "create", "--name", "wrong", *arguments)

    assert result.returncode == 2
    assert complaint in result.stderr
    assert "tidegate keys create --help" in result.stderr
