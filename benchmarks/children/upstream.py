"""Bare calls through ``tidegate.transport``: what a job's upstream call costs without the job."""

import asyncio
from datetime import timedelta
from typing import Any, Final

from benchmarks.children import dialogue
from benchmarks.load.requests import chat_body
from tidegate.clock import SystemClock
from tidegate.domain.inference import Credential, HttpCall, HttpReply
from tidegate.domain.secret import Secret
from tidegate.transport import Egress, UpstreamTransport

_CALLS_AT_ONCE: Final = 64
_LIMIT: Final = timedelta(seconds=30)
_WARM_UP: Final = 500


async def talk(vendor_url: str, _directory: str) -> None:
    transport = UpstreamTransport(SystemClock(), {"openai": Egress()})
    call = HttpCall(
        provider="openai",
        method="POST",
        url=f"{vendor_url}/v1/chat/completions",
        headers=(("content-type", "application/json"),),
        body=chat_body(1024, model="echo"),
        credential=Credential(vendor_url, "authorization", Secret("Bearer sk-vendor-main")),
    )

    async def send(count: int) -> None:
        left = iter(range(count))

        async def caller() -> None:
            for _ in left:
                reply = await transport.send(call, time_limit=_LIMIT)
                if not isinstance(reply, HttpReply) or reply.status != 200:
                    raise RuntimeError(f"the vendor did not answer: {reply}")

        await asyncio.gather(*(caller() for _ in range(_CALLS_AT_ONCE)))

    async def calls(count: int) -> dict[str, Any]:
        await send(_WARM_UP)
        watch = dialogue.Stopwatch()
        await send(count)
        return watch.sample(count)

    await dialogue.answer({"calls": calls})


if __name__ == "__main__":
    dialogue.run(talk)
