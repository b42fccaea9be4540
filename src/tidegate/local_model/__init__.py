"""A small real model on this machine: its weights in the cache, and its inference server. Stands alone."""

from tidegate.local_model.server import MODEL_NAME, is_installed, serve
from tidegate.local_model.weights import SMOLLM2, Weights, WeightsError, cache_directory, cached, install

__all__ = [
    "MODEL_NAME", "SMOLLM2", "Weights", "WeightsError", "cache_directory", "cached", "install", "is_installed",
    "serve",
]  # fmt: skip
