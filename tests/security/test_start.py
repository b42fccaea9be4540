"""What a start refuses: secrets that are none, doors that stand open, half a key (security.md T13, T14)."""

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

from cli.runs import Cli, one_line, serving, write_json
from tidegate import serving as process
from tidegate.api import local_issuer
from tidegate.providers import VENDORS
from tidegate.settings import Settings, SettingsError, load
from tidegate.settings.kinds import Hidden
from tidegate.settings.table import Items, Leaf, Node, Section, root

ENVIRON: Final = {"EMPTY": "", "BLANK": " \t"}
# Every secret of the configuration, in a document that is otherwise in order.
SECRETS: Final[dict[str, Callable[[Any], dict[str, Any]]]] = {
    "auth.jwt.issuers[].key": lambda secret: {
        "auth": {"jwt": {"issuers": [{"iss": "i", "aud": "a", "algorithms": ["HS256"], "key": secret}]}}
    },
    "auth.local_issuer_key": lambda secret: {"auth": {"local_issuer_key": secret}},
    "governance.virtual_keys[].value": lambda secret: {
        "governance": {"virtual_keys": [{"name": "a", "value": secret}]}
    },
    "metrics.token": lambda secret: {"metrics": {"token": secret}},
    "providers.*.keys[].value": lambda secret: {
        "providers": {"openai": {"keys": [{"name": "a", "value": secret}]}}
    },
    "providers.*.network_config.proxy_url": lambda secret: {
        "providers": {"mock": {"network_config": {"proxy_url": secret}}}
    },
}
NOTHING: Final = (
    "env.NOT_SET", "os.environ/NOT_SET", "env.EMPTY", "env.BLANK", "file:missing", "file:empty", "", "  ",
)  # fmt: skip


def hidden(node: Node, path: str) -> Iterator[str]:
    """Paths of the settings that are secrets."""
    match node:
        case Leaf(kind=Hidden()):
            yield path
        case Leaf():
            return
        case Items(item=item):
            yield from hidden(item, f"{path}[]")
        case Section(members=members):
            for member in members:
                yield from hidden(member.node, f"{path}.{member.name}" if path else member.name)
        case _:
            yield from hidden(node.value, f"{path}.*")


def loaded(directory: Path, document: dict[str, Any]) -> Settings:
    (directory / "empty").write_text("\n")
    return load(write_json(directory / "tidegate.json", document), ENVIRON, vendors=VENDORS)


def test_the_table_has_every_secret_of_the_configuration() -> None:
    assert set(hidden(root(), "")) == set(SECRETS)


@pytest.mark.parametrize("nothing", NOTHING)
@pytest.mark.parametrize("path", SECRETS)
def test_no_secret_may_be_empty_or_unset(tmp_path: Path, path: str, nothing: str) -> None:
    document = SECRETS[path](nothing)

    with pytest.raises(SettingsError) as refused:
        loaded(tmp_path, document)

    (problem,) = refused.value.problems
    assert problem.path == path.replace("[]", "[0]").replace("*", next(iter(document.get("providers", [""]))))
    named = nothing.replace("os.environ/", "env.")
    assert named.strip() in problem.message.replace('"', "")


def test_a_start_names_the_variable_and_the_field(tmp_path: Path, serves_nobody: None) -> None:
    cli = Cli(tmp_path, tmp_path / "bytecode")
    write_json(tmp_path / "tidegate.json", SECRETS["metrics.token"]("env.SCRAPER_TOKEN"))

    result = cli("serve", "--config", "tidegate.json")

    assert result.returncode == 3
    assert "metrics.token" in result.stderr
    assert "env.SCRAPER_TOKEN is not set" in result.stderr
    assert not (tmp_path / "tidegate-data").exists()


# Who may reach it


HERE: Final = ("127.0.0.1", "127.0.0.2", "::1", "localhost")
# The last ones lead here, and do not look like it: the door is closed in doubt.
ANYWHERE: Final = ("0.0.0.0", "::", "192.0.2.1", "2001:db8::1", "10.0.0.1", "gateway.example", "127.1", "0", "::ffff:127.0.0.1")  # noqa: S104  # fmt: skip


