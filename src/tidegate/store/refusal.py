"""Why a store is not opened at all."""


class StoreRefused(Exception):
    """The database cannot be used safely; the message says why and what to do."""
