"""``tidegate serve`` with defects that hold secrets when they strike: ``python -m security.defective_gateway …``."""

import sys
from typing import Any, NoReturn

from tidegate.api.inbound import Inbound
from tidegate.api.keys import VirtualKeys
from tidegate.cli import main
from tidegate.domain.access import Caller
from tidegate.providers.openai import OpenAIProvider

_build = OpenAIProvider.build


async def _rotate(self: VirtualKeys, inbound: Inbound, caller: Caller) -> NoReturn:
    """A message, a cause and local variables full of what the caller sent."""
    headers = dict(inbound.headers)
    try:
        int(headers[b"authorization"])
    except ValueError as error:
        raise RuntimeError(f"cannot rotate for {headers}") from error
    raise AssertionError("a credential that is a number")


def _broken_build(self: OpenAIProvider, request: Any, target: Any) -> Any:
    if target.model != "defect":
        return _build(self, request, target)
    secret = target.key.value.reveal()
    raise RuntimeError(f"cannot call with Authorization: Bearer {secret} or {target}")


if __name__ == "__main__":
    VirtualKeys.rotate = _rotate  # type: ignore[method-assign] # that is the defect
    OpenAIProvider.build = _broken_build  # type: ignore[method-assign] # that is the defect
    sys.exit(main())
