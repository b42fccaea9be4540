"""``tidegate demo``: a real answer from a small model, then the promise: kill the gateway, lose nothing."""

import signal
from time import perf_counter
from typing import Annotated, Any, Final

from cyclopts import App, Parameter
from cyclopts.validators import Number

from tidegate import local_model
from tidegate.cli import weights
from tidegate.cli.demo_report import Report, Story, Tally
from tidegate.cli.exits import CliError
from tidegate.cli.job_views import answer_text
from tidegate.cli.options import DEFAULT_OUTPUT, Flag, Output, examples
from tidegate.cli.proof import Proof
from tidegate.cli.screen import Screen
from tidegate.cli.stage import Stage
from tidegate.cli.waiting import SUBMIT_PATH, until_ended
from tidegate.local_model import WeightsError

_QUESTION: Final = "What is the capital of France? Answer in one short sentence."

app = App(
    name="demo",
    help_prologue=examples("tidegate demo", "tidegate demo --jobs 500 --kills 3 --no-model"),
    help_epilogue="Everything runs in a temporary directory on loopback, no key is needed, and at the end nothing is "
    "left. Exit code 1 unless every job was completed, once, with its own answer.",
)


@app.default
def demo(
    *,
    jobs: Annotated[
        int, Parameter(help="Jobs in flight at the kill.", validator=Number(gte=1, lte=1000))
    ] = 200,
    kills: Annotated[
        int, Parameter(help="How often the gateway is killed.", validator=Number(gte=1, lte=10))
    ] = 1,
    no_model: Annotated[Flag, Parameter(help="Leave the real model out.")] = False,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    screen = Screen(output)
    story = Story(screen)
    # Whoever ends us ends the children too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    began = perf_counter()
    with Stage.set() as stage:
        report = _perform(stage, story, jobs=jobs, kills=kills, no_model=no_model)
    return story.end(report, seconds=perf_counter() - began)


def _perform(stage: Stage, story: Story, *, jobs: int, kills: int, no_model: bool) -> Report:
    providers: dict[str, Any] = {}
    model = "mock/echo"
    if not no_model and (url := _start_model(stage, story)) is not None:
        providers["local"] = {"network_config": {"base_url": url}}
        model = f"local/{local_model.MODEL_NAME}"
    vendor = stage.start("mock", "--port", "0")
    providers["mock"] = {
        "network_config": {"base_url": vendor.url},
        "concurrency_and_buffer_size": {"concurrency": jobs},
    }
    config = stage.write_configuration(providers, loss_budget=kills + 3)
    gateway, client = stage.start_gateway(config)
    story.started("gateway", client.url, gateway.seconds)

    # So small a model wanders off easily; without chance it stays with what it knows.
    request = {"model": model, "messages": [{"role": "user", "content": _QUESTION}], "temperature": 0}
    story.asks(SUBMIT_PATH, request)
    receipt = client.send("POST", SUBMIT_PATH, request, {"x-bf-async-job-result-ttl": "3600"}).body
    story.accepted(receipt)
    asked_at = perf_counter()
    job = until_ended(client, receipt["id"], None, route=SUBMIT_PATH)
    story.answered(f"{SUBMIT_PATH}/{receipt['id']}", job, seconds=perf_counter() - asked_at)

    proof = Proof(stage, story, config, vendor_url=vendor.url)
    tally: Tally = proof.run(gateway, client, jobs=jobs, kills=kills)
    answer = answer_text(job["result"]) if job["status"] == "completed" else None
    return Report(model=model, question=_QUESTION, answer=answer, tally=tally)


def _start_model(stage: Stage, story: Story) -> str | None:
    """Its address; ``None`` when there is none to be had, and then the story says why."""
    if not local_model.is_installed():
        story.without_model(weights.INSTALL_HINT)
        return None
    try:
        with story.download() as progress:
            weights.fetch(progress=progress)
        child = stage.start("local-model", "--port", "0")
    except (WeightsError, CliError) as error:
        story.without_model(str(error))
        return None
    story.started(f"local model {local_model.MODEL_NAME}", child.url, child.seconds)
    return child.url
