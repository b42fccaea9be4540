"""A stand-in for a vendor: a real HTTP server that speaks OpenAI's chat dialect and breaks on demand.

Stands alone: it imports nothing else of Tidegate, so it cannot share a mistake with what it tests.
"""

from tidegate.mock_vendor.journal import Call
from tidegate.mock_vendor.script import Bomb, Latency, RateLimit, Rule, Script, ScriptError, load_script
from tidegate.mock_vendor.server import MockVendor, run

__all__ = [
    "Bomb", "Call", "Latency", "MockVendor", "RateLimit", "Rule", "Script", "ScriptError", "load_script", "run",
]  # fmt: skip
