"""Loops that never end: claiming and running jobs, keeping leases, sweeping."""
