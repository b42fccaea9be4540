"""Forged and confused tokens, and harmless ones that look like it (contract §5.3, security.md §3)."""

import json
import time
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from api.minting import base64url, claims, part, pem, sealed, signed, signed_with
from support.gateway import JWT_SECRET

NOW = time.time()
RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
GOOD = signed(claims(role="admin"))
HEAD, PAYLOAD, SIGNATURE = GOOD.split(".")


def admin(**members: Any) -> str:
    """A token that would make an administrator."""
    return signed(claims(role="admin") | members)


def without(name: str) -> str:
    return signed({key: value for key, value in claims(role="admin").items() if key != name})


def with_header(**members: Any) -> str:
    return signed(claims(role="admin"), {"alg": "HS256"} | members)


def written(payload: str) -> str:
    """A payload that is not what ``json`` would write."""
    return signed(payload)


def claims_then(text: str) -> str:
    return written(json.dumps(claims(role="admin"))[:-1] + text + "}")


def without_exp_then(text: str) -> str:
    usual = {name: value for name, value in claims(role="admin").items() if name != "exp"}
    return written(json.dumps(usual)[:-1] + text + "}")


def flipped(text: str) -> str:
    return ("A" if text[0] != "A" else "B") + text[1:]


FORGED: dict[str, str] = {
    # the algorithm
    "alg none, no signature": f"{part({'alg': 'none'})}.{PAYLOAD}.",
    "alg none, some signature": f"{part({'alg': 'none'})}.{PAYLOAD}.{SIGNATURE}",
    "alg None": f"{part({'alg': 'None'})}.{PAYLOAD}.{SIGNATURE}",
    "alg NoNe": f"{part({'alg': 'NoNe'})}.{PAYLOAD}.{SIGNATURE}",
    "alg hs256": signed(claims(role="admin"), {"alg": "hs256"}),
    "alg HS384": signed(claims(role="admin"), {"alg": "HS384"}, digest="sha384"),
    "alg HS512": signed(claims(role="admin"), {"alg": "HS512"}, digest="sha512"),
    "alg missing": signed(claims(role="admin"), {"typ": "JWT"}),
    "alg null": with_header(alg=None),
    "alg a list": with_header(alg=["HS256"]),
    "alg a number": with_header(alg=256),
    "alg RS256 at an HS256 issuer": signed_with(RSA_KEY, claims(role="admin"), {"alg": "RS256"}),
    "a public key as HS256 secret": signed(
        claims(iss="https://rs.example", role="admin"), secret=pem(RSA_KEY)
    ),
    "alg ES256 where the key is RSA": signed_with(
        EC_KEY, claims(iss="https://mixed.example", role="admin"), {"alg": "ES256"}
    ),
    "alg EdDSA where the key is RSA": signed(
        claims(iss="https://mixed.example", role="admin"), {"alg": "EdDSA"}
    ),
    # header members that would choose key or rules
    "crit": with_header(crit=["exp"]),
    "crit unknown": with_header(crit=["x"], x=1),
    "b64 false": with_header(b64=False),
    "zip": with_header(zip="DEF"),
    "jwk": with_header(jwk={"kty": "oct", "k": base64url(JWT_SECRET.encode())}),
    "jku": with_header(jku="https://evil.example/keys"),
    "x5u": with_header(x5u="https://evil.example/cert"),
    "x5c": with_header(x5c=["MIIB"]),
    "kid of 129 characters": with_header(kid="k" * 129),
    "kid of 5,000 characters": with_header(kid="k" * 5000),
    "kid a number": with_header(kid=5),
    "kid null": with_header(kid=None),
    "kid a list": with_header(kid=["a"]),
    "duplicate alg": signed(claims(role="admin"), '{"alg":"none","alg":"HS256"}'),
    "foreign typ where one is configured": signed(claims(iss="https://typ.example", role="admin")),
    # the signature
    "empty signature": f"{HEAD}.{PAYLOAD}.",
    "signature of another secret": signed(claims(role="admin"), secret="x" * 40),
    "signature of an empty secret": signed(claims(role="admin"), secret=""),
    "signature cut": GOOD[:-4],
    "signature changed": f"{HEAD}.{PAYLOAD}.{flipped(SIGNATURE)}",
    "payload changed": f"{HEAD}.{part(claims(role='admin', sub='mallory'))}.{SIGNATURE}",
    "header changed": f"{part({'alg': 'HS256', 'x': 1})}.{PAYLOAD}.{SIGNATURE}",
    # the form
    "two parts": f"{HEAD}.{PAYLOAD}",
    "four parts": f"{GOOD}.{SIGNATURE}",
    "five parts, as if encrypted": f"{GOOD}.{SIGNATURE}.{SIGNATURE}",
    "empty payload": sealed(f"{HEAD}."),
    "padding on the signature": f"{GOOD}=",
    "padding on the header": sealed(f"{HEAD}==.{PAYLOAD}"),
    "standard base64": f"{HEAD}.{PAYLOAD}.+/{SIGNATURE[2:]}",
    "a space inside": f"{HEAD}.{PAYLOAD}. {SIGNATURE}",
    "a comma behind": f"{GOOD},",
    "a part of impossible length": f"{HEAD}.{PAYLOAD}.{SIGNATURE}AA"[:-1],
    "more than 8 KiB": admin(padding="x" * 8192),
    "payload a list": signed([claims(role="admin")]),
    "payload a string": signed('"x"'),
    "payload no JSON": signed("{"),
    "payload not UTF-8": signed(
        b'{"a":"' + bytes([255]) + b'",' + json.dumps(claims(role="admin")).encode()[1:]
    ),
    "payload with a BOM": written("\ufeff" + json.dumps(claims(role="admin"))),
    "payload very deep": written('{"a":' * 900 + "1" + "}" * 900),
    "half a character": claims_then(r',"sub":"\ud800"'),
    "duplicate exp": claims_then(f',"exp":{NOW + 1800}'),
    "duplicate iss": claims_then(',"iss":"https://id.example"'),
    "duplicate role": claims_then(',"role":"admin"'),
    # exp, nbf, iat
    "exp missing": without("exp"),
    "exp null": admin(exp=None),
    "exp a string": admin(exp=str(int(NOW + 3600))),
    "exp true": admin(exp=True),
    "exp a list": admin(exp=[NOW + 3600]),
    "exp NaN": without_exp_then(',"exp":NaN'),
    "exp Infinity": without_exp_then(',"exp":Infinity'),
    "exp 1e400": without_exp_then(',"exp":1e400'),
    "exp of 400 digits": without_exp_then(',"exp":' + "9" * 400),
    "exp of 5,000 digits": without_exp_then(',"exp":' + "9" * 5000),
    "exp of 10^18": admin(exp=10**18),
    "exp of 2^53": admin(exp=2**53),
    "exp negative": admin(exp=-1),
    "exp more than a day ahead": admin(exp=NOW + 86_400 + 3600),
    "nbf in the future": admin(nbf=NOW + 3600),
    "nbf null": admin(nbf=None),
    "nbf a string": admin(nbf="0"),
    "nbf true": admin(nbf=True),
    "nbf of 400 digits": claims_then(',"nbf":' + "9" * 400),
    "iat in the future": admin(iat=NOW + 3600),
    "iat null": admin(iat=None),
    "iat an object": admin(iat={}),
    "expired and otherwise wrong": admin(exp=NOW - 600, aud="elsewhere"),
    # iss, aud, sub
    "iss missing": without("iss"),
    "iss null": admin(iss=None),
    "iss unknown": admin(iss="https://other.example"),
    "iss with a slash": admin(iss="https://id.example/"),
    "iss in upper case": admin(iss="HTTPS://ID.EXAMPLE"),
    "iss a list": admin(iss=["https://id.example"]),
    "iss an object": admin(iss={"https://id.example": 1}),
    "iss of another issuer's key": admin(iss="https://rs.example"),
    "aud missing": without("aud"),
    "aud null": admin(aud=None),
    "aud wrong": admin(aud="elsewhere"),
    "aud in upper case": admin(aud="TIDEGATE"),
    "aud an empty list": admin(aud=[]),
    "aud a list without us": admin(aud=["a", "b"]),
    "aud a list with a number": admin(aud=["tidegate", 5]),
    "aud an object": admin(aud={"tidegate": 1}),
    "aud a number": admin(aud=5),
    "sub missing": without("sub"),
    "sub null": admin(sub=None),
    "sub empty": admin(sub=""),
    "sub of 256 characters": admin(sub="s" * 256),
    "sub a number": admin(sub=5),
    # what the token stands for
    "key and admin at once": admin(virtual_key="key-a"),
    "neither key nor admin": without("role"),
    "another role": admin(role="root"),
    "role in upper case": admin(role="ADMIN"),
    "role a list": admin(role=["admin"]),
    "role true": admin(role=True),
    "key a number": signed(claims(virtual_key=5)),
    "key empty": signed(claims(virtual_key="")),
    "key a list": signed(claims(virtual_key=["key-a"])),
    "an administrator from an issuer of keys": signed_with(
        RSA_KEY, claims(iss="https://rs.example", role="admin"), {"alg": "RS256"}
    ),
}
HARMLESS: dict[str, str] = {
    "as it should be": GOOD,
    "kid that looks like a path": with_header(kid="../../etc/passwd"),
    "kid of 128 characters": with_header(kid="k" * 128),
    "foreign typ": with_header(typ="at+jwt"),
    "no typ": with_header(),
    "unknown header member": with_header(x5t="abc", cty="JWT"),
    "exp a fraction": admin(exp=NOW + 3600.5),
    "aud a list with us": admin(aud=["elsewhere", "tidegate"]),
    "sub of 255 characters": admin(sub="s" * 255),
    "the typ that is configured": signed(
        claims(iss="https://typ.example", role="admin"), {"alg": "HS256", "typ": "at+jwt"}
    ),
    "unknown claims": admin(scope="x", nested={"exp": "x"}),
    "nbf and iat a little ahead": admin(nbf=NOW + 5, iat=NOW + 5),
}
