"""``tidegate token``: minting, and the rules told one by one."""

import base64
import hashlib
import hmac
import json
import time
from datetime import timedelta
from typing import Any

import anyio
import pytest

from cli.conftest import KEY
from cli.runs import Cli, one_line, write_json
from tidegate.api.tokens import ClaimNames, Issuer, StaticKey, TokenVerification
from tidegate.cli.token_rules import findings
from tidegate.clock import SystemClock
from tidegate.domain.errors import Unauthenticated
from tidegate.domain.secret import Secret
from tidegate.settings import ClaimSettings, IssuerSettings

SECRET = "a secret of more than thirty-two bytes"
HEADER = {"alg": "HS256", "typ": "JWT"}
DAY = timedelta(days=1)


def part(value: Any) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(header: Any, payload: Any, secret: str = SECRET) -> str:
    text = f"{part(header)}.{part(payload)}"
    return f"{text}.{part(hmac.new(secret.encode(), text.encode(), hashlib.sha256).digest())}"


def claims(**members: Any) -> dict[str, Any]:
    """Those of a good token; ``None`` takes one away."""
    usual = {
        "iss": "https://id.example",
        "aud": "tidegate",
        "sub": "a",
        "exp": time.time() + 3600,
        "virtual_key": "k",
    }
    return {name: value for name, value in (usual | members).items() if value is not None}


def raw(text: str) -> bytes:
    """A payload as text: a good one, with ``text`` as its last members."""
    return (json.dumps(claims())[:-1] + f", {text}}}").encode()


GOOD = {
    "a good token": signed(HEADER, claims()),
    "an admin": signed(HEADER, claims(virtual_key=None, role="admin")),
    "a kid": signed(HEADER | {"kid": "../../etc/passwd"}, claims()),
    "a list of audiences": signed(HEADER, claims(aud=["other", "tidegate"])),
    "a fraction of a second": signed(HEADER, claims(exp=time.time() + 3600.5)),
    "another role": signed(HEADER, claims(role="user")),
    "nbf and iat now": signed(HEADER, claims(nbf=time.time(), iat=time.time())),
    "a foreign typ": signed(HEADER | {"typ": "at+jwt"}, claims()),
}
BAD = {
    "empty": "",
    "one part": "abc",
    "two parts": "abc.def",
    "four parts": f"{signed(HEADER, claims())}.x",
    "no signature": signed(HEADER, claims()).rpartition(".")[0] + ".",
    "padding": f"{signed(HEADER, claims())}=",
    "a space": f" {signed(HEADER, claims())}",
    "too long": signed(HEADER, claims(sub="a" * 9000)),
    "header is no JSON": signed(b"x", claims()),
    "header is a list": signed([], claims()),
    "payload is no JSON": signed(HEADER, b"{"),
    "payload is a list": signed(HEADER, [1]),
    "a deep payload": signed(HEADER, b"[" * 2000),
    "a duplicate alg": signed(b'{"alg": "none", "alg": "HS256"}', claims()),
    "a duplicate exp": signed(HEADER, raw('"exp": 1')),
    "alg none": signed({"alg": "none"}, claims()),
    "alg NoNe": signed({"alg": "NoNe"}, claims()),
    "alg HS512": signed({"alg": "HS512"}, claims()),
    "alg missing": signed({"typ": "JWT"}, claims()),
    "alg a number": signed({"alg": 1}, claims()),
    **{
        f"header {name}": signed(HEADER | {name: "x"}, claims())
        for name in ("crit", "jku", "x5u", "jwk", "x5c", "zip")
    },
    "header b64": signed(HEADER | {"b64": False}, claims()),
    "kid too long": signed(HEADER | {"kid": "k" * 129}, claims()),
    "kid a number": signed(HEADER | {"kid": 7}, claims()),
    "another key": signed(HEADER, claims(), secret="another secret of thirty-two bytes!!"),
    "another issuer": signed(HEADER, claims(iss="https://other.example")),
    "iss a list": signed(HEADER, claims(iss=["https://id.example"])),
    "iss missing": signed(HEADER, claims(iss=None)),
    "another audience": signed(HEADER, claims(aud="other")),
    "aud missing": signed(HEADER, claims(aud=None)),
    "aud with a number": signed(HEADER, claims(aud=["tidegate", 1])),
    "exp missing": signed(HEADER, claims(exp=None)),
    "exp text": signed(HEADER, claims(exp="1999999999")),
    "exp true": signed(HEADER, claims(exp=True)),
    "exp NaN": signed(HEADER, raw('"nbf": NaN')),
    "exp past": signed(HEADER, claims(exp=time.time() - 60)),
    "exp far ahead": signed(HEADER, claims(exp=time.time() + 200_000)),
    "exp beyond all": signed(HEADER, claims(exp=10**18)),
    "exp below zero": signed(HEADER, claims(exp=-1)),
    "nbf in the future": signed(HEADER, claims(nbf=time.time() + 1800)),
    "iat in the future": signed(HEADER, claims(iat=time.time() + 1800)),
    "iat text": signed(HEADER, claims(iat="now")),
    "sub missing": signed(HEADER, claims(sub=None)),
    "sub empty": signed(HEADER, claims(sub="")),
    "sub too long": signed(HEADER, claims(sub="a" * 256)),
    "sub a number": signed(HEADER, claims(sub=5)),
    "both kinds": signed(HEADER, claims(role="admin")),
    "neither kind": signed(HEADER, claims(virtual_key=None)),
    "virtual_key a number": signed(HEADER, claims(virtual_key=5)),
    "virtual_key empty": signed(HEADER, claims(virtual_key="")),
}


