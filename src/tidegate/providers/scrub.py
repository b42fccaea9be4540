"""A vendor's words made fit to show: no control characters, nothing that looks like a credential, not long."""

import re
from typing import Final

LONGEST: Final = 2_000
"""Characters of a vendor's message that are shown (contract §8.1)."""
_LONGEST_READ: Final = 2 * LONGEST

# Line breaks and tabs become spaces; other C0, C1 and bidirectional controls go.
_GONE: Final = [*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_CONTROLS: Final = dict.fromkeys(_GONE) | dict.fromkeys(map(ord, "\t\n\v\f\r\x85"), " ")

_ANNOUNCED: Final = re.compile(
    r"""
    ( \b[\w-]{0,40}(?:key|token|secret|password|signature)=          # a query, an assignment
    | \bapi[-_ ]?key(?:\ provided)?["']?\s*[:=]\s*                   # "Incorrect API key provided: …"
    | \bbearer\s+(?!auth|token|scheme|format|credential|is\b|or\b|in\b)
    | \bbasic\s+(?=[\w+/]{12})
    ) ["']?[^\s"'&,;]+
    """,
    re.IGNORECASE | re.VERBOSE,
)
_RECOGNISED: Final = re.compile(
    r"""
      \beyJ[\w-]{6,}\.[\w-]+(?:\.[\w-]*)?                             # a JWT
    | \b(?:sk|rk|csk|xai|pplx|nvapi|fw|hf|gsk|r8|tgp|ghp|gho|ghs|github_pat)[-_][\w.*-]{6,}
    | \bAIza[\w*-]{10,} | \bya29\.[\w.-]{10,} | \b(?:AKIA|ASIA)[A-Z0-9]{12,}
    | (?<=://)[^\s/@]{1,100}:[^\s/@]{1,100}(?=@)                       # user and password in a URL
    | \b(?=[a-z]{0,31}\d)(?=\d{0,31}[a-z])[a-z0-9]{32,}\b             # Mistral, Azure, Together: no prefix
    """,
    re.IGNORECASE | re.VERBOSE,
)


def scrub(text: str, *, longest: int = LONGEST) -> str:
    """Secrets are masked before the text is cut: half a secret no longer looks like one."""
    readable = text[:_LONGEST_READ].translate(_CONTROLS)
    return _RECOGNISED.sub("***", _ANNOUNCED.sub(r"\1***", readable)).strip()[:longest]
