"""One verb per file: what the gateway does, told without HTTP and without SQL."""