@pytest.fixture
def at_the_door(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(host: str, port: int) -> None:
        raise process.CannotListen(f"got as far as {host}")

    monkeypatch.setattr(process, "bind", stop)


@pytest.mark.parametrize("says_so", [True, False], ids=["with the flag", "without the flag"])
@pytest.mark.parametrize("required", [True, False], ids=["auth", "no auth"])
@pytest.mark.parametrize("host", [*HERE, *ANYWHERE])
def test_an_open_door_needs_a_word(
    tmp_path: Path, at_the_door: None, host: str, *, required: bool, says_so: bool
) -> None:
    cli = Cli(tmp_path, tmp_path / "bytecode")
    write_json(tmp_path / "tidegate.json", {"auth": {"required": required}, "providers": {"mock": {}}})
    flag = ["--allow-anonymous-public"] if says_so else []

    result = cli("serve", "--config", "tidegate.json", "--host", host, *flag)

    if host in ANYWHERE and not required and not says_so:
        assert result.returncode == 3
        assert "--allow-anonymous-public" in one_line(result.stderr)
    else:
        assert (result.returncode, one_line(result.stderr)) == (1, f"got as far as {host}")


def test_it_listens_on_loopback_and_asks_for_credentials_unless_told_otherwise(tmp_path: Path) -> None:
    settings = loaded(tmp_path, {})

    assert settings.server.host == "127.0.0.1"
    assert settings.auth.required
    assert not settings.metrics.public
    assert settings.metrics.token is None
    assert settings.governance.virtual_keys == ()
    assert settings.auth.jwt.issuers == ()
    assert settings.client.allowed_origins == ()


# Fewer guesses than slow a gateway down.
DEFAULTS: Final = (
    "admin",
    "password",
    "changeme",
    "tidegate",
    "sk-bf-",
    "sk-1234",
    "sk-bf-admin",
    "root",
    "secret",
)


def test_there_are_no_default_credentials(tmp_path: Path) -> None:
    cli = Cli(tmp_path, tmp_path / "bytecode")
    with serving(cli) as gateway, httpx2.Client(base_url=gateway.url, trust_env=False) as client:
        for word in DEFAULTS:
            for headers in ({"authorization": f"Bearer {word}"}, {"x-bf-vk": word}):
                assert client.get("/v1/async/jobs", headers=headers).status_code == 401
            assert client.get("/v1/async/jobs", auth=(word, word)).status_code == 401
        assert client.get("/metrics").status_code == 401


# The key of the gateway's own tokens


HALVES: Final = {
    "nothing": b"",
    "a line break": b"\n",
    "half of it": b"0123456789abcdef" * 2,
    "one digit less": b"0" * 63,
    "one digit more": b"0" * 65,
    "zeros that a disk left": bytes(64),
    "something else": b"g" * 64,
}


@pytest.mark.parametrize("content", HALVES.values(), ids=list(HALVES))
def test_half_a_key_is_no_key(tmp_path: Path, serves_nobody: None, content: bytes) -> None:
    """After a crash or a full disk: with a secret that can be guessed anybody would be an administrator."""
    cli = Cli(tmp_path, tmp_path / "bytecode")
    data = tmp_path / "tidegate-data"
    data.mkdir(mode=0o700)
    file = data / local_issuer.FILE_NAME
    file.write_bytes(content)
    file.chmod(0o600)

    started = cli("serve", "--port", "0")
    minted = cli("token", "mint", "--admin")

    assert (started.returncode, minted.returncode) == (4, 6)
    for result in (started, minted):
        assert str(file) in one_line(result.stderr)
        assert "remove it, the next start makes one" in result.stderr
    assert file.read_bytes() == content


def test_a_key_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash at any moment while it is made leaves a start that works."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", _power_cut)
        with pytest.raises(KeyboardInterrupt):
            local_issuer.load_or_create(tmp_path)
    assert local_issuer.load(tmp_path) is None

    made = local_issuer.load_or_create(tmp_path)

    assert local_issuer.load(tmp_path) == local_issuer.load_or_create(tmp_path) == made
    assert [file.name for file in tmp_path.iterdir()] == [local_issuer.FILE_NAME]


def _power_cut(_handle: int) -> None:
    raise KeyboardInterrupt


def test_a_key_is_readable_for_its_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        made = local_issuer.load_or_create(tmp_path)
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / local_issuer.FILE_NAME).stat().st_mode) == 0o600
    assert len(made.reveal()) == 64
