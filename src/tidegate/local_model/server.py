"""The inference server of the local model: llama.cpp's own, from the extra ``tidegate[local]``."""

import errno
import http.client
import importlib
import importlib.util
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any, Final

MODEL_NAME: Final = "smollm2-135m-instruct"
CONTEXT_PER_SLOT: Final = 2048

_EXTRA: Final = "xllamacpp"
_STOPPING: Final = (signal.SIGINT, signal.SIGTERM)
_QUIET, _TALKATIVE = 1, 3
"""llama.cpp's own levels: errors only, and what it says by default."""


def is_installed() -> bool:
    return importlib.util.find_spec(_EXTRA) is not None


def serve(*, weights: Path, host: str, port: int, threads: int | None, slots: int, is_verbose: bool) -> int:
    """Serve until SIGINT or SIGTERM; then the process is over, with exit code 0. Returns 1 if it cannot start."""
    try:
        port = _free_port(host, port)
    except OSError as error:
        return _give_up(_explain(error, host, port))
    # Threads inherit the mask, so from here on a signal waits for us instead of meeting native code.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
    try:
        server = _start(weights, host, port, threads or _usual_threads(), slots, is_verbose=is_verbose)
    except RuntimeError as error:
        return _give_up(f"the local model did not start: {error} (-v shows why)")
    _wait_until_healthy(host, port)
    sys.stdout.write(f"Local model {MODEL_NAME} at {server.listening_address}/v1\n")
    sys.stdout.flush()
    signal.sigwait(_STOPPING)
    # The server's own way down waits for every running generation, minutes if need be; there is nothing to save.
    os._exit(0)


def _start(weights: Path, host: str, port: int, threads: int, slots: int, *, is_verbose: bool) -> Any:
    native = importlib.import_module(_EXTRA)
    params = native.CommonParams()
    params.model.path = str(weights)
    params.model_alias = {MODEL_NAME}
    params.hostnames = [host]
    params.port = port
    params.cpuparams.n_threads = threads
    params.n_parallel = slots
    params.n_ctx = slots * CONTEXT_PER_SLOT
    # Its prompt cache may grow to 8 GiB otherwise.
    params.cache_ram_mib = 0
    # No page of a browser has any business here.
    params.cors_origins = f"http://{host}:{port}"
    params.ui = False
    params.endpoint_slots = False
    params.verbosity = _TALKATIVE if is_verbose else _QUIET
    return native.Server(params)


def _usual_threads() -> int:
    """One core stays free for the gateway; above four, so small a model gets slower."""
    return max(1, min(4, (os.cpu_count() or 1) - 1))


def _free_port(host: str, port: int) -> int:
    """The port if nobody listens on it, a free one for 0. Raises ``OSError``."""
    with socket.create_server((host, port)) as probe:
        chosen: int = probe.getsockname()[1]
        return chosen


def _wait_until_healthy(host: str, port: int) -> None:
    """The listener is up when the server is made; this waits for the first answer."""
    connection = http.client.HTTPConnection(host, port, timeout=30)
    try:
        connection.request("GET", "/health")
        connection.getresponse().read()
    finally:
        connection.close()


def _explain(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use; choose another one"
    return f"cannot listen on {host} port {port}: {error}"


def _give_up(message: str) -> int:
    sys.stderr.write(f"{message}\n")
    return 1
