"""Typed configuration: read once, every problem reported with its place."""

from tidegate.settings.editor_schema import json_schema
from tidegate.settings.loading import load
from tidegate.settings.problems import Code, Problem, SettingsError
from tidegate.settings.provider_schema import (
    ConcurrencySettings,
    CustomProviderSettings,
    NetworkSettings,
    ProviderKeySettings,
    ProviderSettings,
)
from tidegate.settings.schema import (
    AsyncSettings,
    AuthSettings,
    ClaimSettings,
    ClientSettings,
    GovernanceSettings,
    IssuerSettings,
    JwtSettings,
    KeyAsyncSettings,
    MetricsSettings,
    ProviderConfigSettings,
    SecuritySettings,
    ServerSettings,
    Settings,
    StoreSettings,
    VirtualKeySettings,
)
from tidegate.settings.table import Setting, reference
from tidegate.settings.view import show

__all__ = [
    "AsyncSettings",
    "AuthSettings",
    "ClaimSettings",
    "ClientSettings",
    "Code",
    "ConcurrencySettings",
    "CustomProviderSettings",
    "GovernanceSettings",
    "IssuerSettings",
    "JwtSettings",
    "KeyAsyncSettings",
    "MetricsSettings",
    "NetworkSettings",
    "Problem",
    "ProviderConfigSettings",
    "ProviderKeySettings",
    "ProviderSettings",
    "SecuritySettings",
    "ServerSettings",
    "Setting",
    "Settings",
    "SettingsError",
    "StoreSettings",
    "VirtualKeySettings",
    "json_schema",
    "load",
    "reference",
    "show",
]
