"""The API reference page: one vendored script over ``/openapi.json``, no foreign host."""

from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Any, Final, final

import msgspec

from tidegate.api.answers import Answer, header, json_bytes
from tidegate.api.inbound import Inbound
from tidegate.domain.access import Caller

_PAGE: Final = b"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Tidegate API</title>
<script type="module" src="/docs/rapidoc.js"></script>
</head>
<body>
<rapi-doc spec-url="/openapi.json" load-fonts="false" render-style="read" theme="light" primary-color="#0b6e75"
 show-header="false" allow-spec-file-load="false" allow-spec-url-load="false" allow-server-selection="false"
 schema-style="table" persist-auth="false"></rapi-doc>
</body>
</html>
"""
# The script builds its own style elements; nothing else may be inline and nothing may come from elsewhere.
_POLICY: Final = (
    b"content-security-policy",
    (
        b"default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self';"
        b" img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
)


@cache
def _script() -> bytes:
    return files("tidegate.api").joinpath("static", "rapidoc.js").read_bytes()


@final
class Reference:
    """Handlers of ``/docs`` and ``/openapi.json``."""

    def __init__(self, make_document: Callable[[], dict[str, Any]]) -> None:
        self._make_document = make_document
        self._document: bytes | None = None

    async def document(self, inbound: Inbound, caller: Caller) -> Answer:
        if self._document is None:
            self._document = msgspec.json.format(msgspec.json.encode(self._make_document()), indent=1)
        return json_bytes(200, self._document)

    async def page(self, inbound: Inbound, caller: Caller) -> Answer:
        return Answer(200, _PAGE, (header("content-type", "text/html; charset=utf-8"),), _POLICY)

    async def script(self, inbound: Inbound, caller: Caller) -> Answer:
        return Answer(
            200,
            _script(),
            (
                header("content-type", "text/javascript; charset=utf-8"),
                header("cache-control", "max-age=86400"),
            ),
        )
