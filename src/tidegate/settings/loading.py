"""From files, environment and flags to settings that hold, or to one report of everything that is wrong."""

import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

from msgspec.structs import replace

from tidegate.settings.bifrost import adopt
from tidegate.settings.check_access import check_jwt, check_local_issuer, with_grants
from tidegate.settings.check_providers import with_vendors
from tidegate.settings.check_server import with_limits, with_paths
from tidegate.settings.decode import decode
from tidegate.settings.problems import Code, dotted
from tidegate.settings.report import Report
from tidegate.settings.schema import Settings
from tidegate.settings.secrets import SecretReader
from tidegate.settings.sources import VendorFacts, gather
from tidegate.settings.view import origins_of

_NO_OVERRIDES: Final[Mapping[str, object]] = MappingProxyType({})
_READABLE_BY_OTHERS: Final = stat.S_IRGRP | stat.S_IROTH


def load(
    path: Path | None,
    environ: Mapping[str, str],
    *,
    vendors: Mapping[str, VendorFacts],
    overrides: Mapping[str, object] = _NO_OVERRIDES,
    extra_providers: Sequence[str] = (),
) -> Settings:
    """``overrides`` are command-line flags by dotted path; one that is ``None`` was not given.

    Raises ``SettingsError`` with every problem there is.
    """
    report = gather(path, environ, overrides, vendors, extra_providers)
    report.ignore_all(adopt(report.document))
    file = report.document.file
    settings = decode(report, SecretReader(environ, file.parent if file else Path()))
    settings = _complete(settings, vendors, report)
    _judge_literals(settings, report)
    _note_unenforced(settings, report)
    report.raise_problems()
    return replace(
        settings,
        warnings=tuple(report.warnings),
        ignored=report.ignored,
        origins=origins_of(settings, report),
    )


def _complete(settings: Settings, vendors: Mapping[str, VendorFacts], report: Report) -> Settings:
    """With everything in place that depends on other settings."""
    check_jwt(settings.auth.jwt, report)
    check_local_issuer(settings.auth, report)
    providers = with_vendors(settings.providers, vendors, report)
    keys = with_grants(settings.governance.virtual_keys, {*vendors, *providers}, report)
    return replace(
        with_paths(settings, report),
        client=with_limits(settings.client, report),
        governance=replace(settings.governance, virtual_keys=keys),
        providers=providers,
    )


def _judge_literals(settings: Settings, report: Report) -> None:
    if not report.literals:
        return
    if settings.security.strict_secrets:
        for trail in report.literals:
            report.problem(
                Code.LITERAL_SECRET,
                trail,
                "A secret stands here in clear, and security.strict_secrets is set.",
                "Write env.NAME or file:PATH",
            )
        return
    names = ", ".join(dotted(trail) for trail in report.literals)
    report.warn(f"secrets stand in clear at {names}; write env.NAME or file:PATH instead")
    file = report.document.file
    if file is not None and file.stat().st_mode & _READABLE_BY_OTHERS:
        report.warn(f"OTHERS CAN READ the secrets in {file}: take the right away with chmod 600 {file}")


def _note_unenforced(settings: Settings, report: Report) -> None:
    if any(one.concurrency_and_buffer_size.buffer_size is not None for one in settings.providers.values()):
        report.ignore(
            "providers.<name>.concurrency_and_buffer_size.buffer_size", "not enforced by this version"
        )
