"""``tidegate jobs`` against a running gateway."""

import json
import re
import shlex
import signal
from pathlib import Path

import pytest

from cli.conftest import KEY
from cli.runs import COMMAND, Cli, one_line

ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def submitted(tg: Cli, *arguments: str, model: str = "mock/echo", text: str = "hello") -> str:
    """The id of a job."""
    result = tg("jobs", "submit", "--model", model, "--message", text, *arguments)
    assert result.returncode == 0, result
    return one_line(result.stdout)


def test_submit_prints_the_id_and_how_to_go_on(tg: Cli) -> None:
    result = tg("jobs", "submit", "--model", "mock/echo", "--message", "hello")

    job_id = one_line(result.stdout)
    assert ID.fullmatch(job_id)
    assert one_line(result.stderr) == f"Wait for it with: tidegate jobs wait {job_id}"


def test_submit_and_wait_prints_id_and_answer(tg: Cli) -> None:
    result = tg.process("jobs", "submit", "--model", "mock/echo", "--message", "two\nlines", "--wait", "10")

    job_id, answer = result.stdout.split("\n", 1)
    assert (result.returncode, answer, result.stderr) == (0, "two\nlines\n", "")
    assert ID.fullmatch(job_id)


def test_submit_as_json_is_the_receipt_or_the_whole_job(tg: Cli) -> None:
    receipt = tg("jobs", "submit", "--model", "mock/echo", "--message", "hi", "--json")
    job = tg("jobs", "submit", "--model", "mock/echo", "--message", "hi", "--json", "--wait", "10")

    assert json.loads(one_line(receipt.stdout)).keys() == {"id", "status", "created_at"}
    assert json.loads(one_line(job.stdout))["result"]["choices"][0]["message"]["content"] == "hi"


def test_a_body_is_sent_as_it_stands(tg: Cli, tmp_path: Path) -> None:
    body = {"model": "mock/echo", "messages": [{"role": "user", "content": "é"}], "metadata": {"a": "b"}}
    file = tmp_path / "body.json"
    file.write_text(json.dumps(body))

    from_file = tg("jobs", "submit", "-f", str(file), "--wait", "10", "--json")
    from_stdin = tg("jobs", "submit", "-f", "-", "--wait", "10", "--json", stdin=json.dumps(body))

    for result in (from_file, from_stdin):
        job = json.loads(result.stdout)
        assert (job["metadata"], job["result"]["choices"][0]["message"]["content"]) == ({"a": "b"}, "é")


def test_flags_replace_what_the_file_says(tg: Cli) -> None:
    body = {"model": "mock/fail", "messages": [{"role": "user", "content": "hi"}]}

    result = tg(
        "jobs", "submit", "-f", "-", "--model", "mock/echo", "--fallback", "mock/slow", "--json", "--wait", "10",
        stdin=json.dumps(body),
    )  # fmt: skip

    job = json.loads(result.stdout)
    assert (job["model"], job["candidates"]) == ("mock/echo", ["mock/echo", "mock/slow"])


def test_options_become_headers_of_the_job(tg: Cli) -> None:
    job_id = submitted(
        tg, "--priority", "5", "--max-attempts", "7", "--timeout", "10m", "--ttl", "2h", "--idempotency-key", "k1"
    )  # fmt: skip

    again = submitted(tg, "--idempotency-key", "k1")
    job = json.loads(tg("jobs", "show", job_id, "--json").stdout)
    options = job["options"]
    assert again == job_id
    assert (options["priority"], options["max_attempts"]) == (5, 7)
    assert (options["timeout"], options["result_ttl"]) == (600, 7200)


def test_a_failed_job_is_exit_code_1_with_its_error(tg: Cli) -> None:
    result = tg.process(
        "jobs", "submit", "--model", "mock/fail", "--message", "hi", "--max-attempts", "1", "--wait", "20"
    )  # fmt: skip

    assert result.returncode == 1
    assert re.fullmatch(r"The job failed: .+ \[upstream_\w+\]", one_line(result.stderr)), result.stderr


def test_a_wait_that_ends_before_the_job_is_exit_code_8_and_says_how_to_go_on(tg: Cli) -> None:
    job_id = submitted(tg, model="mock/slow")

    result = tg("jobs", "wait", job_id, "--timeout", "500ms")

    assert (result.returncode, result.stdout) == (8, "")
    assert one_line(result.stderr).endswith(f"the job goes on: tidegate jobs wait {job_id}")


def test_ctrl_c_during_a_wait_is_exit_code_130_and_leaves_the_job(tg: Cli) -> None:
    # The signal may come while a connection is being made, and then Python complains of a forgotten socket.
    quiet = tg.with_variables(PYTHONWARNINGS="ignore")
    process = quiet.start("jobs", "submit", "--model", "mock/slow", "--message", "hi", "--wait", "30")
    assert process.stdout is not None
    started = process.stdout.readline().strip()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)

    assert process.returncode == 130
    assert err == f"\nInterrupted; the job goes on: tidegate jobs wait {started}\n"
    assert tg("jobs", "wait", started).stdout == "hi\n"


def test_wait_prints_the_answer_of_a_job_that_has_ended(tg: Cli) -> None:
    job_id = submitted(tg, text="again")

    assert tg.process("jobs", "wait", job_id).stdout == "again\n"


