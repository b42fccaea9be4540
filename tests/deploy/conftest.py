"""The chart is tested with Helm's own library, which has no wheel for Linux on arm64."""

import platform
import sys

HAS_HELM = sys.platform != "linux" or platform.machine() == "x86_64"
collect_ignore = [] if HAS_HELM else ["test_chart.py"]


def pytest_report_header() -> str | None:
    return (
        None if HAS_HELM else "tests/deploy/test_chart.py: not collected, Helm has no wheel for this machine"
    )
