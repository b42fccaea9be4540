"""Why a PostgreSQL database cannot be used, and what to do about it."""

from typing import Final

import asyncpg

from tidegate.store.postgres.connection import PostgresOptions
from tidegate.store.postgres.database import GONE
from tidegate.store.postgres.server import BY_WAY_OF_A_POOLER
from tidegate.store.refusal import StoreRefused

FAILURES: Final = (*GONE, asyncpg.PostgresError, ValueError, TimeoutError)


def refusal(options: PostgresOptions, exc: Exception) -> StoreRefused:
    match exc:
        case asyncpg.InvalidPasswordError() | asyncpg.InvalidAuthorizationSpecificationError():
            remedy = "the server does not accept user and password: check store.url"
        case asyncpg.InvalidCatalogNameError():
            remedy = "there is no such database: create it, or check store.url"
        case asyncpg.InsufficientPrivilegeError():
            remedy = f"the role may not do this ({exc}): grant it CREATE on the schema, or migrate with another role"
        case (
            asyncpg.ProtocolViolationError()
            | asyncpg.InvalidSQLStatementNameError()
            | asyncpg.DuplicatePreparedStatementError()
        ) if not options.pooler:
            remedy = f"{BY_WAY_OF_A_POOLER} (it said: {exc})"
        case ValueError():
            remedy = f"the URL cannot be read ({exc}): it should look like postgresql://user:password@host:5432/name"
        case asyncpg.PostgresError():
            remedy = f"the server said: {exc}"
        case _:
            remedy = f"no server answers ({type(exc).__name__}): check host, port and network"
    return StoreRefused(f"cannot use {options.place}: {remedy}")
