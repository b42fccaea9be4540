"""The table of ``make chaos`` hides no loss."""

from pathlib import Path

import pytest

from support.chaos import TRIALS, outcome_of

ROOT = Path(__file__).resolve().parent.parent
PASSED = '<testcase><properties><property name="tried" value="7"/></properties></testcase>'
FAILED = "<testcase><failure/></testcase>"
BROKEN = "<testcase><error/></testcase>"
SILENT = "<testcase/>"


@pytest.mark.parametrize(
    ("cases", "exit_code", "tried", "losses"),
    [
        (PASSED, 0, 7, 0),
        (PASSED + PASSED + SILENT, 0, 14, 0),
        (PASSED + FAILED, 1, 7, 1),
        (FAILED + BROKEN, 1, 0, 2),
        (PASSED, 2, 7, 1),
        (SILENT, 0, 0, 1),
        ("", 5, 0, 1),
    ],
)
def test_only_what_was_tried_and_held_is_no_loss(
    tmp_path: Path, cases: str, exit_code: int, tried: int, losses: int
) -> None:
    report = tmp_path / "report.xml"
    report.write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>")

    outcome = outcome_of("cuts", report, exit_code, 1.0)

    assert (outcome.tried, outcome.losses) == (tried, losses)


def test_a_run_without_a_report_is_a_loss(tmp_path: Path) -> None:
    assert outcome_of("cuts", tmp_path / "none.xml", 0, 1.0).losses == 1


def test_every_trial_reads_its_number_and_says_what_it_tried() -> None:
    for trial in TRIALS:
        path, _, function = trial.test.partition("::")
        place = ROOT / path
        files = [place] if place.is_file() else sorted(place.glob("test_*.py"))
        text = "".join(file.read_text("utf-8") for file in files)
        assert f'"{trial.variable}"' in text, trial
        assert 'record_property("tried"' in text, trial
        assert f"def {function}" in text, trial
