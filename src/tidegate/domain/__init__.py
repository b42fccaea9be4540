"""Nouns and decisions: no I/O, no clock, no framework. Takes values, returns values."""
