"""The load generator: what is sent, at which pace, and how long the answers took."""
