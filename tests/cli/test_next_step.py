"""What the end of a run says to do next: never a command that brings the same end again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.cli.commands import FAST, Command, records, write_requests

START = "batchrun run requests.jsonl -o r.jsonl --simulate --simulate-latency 0"


def last_lines(batchrun: Command, requests: Path, script: str, *words: str) -> list[str]:
    """The lines of the screen that say what to do next, without the script that made the failures."""
    done = batchrun("run", requests, "-o", "r.jsonl", *FAST, *words, "--simulate-script", script)
    told = [line for line in done.err.splitlines() if line.startswith(("first: ", "next: "))]
    assert done.err.splitlines()[-len(told) :] == told or not told
    report = json.loads(Path("r.jsonl.report.json").read_bytes())
    said = [("first: ", report["next_change"]), ("next: ", report["next_command"])]
    assert [label + text for label, text in said if text] == told
    return [line.replace(f" --simulate-script {shlex.quote(script)}", "") for line in told]


def run_again(batchrun: Command, told: Sequence[str]) -> str:
    return batchrun(*shlex.split(told[-1])[2:]).err


SAME = ": the same request gets the same end"
CORRECTED = f"first: correct 1 line in requests.jsonl ({{}}){SAME}"
RAISED = f"first: raise max_output_tokens in requests.jsonl (1 answer cut off at it){SAME}"


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("context; ok !", [CORRECTED.format("context_length_exceeded"), f"next: {START} --changed resend"]),
        ("nomodel; ok !", [CORRECTED.format("model_not_found"), f"next: {START} --changed resend"]),
        ("toolarge; ok !", [CORRECTED.format("rate_limit_exceeded"), f"next: {START} --changed resend"]),
        ("convert; ok !", [CORRECTED.format("convert_request_failed"), f"next: {START} --changed resend"]),
        ("filtered; ok !", [CORRECTED.format("incomplete_content_filter"), f"next: {START} --changed resend"]),
        ("incomplete; ok !", [RAISED, f"next: {START} --changed resend"]),
        ("refusal; ok !", []),
        ("emptyout; ok !", [f"next: {START} --retry-errors"]),
        ("queued; ok !", [f"next: {START} --retry-errors"]),
        ("redirect; ok !", [f"first: correct --base-url (1 line redirected){SAME}", f"next: {START} --retry-errors"]),
        (
            "context; incomplete; ok !",
            [
                "first: correct 1 line in requests.jsonl (context_length_exceeded) and raise max_output_tokens in "
                f"requests.jsonl (1 answer cut off at it){SAME}",
                f"next: {START} --changed resend",
            ],
        ),
        ("context; emptyout; ok !", [CORRECTED.format("context_length_exceeded"), f"next: {START} --retry-errors"]),
    ],
)
def test_each_end_has_its_way_on(batchrun: Command, requests: Path, script: str, told: list[str]) -> None:
    assert last_lines(batchrun, requests, script) == told


@pytest.mark.parametrize(("script", "words"), [("context; ok !", ()), ("500*; ok !", ("--max-attempts", "1"))])
def test_what_failed_and_is_in_the_file_no_more_asks_for_nothing(
    batchrun: Command, requests: Path, script: str, words: Sequence[str]
) -> None:
    """Whoever takes out a bad line has corrected it; of two such lines the other one is told of."""
    last_lines(batchrun, requests, script, *words)
    lines = requests.read_text().splitlines(keepends=True)
    (failed,) = (at for at, record in enumerate(records(Path("r.jsonl"))) if record["error"] is not None)
    bad = next(line for line in lines if json.loads(line)["custom_id"] == records(Path("r.jsonl"))[failed]["custom_id"])
    requests.write_text("".join(line for line in lines if line != bad))
    assert last_lines(batchrun, requests, "ok", *words) == []
    write_requests(requests, 4)
    told = last_lines(batchrun, requests, "context*", *words)
    assert "2 lines" in told[0]
    requests.write_text(requests.read_text().replace(bad, ""))
    assert CORRECTED.format("context_length_exceeded") in last_lines(batchrun, requests, "ok", *words)


def test_retryable_failures_alone_take_the_same_command(batchrun: Command, requests: Path) -> None:
    told = last_lines(batchrun, requests, "500*; ok !", "--max-attempts", "1")
    assert told == [f"next: {START} --max-attempts 1"]
    assert "sending again: 1 line" in run_again(batchrun, told)


def test_retryable_and_final_failures_are_both_told_in_two_lines(batchrun: Command, requests: Path) -> None:
    """The command sends the retryable line again as it is, and the other one only if it was corrected."""
    told = last_lines(batchrun, requests, "500*; context; ok !", "--max-attempts", "1")
    command = f"next: {START} --max-attempts 1 --changed resend"
    assert told == [CORRECTED.format("context_length_exceeded"), command]
    assert "sending again: 1 line" in run_again(batchrun, told)


def test_the_command_sends_what_was_corrected_and_nothing_else(batchrun: Command, requests: Path) -> None:
    told = last_lines(batchrun, requests, "context; incomplete; ok !")
    before = {record["custom_id"]: record for record in records(Path("r.jsonl"))}
    failed = [name for name, record in before.items() if record["error"]]
    lines = [json.loads(line) for line in requests.read_text().splitlines()]
    for line in lines:
        if line["custom_id"] == failed[0]:
            line["body"]["input"] = "shorter"
    requests.write_text("".join(json.dumps(line) + "\n" for line in lines))
    run_again(batchrun, told)
    after = {record["custom_id"]: record for record in records(Path("r.jsonl"))}
    assert [name for name in before if after[name] != before[name]] == [failed[0]]
    assert after[failed[0]]["error"] is None


def test_a_limit_that_the_command_line_sets_is_raised_there(batchrun: Command, requests: Path) -> None:
    told = last_lines(batchrun, requests, "incomplete; ok !", "--set", "max_output_tokens=100")
    assert told == [
        f"first: raise --set max_output_tokens (1 answer cut off at it){SAME}",
        f"next: {START} --set max_output_tokens=100 --retry-errors --changed keep",
    ]
    raised = [told[1].replace("max_output_tokens=100", "max_output_tokens=200")]
    assert "sending again: 1 line" in run_again(batchrun, raised), "the other answers are kept"
    assert [record["error"] for record in records(Path("r.jsonl"))] == [None] * 3


def test_an_answer_that_is_too_large_asks_for_a_larger_limit(batchrun: Command, requests: Path) -> None:
    told = last_lines(batchrun, requests, "ok !", "--max-response-bytes", "1024")
    assert told == [
        f"first: raise --max-response-bytes (3 answers larger than that){SAME}",
        f"next: {START} --max-response-bytes 1024 --retry-errors",
    ]


def test_lines_that_are_left_take_the_same_command_without_retrying_errors(batchrun: Command, requests: Path) -> None:
    told = last_lines(batchrun, requests, "context; ok !", "-n", "2", "-c", "1", "--retry-errors")
    assert told == [f"next: {START} -n 2 -c 1"]


def test_several_codes_are_named_the_most_frequent_first(batchrun: Command) -> None:
    requests = write_requests(Path("requests.jsonl"), 6)
    told = last_lines(batchrun, requests, "context; context; nomodel; convert; 400; 422 !")
    assert told[0].startswith("first: correct 6 lines in requests.jsonl (context_length_exceeded, ")
    assert told[0].endswith(f", …){SAME}")


@pytest.mark.parametrize(
    ("urls", "name"),
    [
        (["/v1/chat/completions"], "max_completion_tokens"),
        (["/v1/responses"], "max_output_tokens"),
        (["/v1/chat/completions", "/v1/responses"], "max_output_tokens"),
    ],
)
def test_the_limit_has_the_name_that_the_requests_give_it(batchrun: Command, urls: list[str], name: str) -> None:
    bodies: dict[str, dict[str, object]] = {
        "/v1/chat/completions": {"messages": [{"role": "user", "content": "x"}]},
        "/v1/responses": {"input": "x"},
    }
    lines = [{"custom_id": url, "url": url, "body": {"model": "gpt-4.1", **bodies[url]}} for url in urls]
    requests = Path("requests.jsonl")
    requests.write_text("".join(json.dumps(line) + "\n" for line in lines))
    told = last_lines(batchrun, requests, "incomplete")
    count = "1 answer" if len(urls) == 1 else "2 answers"
    assert told[0] == f"first: raise {name} in requests.jsonl ({count} cut off at it){SAME}"


def test_requests_from_standard_input_are_corrected_where_they_come_from(batchrun: Command) -> None:
    line = '{"model": "gpt-4.1", "input": "hi"}\n'
    done = batchrun("run", "-", "-o", "r.jsonl", *FAST, "--simulate-script", "context", stdin=line)
    assert f"first: correct 1 line in the request file (context_length_exceeded){SAME}\n" in done.err
