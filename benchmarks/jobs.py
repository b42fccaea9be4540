"""Jobs from the first submit to the last settle, as a sample."""

import asyncio
import re
from typing import Final

from msgspec.structs import replace

from benchmarks.bench import CLIENTS, Server
from benchmarks.load.connection import LoadFailed
from benchmarks.load.loops import send_all
from benchmarks.load.session import Load
from benchmarks.machine.http import fetch, fetch_json
from benchmarks.samples import Sample

_FINISHED: Final = re.compile(rb"^tidegate_jobs_finished_total\{([^}]*)\} ([0-9.e+]+)$", re.MULTILINE)
_SUCCEEDED: Final = b'outcome="succeeded"'
_LOOK_EVERY: Final = 0.02
_MOST: Final = 300.0
"""Seconds a load may take to its end."""


async def run_jobs(gateway: Server, vendor: Server, submit: bytes, count: int) -> Sample:
    """``count`` jobs submitted by 64 clients: all CPU time until the last is settled, by job.

    The end is looked for at the vendor first: asking the gateway would be work for it.
    """
    before = finished(gateway)
    fetch(vendor.port, "DELETE", "/mock/calls")
    meter = gateway.meter(vendor)
    meter.start()
    async with asyncio.timeout(_MOST):
        await send_all(Load(gateway.port, lambda: submit, CLIENTS), count)
        while fetch_json(vendor.port, "/mock/calls")["total"] < count:
            await asyncio.sleep(_LOOK_EVERY)
        while finished(gateway) < before + count:
            await asyncio.sleep(_LOOK_EVERY)
    sample = meter.stop().sample(count)
    calls = fetch_json(vendor.port, "/mock/calls")
    if calls["by_status"] != {"200": count}:
        raise LoadFailed(f"the vendor answered {calls['by_status']}, not {count} times 200")
    return replace(sample, facts={"in_flight": calls["most_in_flight"]})


def finished(gateway: Server) -> int:
    """Jobs that have ended since the gateway started, one way or another."""
    return _ended(gateway, b"")


def completed(gateway: Server) -> int:
    """Those of them that have a result."""
    return _ended(gateway, _SUCCEEDED)


def _ended(gateway: Server, label: bytes) -> int:
    _, page = fetch(gateway.port, "GET", "/metrics")
    return round(sum(float(count) for labels, count in _FINISHED.findall(page) if label in labels))
