"""What every session of ours starts with, or every transaction where a pooler keeps no sessions."""

from typing import Final

SETTINGS: Final = {
    "statement_timeout": "5s",
    "lock_timeout": "2s",
    # Whoever falls silent in the middle of a claim holds its lane, and with it everybody else.
    "idle_in_transaction_session_timeout": "1s",
    "jit": "off",
    # Planning a claim anew each time takes as long as claiming ten jobs, and the plan is the same.
    "plan_cache_mode": "force_generic_plan",
    # Every statement has an index to go by: a plan made while a table was empty is the right one later, too.
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}
_RAISE_COMMITS: Final = """
    SELECT set_config('synchronous_commit', 'on', {is_local})
    WHERE current_setting('synchronous_commit') IN ('off', 'local', 'remote_write')
"""
RAISE_COMMITS: Final = _RAISE_COMMITS.format(is_local="false")
"""A commit that is acknowledged is on disk, whatever the role's default says."""
_ONLY_ON_A_PRIMARY: Final = "SET LOCAL transaction_read_only = off"


def local_settings(**settings: str) -> str:
    """What a session of ours starts with, said at the beginning of a transaction and over with it."""
    commands = [f"SET LOCAL {name} = '{value}'" for name, value in (SETTINGS | settings).items()]
    return "; ".join((_ONLY_ON_A_PRIMARY, *commands, _RAISE_COMMITS.format(is_local="true")))
