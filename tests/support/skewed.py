"""``tidegate`` on a host whose clock is wrong: ``python -m support.skewed SECONDS ARGUMENTS``."""

import sys
from datetime import datetime, timedelta

from tidegate.cli import main
from tidegate.clock import SystemClock

if __name__ == "__main__":
    wrong = timedelta(seconds=float(sys.argv.pop(1)))
    right = SystemClock.now

    def now(self: SystemClock) -> datetime:
        return right(self) + wrong

    SystemClock.now = now  # type: ignore[method-assign]
    sys.exit(main())
