"""Programs that run on the server's core: yardsticks, and parts of the gateway measured on their own.

The only modules here that import Tidegate, each started with ``PYTHONPATH`` at the checkout to be measured. The peers
among them are run by a Python of their own, and import none of it.
"""
