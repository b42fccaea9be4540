"""What is measured: one file per subject, each a function from a ``Bench`` to a ``Report``."""
