"""Where the data lies, and limits that belong together."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from msgspec.structs import replace

from tidegate.settings.kinds import absolute
from tidegate.settings.problems import Code, Refused, Trail
from tidegate.settings.quantities import duration_text
from tidegate.settings.report import Report
from tidegate.settings.schema import ClientSettings, Settings, StoreSettings

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,30}):")
_SQLITE: Final = "sqlite:///"
STORE_URLS: Final = (
    "sqlite:///relative/path, sqlite:////absolute/path or postgresql://user:password@host:5432/name"
)
_POSTGRES: Final = ("postgresql", "postgres")
_FILE_NAME: Final = "tidegate.db"


def with_paths(settings: Settings, report: Report) -> Settings:
    """``server.data_dir`` and ``store.url`` follow each other: whichever is set leads."""
    server, store = settings.server, settings.store
    data_dir = server.data_dir.resolve()
    if not report.is_usable("store", "url"):
        return settings
    if not report.document.has(("store", "url")):
        path = data_dir / _FILE_NAME
        store = replace(store, url=f"{_SQLITE}{path}", path=path, place=str(path))
        return replace(settings, server=replace(server, data_dir=data_dir), store=store)
    try:
        store = with_place(store)
    except Refused as reason:
        report.refused(("store", "url"), reason, STORE_URLS)
        return settings
    if not store.is_shared and not report.document.has(("server", "data_dir")):
        data_dir = store.path.parent
    return replace(settings, server=replace(server, data_dir=data_dir), store=store)


def with_place(store: StoreSettings) -> StoreSettings:
    """With what its URL names. Raises ``Refused``."""
    if _scheme_of(store.url) in _POSTGRES:
        return replace(store, is_shared=True, place=_place_of(store.url))
    path = sqlite_path(store.url)
    return replace(store, path=path, place=str(path))


def sqlite_path(url: str) -> Path:
    """The file a store URL names. Raises ``Refused``, without quoting what may hold a password."""
    scheme = _scheme_of(url)
    if scheme != "sqlite":
        raise Refused(Code.UNSUPPORTED, f"A store at {scheme}: is not supported.")
    if url in {"sqlite:", "sqlite://", _SQLITE} or ":memory:" in url:
        raise Refused(Code.UNSUPPORTED, "A store in memory would lose accepted jobs.")
    name = url.removeprefix(_SQLITE)
    if not url.startswith(_SQLITE) or name.endswith("/") or "?" in name or "#" in name:
        raise Refused(Code.INVALID_VALUE, "Not the URL of an SQLite file.")
    return absolute(name)


def _scheme_of(url: str) -> str:
    scheme = _SCHEME.match(url)
    if scheme is None:
        raise Refused(Code.INVALID_VALUE, "Not the URL of a store.")
    return scheme[1].lower()


def _place_of(url: str) -> str:
    """Hosts and database, without user and password. Raises ``Refused``."""
    try:
        parts = urlsplit(url)
    except ValueError as exc:
        raise Refused(Code.INVALID_VALUE, "Not the URL of a database.") from exc
    hosts = parts.netloc.rpartition("@")[2]
    if not hosts and "host=" not in parts.query:
        raise Refused(Code.INVALID_VALUE, "The URL names no host.")
    if len(parts.path) < 2:
        raise Refused(Code.INVALID_VALUE, "The URL names no database.")
    return f"postgresql://{hosts}{parts.path}"


def with_limits(client: ClientSettings, report: Report) -> ClientSettings:
    given, longest = in_order(
        report,
        ("client",),
        ("async_job_result_ttl", "async_job_result_ttl_max"),
        (client.async_job_result_ttl, client.async_job_result_ttl_max),
    )
    return replace(client, async_job_result_ttl=given, async_job_result_ttl_max=longest)


def in_order(
    report: Report, section: Trail, names: tuple[str, str], values: tuple[timedelta, timedelta]
) -> tuple[timedelta, timedelta]:
    """A pair whose first must not exceed the second: a default gives way to what is set."""
    small, large = values
    if small <= large:
        return values
    small_is_set, large_is_set = (report.document.has((*section, name)) for name in names)
    if small_is_set and large_is_set:
        report.problem(
            Code.CONFLICT,
            (*section, names[0]),
            f"{duration_text(small)} is longer than {names[1]}, {duration_text(large)}.",
            f"Lower {names[0]} or raise {names[1]}",
        )
    return (small, small) if small_is_set else (large, large)