def explained(
    token: str, kinds: tuple[Any, ...] = ("virtual_key", "admin"), typ: str | None = None
) -> list[str]:
    """The rules that fail."""
    issuer = IssuerSettings(
        iss="https://id.example",
        aud="tidegate",
        algorithms=("HS256",),
        key=Secret(SECRET),
        kinds=kinds,
        typ=typ,
    )
    found = findings(token, [issuer], ClaimSettings(), max_lifetime=DAY, now=SystemClock().now())
    return [finding.rule for finding in found if finding.verdict == "failed"]


def is_accepted(
    token: str, kinds: tuple[str, ...] = ("virtual_key", "admin"), typ: str | None = None
) -> bool:
    """What the gateway itself decides."""
    issuer = Issuer("https://id.example", "tidegate", ("HS256",), kinds, StaticKey(Secret(SECRET)), typ)
    verifier = TokenVerification(
        [issuer], ClaimNames(), SystemClock(), max_lifetime=86400, note=lambda reason: None
    )
    try:
        anyio.run(verifier.verify, token)
    except Unauthenticated:
        return False
    return True


@pytest.mark.parametrize("name", GOOD)
def test_a_good_token_breaks_no_rule_as_the_gateway_says(name: str) -> None:
    assert (explained(GOOD[name]), is_accepted(GOOD[name])) == ([], True)


@pytest.mark.parametrize("name", BAD)
def test_a_bad_token_breaks_a_rule_as_the_gateway_says(name: str) -> None:
    assert (bool(explained(BAD[name])), is_accepted(BAD[name])) == (True, False)


def test_what_an_issuer_may_mint_and_its_typ_are_rules_too() -> None:
    admin, typed = GOOD["an admin"], GOOD["a foreign typ"]

    assert (explained(admin, ("virtual_key",)), is_accepted(admin, ("virtual_key",))) == (["rights"], False)
    assert (explained(typed, typ="JWT"), is_accepted(typed, typ="JWT")) == (["typ"], False)


