"""Which settings a variable names."""

from typing import Final

from tidegate.settings import reference
from tidegate.settings.sources import PREFIX

_KNOWN: Final = {setting.name.replace(".", "__").upper() for setting in reference()}


def is_no_setting(variable: str) -> bool:
    return variable.startswith(PREFIX) and variable.removeprefix(PREFIX) not in _KNOWN
