"""Tidegate: a self-hosted, asynchronous inference gateway for LLMs."""

__version__ = "0.1.0"