def test_every_rule_has_its_line_and_a_token_that_passes_is_exit_code_0(tg: Cli) -> None:
    token = one_line(tg.process("token", "mint", "--admin", "--ttl", "10m").stdout)

    result = tg.process("token", "inspect", "-", stdin=f"{token}\n")

    rules = [line.split()[:2] for line in result.stdout.splitlines()]
    names = ("form", "header", "kid", "iss", "alg", "signature", "aud", "exp", "nbf", "iat", "sub", "rights")
    assert rules == [["ok", name] for name in names]
    assert result.returncode == 0
    assert tg("keys", "list", "--key", token).returncode == 0


def test_a_token_that_would_be_refused_is_exit_code_1_and_needs_no_gateway(cli: Cli) -> None:
    result = cli("token", "inspect", BAD["exp past"], "--json")

    verdicts = {rule["rule"]: rule["verdict"] for rule in json.loads(one_line(result.stdout))["rules"]}
    assert result.returncode == 1
    assert (verdicts["exp"], verdicts["iss"], verdicts["sub"]) == ("failed", "failed", "ok")


def test_a_signature_that_cannot_be_checked_here_is_said_to_be_unchecked(cli: Cli) -> None:
    issuer = {
        "iss": "https://id.example",
        "aud": "tidegate",
        "algorithms": ["RS256"],
        "jwks_url": "https://id.example/keys",
    }
    file = write_json(cli.directory / "c.json", {"auth": {"jwt": {"issuers": [issuer]}}})

    result = cli("token", "inspect", signed({"alg": "RS256"}, claims()), "--config", str(file))

    assert result.returncode == 0
    assert "cannot be checked here: its keys are at https://id.example/keys" in result.stdout
    assert "No rule that can be checked here speaks against this token" in result.stderr


def test_a_token_for_a_key_acts_as_that_key(tg: Cli) -> None:
    tg("keys", "create", "--name", "minted-for")

    token = one_line(tg("token", "mint", "--key", "minted-for").stdout)

    job = one_line(tg("jobs", "submit", "--model", "mock/echo", "--message", "hi", "--key", token).stdout)
    assert json.loads(tg("jobs", "show", job, "--json").stdout)["virtual_key"]["name"] == "minted-for"
    assert tg("keys", "list", "--key", token).returncode == 6


def test_a_key_of_the_configuration_needs_no_gateway_to_be_named(tg: Cli) -> None:
    token = one_line(tg("token", "mint", "--key", "configured", "--url", "http://127.0.0.1:9").stdout)

    assert tg("jobs", "list", "--key", token).stdout == tg("jobs", "list", "--key", KEY).stdout


def test_an_issuer_of_the_configuration_can_mint(cli: Cli) -> None:
    issuer = {
        "iss": "https://id.example",
        "aud": "tidegate",
        "algorithms": ["HS256"],
        "key": SECRET,
        "typ": "at",
    }
    file = write_json(cli.directory / "c.json", {"auth": {"jwt": {"issuers": [issuer]}}})
    key_id = "019ba6eb-5800-7c7d-abf2-33227bffac0d"

    mint = ("token", "mint", "--issuer", "https://id.example", "--config", str(file))
    token = one_line(cli(*mint, "--key", key_id, "--subject", "alice").stdout)
    admin = cli(*mint, "--admin")

    assert explained(token, ("virtual_key",), "at") == []
    payload = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    assert (payload["virtual_key"], payload["sub"]) == (key_id, "alice")
    assert admin.returncode == 6
    assert "may not mint admin tokens" in one_line(admin.stderr)


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        ((), 2, "say either --key NAME or --admin"),
        (("--admin", "--key", "a"), 2, "say either --key NAME or --admin"),
        (("--admin", "--ttl", "25h"), 2, "--ttl lies between 1s and 24h"),
        (("--admin",), 7, "has no local-issuer.key"),
        (("--admin", "--issuer", "https://nobody.example"), 7, "has no issuer"),
    ],
)
def test_what_cannot_be_minted_is_one_line(
    cli: Cli, arguments: tuple[str, ...], code: int, complaint: str
) -> None:
    result = cli("token", "mint", *arguments)

    assert (result.returncode, result.stdout) == (code, "")
    assert complaint in one_line(result.stderr)
