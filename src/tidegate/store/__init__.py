"""Durable jobs and keys, one package per database engine, the same promises from each."""
