"""``tidegate`` as it was when the schema of PostgreSQL had that number: ``python -m support.at_schema NUMBER ARGUMENTS``."""

import sys
from typing import Any, Final

from tidegate.store import migrate

_COPIES_ARE_KNOWN: Final = 2


def _forget(newest: int) -> None:
    """Before anybody else has imported what is replaced here."""
    everything = migrate.migrations
    migrate.migrations = lambda dialect: [found for found in everything(dialect) if found.number <= newest]
    from tidegate.store.postgres import store

    async def refuse_nothing(connection: Any) -> None:
        """There were no copies that could be unfinished."""

    if newest < _COPIES_ARE_KNOWN:
        store.refuse_unfinished = refuse_nothing  # type: ignore[attr-defined]


if __name__ == "__main__":
    _forget(int(sys.argv.pop(1)))
    from tidegate.cli import main

    sys.exit(main())
