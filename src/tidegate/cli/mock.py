"""``tidegate mock``: the mock vendor as a server of its own."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number

from tidegate import mock_vendor
from tidegate.cli.options import Duration, examples

app = App(
    name="mock",
    help_prologue=examples(
        "tidegate mock --port 8089 --latency 2s", "tidegate mock --script outage.yaml --journal calls.jsonl"
    ),
    help_epilogue="Prints its address and serves until Ctrl-C. GET /mock/calls tells what it was asked.",
)


@app.default
def mock(
    *,
    host: Annotated[str, Parameter(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, Parameter(help="Port to listen on; 0 takes a free one.")] = 8090,
    latency: Annotated[Duration | None, Parameter(help="How long every call takes.")] = None,
    fail_rate: Annotated[
        float | None, Parameter(help="Share of calls that fail, 0 to 1.", validator=Number(gte=0, lte=1))
    ] = None,
    script: Annotated[
        Path | None, Parameter(help="YAML, TOML or JSON: which calls are answered how.")
    ] = None,
    journal: Annotated[Path | None, Parameter(help="File that gets one JSON line per call.")] = None,
    seed: Annotated[int, Parameter(help="For what the script leaves to chance.")] = 0,
) -> int:
    return mock_vendor.run(
        host=host,
        port=port,
        latency=None if latency is None else latency.total_seconds(),
        fail_rate=fail_rate,
        script=script,
        journal=journal,
        seed=seed,
    )
