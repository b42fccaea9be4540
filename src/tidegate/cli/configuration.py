"""Reading the configuration for a command."""

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from tidegate import local_model
from tidegate.cli.exits import CliError, Exit
from tidegate.cli.options import Source
from tidegate.providers import VENDORS
from tidegate.settings import Settings, SettingsError, load
from tidegate.settings.sources import CONFIG_VARIABLE

_NOTHING: Final[Mapping[str, object]] = MappingProxyType({})


def configuration_file(source: Source) -> Path | None:
    """The file that is in force; ``None`` where there is none."""
    named = os.environ.get(CONFIG_VARIABLE)
    return source.config or (Path(named) if named else None)


def read_settings(source: Source, overrides: Mapping[str, object] = _NOTHING) -> Settings:
    """Raises ``SettingsError``."""
    file = configuration_file(source)
    # Without a file everything that needs no key is there to be tried.
    is_offered = file is None and local_model.is_installed()
    return load(
        file,
        os.environ,
        vendors=VENDORS,
        overrides={"server.data_dir": source.data, **overrides},
        extra_providers=("local",) if is_offered else (),
    )


def require_settings(source: Source, overrides: Mapping[str, object] = _NOTHING) -> Settings:
    """Raises ``CliError`` with the whole report."""
    try:
        return read_settings(source, overrides)
    except SettingsError as error:
        count = len(error.problems)
        heading = (
            "The configuration has a problem:" if count == 1 else f"The configuration has {count} problems:"
        )
        raise CliError(f"{heading}\n\n{error}", Exit.CONFIGURATION) from error
