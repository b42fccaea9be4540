"""The unit file: who it runs as, what it may, and how long it waits."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

from deploy.files import DEPLOY
from deploy.settings_named import is_no_setting
from tidegate.cli import command_line
from tidegate.cli.exits import Exit
from tidegate.settings import ServerSettings


def read_unit() -> Mapping[str, Sequence[str]]:
    """The section that matters here. A member may stand there more than once."""
    text = (DEPLOY / "tidegate.service").read_text("utf-8")
    members: defaultdict[str, list[str]] = defaultdict(list)
    for line in text.partition("[Service]")[2].partition("\n[")[0].splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.partition("=")
            members[name].append(value)
    return members


UNIT: Final = read_unit()


def test_it_waits_longer_than_a_drain() -> None:
    drain = ServerSettings().drain_timeout.total_seconds()

    assert UNIT["Type"] == ["simple"]
    assert int(UNIT["TimeoutStopSec"][0]) >= drain + 10


def test_one_process_hears_the_signal_and_hears_it_once() -> None:
    assert UNIT["KillMode"] == ["mixed"]


def test_it_starts_again_unless_that_mends_nothing() -> None:
    assert UNIT["Restart"] == ["on-failure"]
    assert [int(code) for code in UNIT["RestartPreventExitStatus"][0].split()] == [
        Exit.USAGE,
        Exit.CONFIGURATION,
    ]


def test_it_starts_a_command_that_exists_with_settings_that_exist() -> None:
    (start,) = UNIT["ExecStart"]
    program, command, *_ = start.split()

    assert program.endswith("/bin/tidegate")
    assert command in set(command_line())
    assert not [text for text in UNIT["Environment"] if is_no_setting(text.partition("=")[0])]


def test_its_data_lies_where_it_may_write() -> None:
    (data,) = [text.partition("=")[2] for text in UNIT["Environment"]]

    assert data == f"/var/lib/{UNIT['StateDirectory'][0]}"
    assert UNIT["ProtectSystem"] == ["strict"]


def test_it_is_not_root_and_cannot_become_it() -> None:
    assert UNIT["User"] == ["tidegate"]
    assert UNIT["NoNewPrivileges"] == ["yes"]
    assert UNIT["CapabilityBoundingSet"] == [""]
    assert UNIT["SystemCallFilter"] == ["@system-service", "~@privileged"]


def test_it_may_ask_for_more_descriptors() -> None:
    """``serve`` raises its limit, and a filter without @resources would end it there."""
    assert not [text for text in UNIT["SystemCallFilter"] if "@resources" in text]
    assert int(UNIT["LimitNOFILE"][0]) >= 65536
