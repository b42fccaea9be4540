"""Others beside us, on the same machine in the same run: gateways on the same mock vendor, queues on the same PostgreSQL.

They are not dependencies: each is installed from its registry into a folder of its own, and left out where it cannot be.
"""
