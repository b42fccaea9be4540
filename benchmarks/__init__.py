"""Measures the gateway as a user runs it: own load generator, yardsticks in the same run, targets beside them.

Nothing here imports Tidegate but ``children``: those run as processes of their own, against any checkout.
"""
