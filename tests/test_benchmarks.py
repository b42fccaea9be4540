"""The benchmarks say what was measured: of which commit, in which order, and nothing where it failed."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, cast

import pytest
from msgspec.structs import replace

from benchmarks import comparing, publishing, results, soaking, tables
from benchmarks.bench import QUICK, Measure, Server
from benchmarks.comparing import NoSuchCommit, Pair
from benchmarks.configuration import write_configuration
from benchmarks.load import requests
from benchmarks.machine import sockets
from benchmarks.machine.http import fetch, free_port
from benchmarks.machine.processes import environment_for, python
from benchmarks.peers import installing, queues
from benchmarks.publishing import NotFitToPublish
from benchmarks.report import Figure, Report
from benchmarks.samples import Latency, Sample
from benchmarks.scenarios.catalog import SCENARIOS
from benchmarks.soaking import Watched

pytestmark = pytest.mark.anyio

ROOT: Final = Path(__file__).resolve().parent.parent
ANY_JOB: Final = "01a221e5-e19a-74b3-9a1d-d2c4da209272"
DISK: Final = ROOT / ".cache" / "bench"


def benchmarks(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


class TestRun:
    def test_from_end_to_end(self, tmp_path: Path) -> None:
        place = tmp_path / "results.json"
        short = ("--quick", "--rounds", "1", "--seconds", "0.2", "--directory", str(DISK))
        done = benchmarks("run", "store", "credentials", *short, "--json", str(place))

        assert done.returncode == 0, done.stderr
        found = json.loads(place.read_text("utf-8"))
        assert [report["scenario"] for report in found["reports"]] == ["store", "credentials"]
        assert all(report["checks"] and not report.get("failure") for report in found["reports"])
        assert "accept with 64 waiting, of (c)" in done.stdout

    def test_a_gateway_that_cannot_start_is_a_failure_and_no_figure(self, tmp_path: Path) -> None:
        broken = tmp_path / "src" / "tidegate"
        broken.mkdir(parents=True)
        (broken / "__init__.py").write_text("raise RuntimeError('torn')\n", "utf-8")
        place = tmp_path / "results.json"
        where = ("--source", str(broken.parent), "--directory", str(DISK), "--json", str(place))
        done = benchmarks("run", "credentials", "--quick", *where)

        assert done.returncode == 1
        assert "torn" in done.stdout
        assert json.loads(place.read_text("utf-8"))["reports"][0]["figures"] == []


class TestTables:
    def test_rates_and_cpu_are_the_best_round_and_latencies_the_median(self) -> None:
        rounds = [
            Sample(
                count, 1.0, cpu_us=cpu, latency=Latency(p50=p50, p90=0, p99=10 * p50, p999=0, max=20 * p50)
            )
            for count, cpu, p50 in ((100, 7.0, 1.0), (300, 5.0, 2.0), (200, 6.0, 9.0))
        ]
        run = replace(published(), reports=[Report("submit", [Figure("some", rounds)])])

        assert tables.figure_rows(run) == [("submit", "some", "300", "5", "2", "20", "180", "")]


class TestCompare:
    async def test_both_take_turns_in_going_first(self) -> None:
        order = []

        def measures(side: str) -> Mapping[str, Measure]:
            async def measure() -> Sample:
                order.append(side)
                return Sample(1, 1.0)

            return {"some": measure}

        await comparing.in_turns(3, lambda _: None, measures("here"), measures("base"))

        assert order == ["here", "base", "base", "here", "here", "base"]

    async def test_every_quantity_that_both_have_is_a_pair(self) -> None:
        here, base = iter([(10, 4.0), (30, 2.0)]), iter([(20, 8.0), (10, 5.0)])

        async def mine() -> Sample:
            count, cpu = next(here)
            return Sample(count, 1.0, cpu_us=cpu, facts={"resident_mib": 50})

        async def theirs() -> Sample:
            count, cpu = next(base)
            return Sample(count, 1.0, cpu_us=cpu)

        found = await comparing.in_turns(2, lambda _: None, {"some": mine}, {"some": theirs})

        assert found == [
            Pair("some", "per second", [10, 30], [20, 10]),
            Pair("some", "CPU µs", [4.0, 2.0], [8.0, 5.0]),
        ]
        assert [pair.ratio for pair in found] == [30 / 20, 2.0 / 5.0]
        assert [pair.ratios for pair in found] == [[0.5, 3.0], [0.5, 0.4]]

    def test_what_runs_is_the_checkout_that_is_named(self, tmp_path: Path) -> None:
        other = tmp_path / "tidegate"
        other.mkdir()
        (other / "__init__.py").touch()
        (other / "__main__.py").write_text("print('the other one')\n", "utf-8")

        assert said_by(tmp_path) == "the other one\n"
        assert "the other one" not in said_by(ROOT / "src")

    def test_the_base_is_checked_out_beside_and_gone_afterwards(self, tmp_path: Path) -> None:
        root, place = repository_with(tmp_path / "repository", "first", "second"), tmp_path / "base"

        with comparing.checkout(root, "HEAD~1", place):
            assert (place / "file").read_text("utf-8") == "first"
            assert (root / "file").read_text("utf-8") == "second"

        assert not place.exists()
        assert git(root, "worktree", "list").count("\n") == 1

    @pytest.mark.parametrize("revision", ["nothing", "--all", "HEAD:file"])
    def test_what_is_no_commit_is_refused(self, tmp_path: Path, revision: str) -> None:
        root = repository_with(tmp_path / "repository", "first")

        with pytest.raises(NoSuchCommit), comparing.checkout(root, revision, tmp_path / "base"):
            pytest.fail("there was something to check out")


def said_by(source: Path) -> str:
    done = subprocess.run(
        python("tidegate", "--version"),
        env=environment_for(source),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def repository_with(root: Path, *contents: str) -> Path:
    """One commit for each content of its only file."""
    root.mkdir()
    git(root, "init", "--quiet")
    for content in contents:
        (root / "file").write_text(content, "utf-8")
        git(root, "add", "file")
        git(root, "-c", "user.name=t", "-c", "user.email=t@t.example", "commit", "--quiet", "-m", content)
    return root


def git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, text=True)
    return done.stdout


class TestSoak:
    def test_a_calm_gateway_passes(self) -> None:
        assert missed(watched()) == []

    @pytest.mark.parametrize(
        ("seen", "complaint"),
        [
            ({"resident": [100 + minute * 1.2 / 12 for minute in range(120)]}, "growth of resident memory"),
            ({"descriptors": [80 + look / 7 for look in range(120)]}, "more descriptors in the last quarter"),
            ({"store": [4.0] * 30 + [65.0] + [4.0] * 89}, "largest WAL"),
            ({"store": [40 + look / 10 for look in range(120)]}, "tables and indexes in the last quarter"),
        ],
    )
    def test_what_grows_fails(self, seen: dict[str, Any], complaint: str) -> None:
        [only] = missed(watched(**seen))

        assert only.startswith(complaint)

    def test_growth_while_warming_up_is_none(self) -> None:
        assert missed(watched(resident=[50.0 + 2 * look for look in range(24)] + [98.0] * 96)) == []

    def test_descriptors_that_come_and_go_are_no_growth(self) -> None:
        assert missed(watched(descriptors=[80, 82, 81] * 40)) == []

    def test_one_lost_or_failed_job_fails(self) -> None:
        assert missed(watched(), lost=1) == ["jobs lost"]
        assert missed(watched(), failed=1) == ["jobs that ended without a result"]

    def test_connections_that_stay_after_the_load_fail(self) -> None:
        assert missed(watched(), left=3) == ["connections to the vendor left at rest"]

    def test_connections_of_a_process_are_counted_by_where_they_lead(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]
            assert sockets.connections_to(port, [os.getpid()]) == 0

            with socket.create_connection(("127.0.0.1", port)):
                assert sockets.connections_to(port, [os.getpid()]) == 1

    async def test_a_watch_that_ends_early_is_no_pass(self) -> None:
        gone = subprocess.Popen([sys.executable, "-c", ""])
        gone.wait()
        child = SimpleNamespace(pid=gone.pid, pids=[gone.pid])
        gateway = cast(Server, SimpleNamespace(child=child, port=1, directory=ROOT))

        with pytest.raises(FileNotFoundError):
            async with soaking.watching(gateway, gateway, Watched(lambda: 0.0)):
                await asyncio.sleep(0)

    @pytest.mark.parametrize("where", [[], ["--postgres", "--rate", "300"]], ids=["sqlite", "postgres"])
    def test_a_short_one_from_end_to_end(self, where: list[str], tmp_path: Path) -> None:
        place = tmp_path / "soak.json"
        short = ("--minutes", "0.05", "--json", str(place), "--directory", str(DISK))
        done = benchmarks("soak", *where, *short)

        assert place.exists(), done.stderr
        checks = results.read(place).reports[0].checks
        measured = {check.name: check.measured for check in checks}
        assert measured["jobs lost"] == measured["jobs that ended without a result"] == 0
        assert done.returncode == int(not all(check.is_met for check in checks))


def watched(**seen: list[float]) -> Watched:
    """Ten minutes in which nothing happened but what is given."""
    found = Watched(lambda: 0.0)
    found.at = [5.0 * look for look in range(120)]
    found.resident = seen.get("resident", [100.0] * 120)
    found.descriptors = [int(count) for count in seen.get("descriptors", [80] * 120)]
    found.calls = [54] * 120
    found.store = seen.get("store", [4.0] * 120)
    return found


def missed(seen: Watched, *, lost: int = 0, failed: int = 0, left: int = 0) -> list[str]:
    found = [
        *soaking.on_sqlite(seen),
        *soaking.on_disk(seen),
        *soaking.checks(seen, lost=lost, failed=failed, left=left),
    ]
    return [check.name for check in found if not check.is_met]


class TestPeers:
    @pytest.mark.parametrize(
        ("local", "shown"),
        [
            ("0100007F:1F90", "127.0.0.1"),
            ("00000000:1F90", "0.0.0.0"),  # noqa: S104 – what is looked for
            ("0B01A8C0:1F90", "192.168.1.11"),
            ("00000000000000000000000001000000:1F90", "::1"),
            ("00000000000000000000000000000000:1F90", "::"),
        ],
    )
    def test_addresses_are_read_as_the_kernel_prints_them(self, local: str, shown: str) -> None:
        line = f"0: {local} 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 77 1 0"

        [found] = sockets.read([line])
        [connected] = sockets.read([line.replace(" 0A ", " 01 ")])

        assert (found.address, found.inode) == (shown, "77")
        assert found.is_open_to_others is (shown not in {"127.0.0.1", "::1"})
        assert not connected.is_open_to_others

    def test_a_listener_on_loopback_is_found_and_open_to_nobody_else(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)):
            assert sockets.open_to_others([os.getpid()]) == []

            monkeypatch.setattr(sockets, "_is_loopback", lambda _: False)
            assert "127.0.0.1" in sockets.open_to_others([os.getpid()])

    def test_one_that_cannot_be_installed_says_why(self) -> None:
        with pytest.raises(subprocess.CalledProcessError) as failed:
            installing.run([sys.executable, "-c", "import sys; sys.exit('no such package')"], Path.cwd())

        assert "no such package" in installing.why(failed.value)

    def test_one_is_installed_again_when_other_packages_are_wanted(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        commands: list[Sequence[str]] = []

        def run(command: Sequence[str], _place: Path) -> None:
            commands.append(command)
            (tmp_path / "some").mkdir(exist_ok=True)

        monkeypatch.setattr(installing, "run", run)

        for packages in (("a==1",), ("a==1",), ("a==2", "b")):
            assert installing.environment(tmp_path, "some", *packages) == tmp_path / "some" / "bin"

        pip = [str(tmp_path / "some" / "bin" / "pip"), "install", "--quiet"]
        assert [command for command in commands if command[1] == "install"] == [
            [*pip, "a==1"],
            [*pip, "a==2", "b"],
        ]

    def test_ours_stands_beside_each_setting_of_a_queue(self) -> None:
        first, second, *_ = queues.QUEUES[0].settings
        queue = replace(queues.QUEUES[0], settings={first: {}, second: {}})
        found = {
            queue.ours: [Sample(900, 1.0), Sample(600, 1.0)],
            first: [Sample(300, 1.0), Sample(400, 1.0)],
            second: [Sample(600, 1.0), Sample(300, 1.0)],
        }

        report = queues.report_of(queue, found, None)

        assert [figure.name for figure in report.figures] == [queue.ours, first, second]
        assert [check.measured for check in report.checks] == [900 / 400, 900 / 600]
        assert report.checks[0].note == "900 and 400 jobs/s; round by round 1.50–3.00"

    def test_a_queue_that_is_left_out_has_a_reason_and_no_ratio(self) -> None:
        queue = queues.QUEUES[0]

        report = queues.report_of(queue, {queue.ours: [Sample(900, 1.0)]}, "no such package")

        assert ([figure.name for figure in report.figures], report.checks) == ([queue.ours], [])
        assert report.failure == "left out: no such package"

    def test_ours_is_measured_right_before_those_it_is_compared_with(self) -> None:
        gone, there = queues.QUEUES
        measures = dict.fromkeys((gone.ours, there.ours, *there.settings), nothing)

        assert list(queues.side_by_side(measures)) == [gone.ours, there.ours, *there.settings]


async def nothing() -> Sample:
    return Sample(0, 1.0)


class TestPublish:
    def test_the_published_tables_are_those_of_the_published_run(self) -> None:
        for path, text in publishing.pages(ROOT, published()).items():
            assert path.read_text("utf-8") == text, f"{path.name}: run python -m benchmarks publish"

    def test_the_published_run_is_whole(self) -> None:
        publishing.require_whole(published(), [report.scenario for report in published().reports])

    @pytest.mark.parametrize(
        ("changes", "objection"),
        [
            ({"pace": QUICK}, "quick look"),
            ({"commit": "0123456789ab-changed"}, "no commit"),
            ({"commit": "no-commit"}, "no commit"),
            ({"reports": [Report("store")]}, "lacks submit, poll"),
            ({"reports": [Report(name, failure="TimeoutError: ") for name in SCENARIOS]}, "poll failed"),
        ],
    )
    def test_half_a_run_is_refused(self, changes: dict[str, Any], objection: str) -> None:
        with pytest.raises(NotFitToPublish, match=objection):
            publishing.require_whole(replace(published(), **changes), SCENARIOS)

    def test_a_refused_run_changes_no_page(self, tmp_path: Path) -> None:
        before = [path.read_bytes() for path in publishing.pages(ROOT, published())]
        results.write(replace(published(), pace=QUICK), tmp_path / "quick.json")

        done = benchmarks("publish", str(tmp_path / "quick.json"))

        assert (done.returncode, done.stderr) == (1, "it was a quick look\n")
        assert [path.read_bytes() for path in publishing.pages(ROOT, published())] == before


def published() -> results.Results:
    return results.read(results.LATEST)


def test_the_gateway_without_a_store_answers_as_the_other_does(tmp_path: Path) -> None:
    """Yardstick (b) is wired by hand: it has to follow when the gateway's own wiring changes."""
    port = free_port()
    config = write_configuration(tmp_path, port, "http://127.0.0.1:9", concurrency=None)
    (tmp_path / "result.json").write_bytes(b'{"found":true}')
    command = python("benchmarks.children.hollow", str(config), str(tmp_path / "result.json"))
    environment = environment_for(ROOT / "src")
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT, env=environment) as hollow,
    ):
        try:
            answer = until_answered(port, hollow)
        finally:
            hollow.kill()

    assert json.loads(answer)["result"] == {"found": True}


def until_answered(port: int, process: "subprocess.Popen[bytes]") -> bytes:
    headers = {"authorization": f"Bearer {requests.KEY}"}
    give_up = time.monotonic() + 20
    while True:
        try:
            status, answer = fetch(port, "GET", f"{requests.CHAT}/{ANY_JOB}", headers=headers)
        except OSError:
            assert process.poll() is None
            assert time.monotonic() < give_up
            time.sleep(0.05)
        else:
            assert status == 200
            return answer
