"""Settings from a configuration file, as the command line reads them."""

from pathlib import Path

from tidegate.providers import VENDORS
from tidegate.settings import Settings, load


def settings_from(config: Path) -> Settings:
    return load(config, {}, vendors=VENDORS)
