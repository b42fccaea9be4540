"""One vendor's dialect per file; the registry says which vendor speaks which."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from tidegate.ports import Provider
from tidegate.providers.openai import OpenAIProvider
from tidegate.providers.vendors import ROWS, Vendor

VENDORS: Final[Mapping[str, Vendor]] = MappingProxyType({vendor.name: vendor for vendor in ROWS})


def provider_for(vendor: Vendor) -> Provider:
    """The dialect of a row, or of a row under another name and origin."""
    return OpenAIProvider(vendor)


__all__ = ["VENDORS", "Vendor", "provider_for"]
