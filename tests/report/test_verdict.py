"""The verdict in a sentence, and what is next where only the files are known."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from batchrun.billing.tally import Tally
from batchrun.records.outcome import FailureCode
from batchrun.report.report import make_report
from batchrun.report.verdict import meaning, verdict, ways_out, what_next, with_last_words
from tests.report.test_report import failed, head, tally_of


def said(tally: Tally, pending: int | None = None) -> str:
    report = make_report(tally, pending)
    return f"{verdict(report)}; {what_next(report, tally)}"


@pytest.mark.parametrize(
    ("tally", "pending", "expected"),
    [
        (tally_of(head(1), head(2)), 0, "All 2 lines succeeded; the bill is $0.0044; nothing is left to do"),
        (tally_of(head(1)), 0, "The only line succeeded; the bill is $0.0022; nothing is left to do"),
        (
            tally_of(head(1), failed(2, "http_503", retryable=True)),
            1,
            "1 of 3 lines succeeded, 1 failed and 1 are still to do; the bill is $0.0022; "
            "run the same command again: it sends the 1 line left",
        ),
        (
            tally_of(head(1), failed(2, "http_503", retryable=True)),
            0,
            "1 of 2 lines succeeded, 1 failed; the bill is $0.0022; "
            "run the same command again: it sends the failed lines again",
        ),
        (
            tally_of(head(1), failed(2, "empty_output")),
            0,
            "1 of 2 lines succeeded, 1 failed; the bill is $0.0022; run the same command again with --retry-errors",
        ),
        (
            tally_of(head(1), failed(2, "invalid_prompt")),
            0,
            "1 of 2 lines succeeded, 1 failed; the bill is $0.0022; "
            "see below what to change before the failed lines are sent again",
        ),
        (
            tally_of(head(1, asked="nobody-knows")),
            0,
            "The only line succeeded; 1 line has no known price; nothing is left to do",
        ),
        (
            tally_of(head(1, usage=None), head(2)),
            0,
            "All 2 lines succeeded; the bill is $0.0022 and 1 answer has no usage (its cost is not known); "
            "nothing is left to do",
        ),
        (
            tally_of(head(1, usage=None), head(2, usage=None)),
            0,
            "All 2 lines succeeded; 2 answers have no usage (their cost is not known); nothing is left to do",
        ),
        (
            tally_of(),
            0,
            "There are no records; no run log says how many lines are to do: run the command that makes these results",
        ),
        (
            tally_of(),
            3,
            "0 of 3 lines succeeded, 3 are still to do; the bill is $0.00; "
            "run the same command again: it sends the 3 lines left",
        ),
    ],
)
def test_it_is_one_sentence(tally: Tally, pending: int, expected: str) -> None:
    assert said(tally, pending) == expected


def test_each_code_has_a_meaning_and_a_way_out() -> None:
    lines = [failed(1, "invalid_prompt"), failed(2, "invalid_prompt", retryable=True), failed(3, "redirected")]
    tally = tally_of(*lines)
    report = make_report(tally, 0)
    assert [sentence.split(",")[0] for sentence in ways_out(report, tally, "invalid_prompt")] == [
        "The next run of the same command sends these lines again.",
        "Correct these requests",
    ]
    assert next(ways_out(report, tally, "redirected")).startswith("Correct --base-url")
    assert meaning("invalid_prompt") == "a code of the gateway"
    assert meaning("http_503") == "the answer has an error status, and no error in its body says more"
    assert all(meaning(code) == code.meaning for code in FailureCode)


def test_lines_that_are_gone_have_no_way_out() -> None:
    lines = [failed(1, "invalid_prompt"), failed(2, "invalid_prompt", retryable=True)]
    tally = tally_of(*lines)
    tally.give_up(lines[1])
    report = make_report(tally, 0)
    assert [sentence.split(",")[0] for sentence in ways_out(report, tally, "invalid_prompt")] == [
        "Correct these requests"
    ]
    tally.give_up(lines[0])
    assert list(ways_out(report, tally, "invalid_prompt")) == []
    assert what_next(report, tally).startswith("nothing is left to do")


def test_the_last_words_of_the_run_count_while_the_lines_are_those_of_its_end(tmp_path: Path) -> None:
    report = make_report(tally_of(head(1), failed(2, "http_503")), 0)
    told = msgspec.structs.replace(report, next_command="batchrun run again", next_change="correct it", stopped="why")
    path = tmp_path / "results.jsonl.report.json"
    path.write_bytes(told.to_json())
    assert with_last_words(report, path) == told
    assert with_last_words(make_report(tally_of(head(1)), 0), path).next_command is None, "it is of another time"
    path.write_bytes(b"{nonsense")
    assert with_last_words(report, path) == report
    assert with_last_words(report, tmp_path / "none.json") == report


def test_a_running_job_is_not_to_be_started_again_whatever_the_run_before_said(tmp_path: Path) -> None:
    tally = tally_of(head(1), failed(2, "http_503", retryable=True))
    report = msgspec.structs.replace(make_report(tally, 5), running=True)
    assert what_next(report, tally) == "the job was running when this was made; do not start it again while it runs"
    assert next(ways_out(report, tally, "http_503")) == "Once the run has ended:"
    path = tmp_path / "results.jsonl.report.json"
    path.write_bytes(msgspec.structs.replace(report, running=False, next_command="batchrun run again").to_json())
    assert with_last_words(report, path) == report
