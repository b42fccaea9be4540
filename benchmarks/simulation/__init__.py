"""What many machines on one database, or on several, would do: measured costs, put together by a simulation."""