def test_list_is_one_line_per_job_newest_first(tg: Cli) -> None:
    older, newer = submitted(tg, text="1"), submitted(tg, text="2")
    tg("jobs", "wait", newer)
    tg("jobs", "wait", older)

    result = tg("jobs", "list", "--limit", "2", "--status", "completed", "--model", "mock/echo")

    rows = [line.split("\t") for line in result.stdout.splitlines()]
    assert [row[:4] for row in rows] == [[job, "completed", "mock/echo", "1"] for job in (newer, older)]


def test_list_as_json_is_json_lines_of_the_api_and_reads_every_page(tg: Cli) -> None:
    for number in range(3):
        submitted(tg, text=str(number))

    lines = tg.process("jobs", "list", "--all", "--json").stdout.splitlines()
    two = tg.process("jobs", "list", "--limit", "2", "--json").stdout.splitlines()

    assert {json.loads(line)["object"] for line in lines} == {"job"}
    assert len(lines) >= 3
    assert lines[:2] == two


def test_a_virtual_key_lists_its_own_jobs_only(tg: Cli) -> None:
    submitted(tg)
    own = submitted(tg, "--key", KEY)

    result = tg("jobs", "list", "--all", "--key", KEY)

    assert [line.split("\t")[0] for line in result.stdout.splitlines()] == [own]


def test_show_tells_the_whole_story(tg: Cli) -> None:
    job_id = submitted(tg, text="the story")
    tg.process("jobs", "wait", job_id)

    result = tg.process("jobs", "show", job_id)

    facts = dict(line.split("\t") for line in result.stdout.splitlines() if "\t" in line)
    assert (facts["id"], facts["status"], facts["attempt 1"]) == (job_id, "completed", "succeeded")
    assert facts["call 1.1"].startswith("mock/echo, HTTP 200")
    assert result.stdout.endswith("\nthe story\n")


def test_times_are_local_or_utc_as_wished(tg: Cli) -> None:
    job_id = submitted(tg)

    local = tg.with_variables(TZ="Etc/GMT-3").process("jobs", "show", job_id).stdout
    utc = tg.with_variables(TZ="Etc/GMT-3").process("jobs", "show", job_id, "--utc").stdout

    hours = [int(re.findall(r"created\t\S+ (\d\d):", text)[0]) for text in (local, utc)]
    assert (hours[0] - hours[1]) % 24 == 3


def test_on_a_terminal_ids_are_never_cut(tg: Cli) -> None:
    job_id = submitted(tg)

    code, shown = tg.on_terminal("jobs", "list", "--limit", "1", width=40)

    assert code == 0
    assert "ID  " in shown
    assert job_id in shown


def test_what_a_model_says_cannot_move_the_cursor_of_a_terminal(tg: Cli) -> None:
    job_id = submitted(tg, text="\x1b[2Jgone")

    _, shown = tg.on_terminal("jobs", "wait", job_id)

    assert "\\x1b[2Jgone" in shown
    assert "\x1b[2J" not in shown


def test_cancel_ends_jobs_and_a_partial_failure_is_exit_code_5(tg: Cli) -> None:
    one, two = submitted(tg, model="mock/slow"), submitted(tg, model="mock/slow")

    result = tg.process("jobs", "cancel", one, "no-such-job", two)
    shown = tg.process("jobs", "list", "--status", "failed", "--limit", "2")

    assert (result.returncode, result.stdout) == (5, f"cancelled {one}\ncancelled {two}\n")
    assert one_line(result.stderr) == "no-such-job: job not found or expired [job_not_found]"
    assert {line.split("\t")[1] for line in shown.stdout.splitlines()} == {"failed (cancelled)"}


@pytest.mark.parametrize("command", ["show", "wait", "cancel"])
def test_a_job_that_does_not_exist_is_exit_code_7(tg: Cli, command: str) -> None:
    result = tg("jobs", command, "no-such-job")

    assert result.returncode == 7
    assert "job_not_found" in one_line(result.stderr)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--model", "mock/echo"), "say either --message TEXT or -f FILE"),
        (("--message", "hi"), "name a model"),
        (("-f", "nowhere.json"), "cannot read nowhere.json"),
        (("-f", "-", "--model", "mock/echo"), "is not JSON"),
        (("--model", "mock/echo", "--message", "hi", "--priority", "9"), "Must be <= 5"),
        (("--model", "mock/echo", "--message", "hi", "--wait", "soon"), '"soon" is not a duration'),
    ],
)
def test_a_wrong_command_line_is_exit_code_2(tg: Cli, arguments: tuple[str, ...], complaint: str) -> None:
    result = tg("jobs", "submit", *arguments, stdin="{")

    assert (result.returncode, result.stdout) == (2, "")
    assert complaint in result.stderr


def test_what_the_gateway_refuses_is_exit_code_1_with_its_words(tg: Cli) -> None:
    result = tg("jobs", "submit", "--model", "nobody/model", "--message", "hi")

    assert result.returncode == 1
    assert one_line(result.stderr).endswith("[provider_unresolved]")


def test_a_reader_that_leaves_early_is_no_error(tg: Cli) -> None:
    for number in range(3):
        submitted(tg, text=str(number))

    result = tg.shell(f"{shlex.join(COMMAND)} jobs list --all | head -n 1")

    assert result.stderr == ""
    assert one_line(result.stdout)
