"""Submitters that never wait, from a process of their own: ``python -m support.flood PORT SUBMITTERS SECONDS``.

At the end it tells which answers came, how many refusals did not say when to come again, and which jobs were accepted.
"""

import asyncio
import json
import sys

from support.load import LARGE, Load


async def main() -> None:
    port, submitters, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    load = Load(port, submitters, LARGE)
    running = asyncio.create_task(load.run())
    await asyncio.sleep(seconds)
    load.is_over = True
    await running
    told = {"statuses": load.statuses, "unhelpful": load.unhelpful, "acknowledged": load.acknowledged}
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    asyncio.run(main())
