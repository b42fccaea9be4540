"""What is wrong with the store is said at once, and every hour as long as it is so."""

from datetime import timedelta
from typing import cast

from support.fakes import FakeClock, RecordingObserver
from tidegate.ports import JobStore
from tidegate.worker.maintenance import Maintenance


def test_a_warning_is_told_at_once_and_every_hour() -> None:
    clock, observer = FakeClock(), RecordingObserver()
    warnings: list[str] = []
    maintenance = Maintenance(cast("JobStore", None), clock, observer, lambda: tuple(warnings))

    def told_after(time: timedelta) -> list[object]:
        clock.advance(time)
        observer.problems.clear()
        maintenance.warn()
        return [facts["message"] for event, facts in observer.problems if event == "store.warning"]

    assert told_after(timedelta()) == []
    warnings.append("fsync = off")
    assert told_after(timedelta(seconds=1)) == ["fsync = off"]
    assert told_after(timedelta(minutes=59)) == []
    assert told_after(timedelta(minutes=1)) == ["fsync = off"]
    warnings.append("full_page_writes = off")
    assert told_after(timedelta(seconds=1)) == ["fsync = off", "full_page_writes = off"]
    warnings.clear()
    assert told_after(timedelta(seconds=1)) == []
    assert told_after(timedelta(hours=2)) == []
