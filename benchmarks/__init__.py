"""Measures the gateway as a user runs it: own load generator, yardsticks in the same run, targets beside them.

Nothing here imports Tidegate but ``children`` and ``simulation.measure``: those run as processes of their own.
"""
