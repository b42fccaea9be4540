"""``tidegate local-model``: a small real model as a provider on this machine."""

from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number

from tidegate.cli import weights
from tidegate.cli.options import Flag, examples

_AT_LEAST_ONE = Number(gte=1)

app = App(
    name="local-model",
    help_prologue=examples("tidegate local-model", "tidegate local-model --port 8089 --threads 2 --verify"),
    help_epilogue="Fetches the weights at the first start, by pinned hash; then prints its address and serves until "
    'Ctrl-C. Needs the extra: pip install "tidegate[local]".',
)


@app.default
def local_model(
    *,
    host: Annotated[str, Parameter(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, Parameter(help="Port to listen on; 0 takes a free one.")] = 8089,
    threads: Annotated[
        int | None,
        Parameter(help="Cores to use; by default all but one, at most 4.", validator=_AT_LEAST_ONE),
    ] = None,
    slots: Annotated[int, Parameter(help="Requests at a time.", validator=_AT_LEAST_ONE)] = 4,
    verify: Annotated[
        Flag, Parameter(help="Check the digest of weights that are in the cache already.")
    ] = False,
    verbose: Annotated[Flag, Parameter(alias="-v", help="Show what the inference server says.")] = False,
) -> int:
    return weights.run(host=host, port=port, threads=threads, slots=slots, verify=verify, is_verbose=verbose)
