"""`batchrun verify`: whatever is wrong with a result file is found, and a good one passes."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import orjson
import pytest

from batchrun import Endpoint, GatewayOptions, Job, run
from batchrun.billing.pricing import PriceBook
from batchrun.cli.main import main
from batchrun.report.stored import Findings, checked_records
from batchrun.report.verify import Verification, Verifier, render
from batchrun.requests.reader import RequestFile

LINES = 6


@pytest.fixture
def requests(tmp_path: Path) -> Path:
    path = tmp_path / "requests.jsonl"
    bodies = ({"model": "gpt-4.1", "input": f"question {number}"} for number in range(LINES))
    lines = (orjson.dumps({"custom_id": f"r-{number}", "body": body}) for number, body in enumerate(bodies))
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


@pytest.fixture
def results(requests: Path, tmp_path: Path) -> Path:
    path = tmp_path / "results.jsonl"
    run(Job(str(requests), path, Endpoint("http://127.0.0.1"), simulate=GatewayOptions()))
    return path


def verify(requests: Path, results: Path) -> Verification:
    with RequestFile(str(requests)) as file:
        return Verifier(file, results, PriceBook()).run()


def edit(path: Path, number: int, old: bytes, new: bytes) -> None:
    """Replace `old` in one line of a file."""
    lines = path.read_bytes().splitlines(keepends=True)
    assert old in lines[number]
    lines[number] = lines[number].replace(old, new)
    path.write_bytes(b"".join(lines))


@pytest.mark.smoke
def test_a_finished_run_is_complete_and_its_usage_is_the_payloads_own(requests: Path, results: Path) -> None:
    found = verify(requests, results)
    payloads = [orjson.loads(line)["response"]["body"]["usage"] for line in results.read_bytes().splitlines()]
    assert found.is_complete
    assert (found.lines, found.records, found.succeeded) == (LINES, LINES, LINES)
    assert found.usage.input_tokens == sum(usage["input_tokens"] for usage in payloads)
    assert found.usage.output_tokens == sum(usage["output_tokens"] for usage in payloads)
    assert found.total_usd > 0
    assert render(found).endswith("\ncomplete\n")


@pytest.mark.parametrize(
    ("problem", "number", "old", "new"),
    [
        ("missing", 2, None, b""),
        ("truncated", LINES - 1, b"\n", b""),
        ("damaged", 1, b'"response":', b'"response"\0'),
        ("damaged", 1, b'"object":"response"', b'"object":"\\ud800"'),
        ("damaged", 1, b'"object":"response"', b'"object":1e999'),  # past every float
        ("damaged", 1, b'"object":"response"', b'"object":' + b"9" * 400),  # the same, without an exponent
        ("damaged", 1, b'"object":"response"', b'"object":' + b"[" * 1100 + b"]" * 1100),  # deeper than its reader goes
        ("damaged", 1, b'"object":"response"', b'"object":"\xff"'),
        ("damaged", 1, b'"body_hash":"', b'"body_hash":"g'),
        ("edited", 0, b'"body_hash":"', b'"body_hash":"0000'),
        ("unknown_ids", 3, b'"custom_id":"r-', b'"custom_id":"x-'),
        ("wrong_usage", 4, b'"usage":{"input_tokens":', b'"usage":{"input_tokens":1'),
    ],
)
@pytest.mark.smoke
def test_each_fault_is_found_by_its_name(
    requests: Path, results: Path, problem: str, number: int, old: bytes | None, new: bytes
) -> None:
    if old is None:
        lines = results.read_bytes().splitlines(keepends=True)
        results.write_bytes(b"".join(lines[:number] + lines[number + 1 :]))
    elif problem == "wrong_usage":  # the first of the two is in `run`
        lines = results.read_bytes().splitlines(keepends=True)
        lines[number] = lines[number].replace(old, new, 1)
        results.write_bytes(b"".join(lines))
    elif problem == "edited":
        lines = results.read_bytes().splitlines(keepends=True)
        sha = orjson.loads(lines[number])["run"]["body_hash"].encode()
        edit(results, number, sha, b"0123456789abcdef" * 2)
    else:
        edit(results, number, old, new)
    found = verify(requests, results)
    assert getattr(found, problem) == 1
    assert not found.is_complete
    assert found.findings
    assert render(found).endswith("\nNOT complete\n")


def test_a_second_record_of_a_line_is_found(requests: Path, results: Path) -> None:
    first = results.read_bytes().splitlines(keepends=True)[0]
    with results.open("ab") as file:
        file.write(first)
    found = verify(requests, results)
    assert (found.duplicates, found.missing, found.is_complete) == (1, 0, False)


def test_records_that_name_other_lines_are_matched_by_their_ids(requests: Path, results: Path) -> None:
    """As where lines were moved since; whatever is wrong is found by the same names."""
    for number in range(LINES):
        line = orjson.loads(results.read_bytes().splitlines()[number])["run"]["line"]
        edit(results, number, b'"line":%d,' % line, b'"line":%d,' % (line + 10**number))
    expected = verify(requests, results)
    assert expected.is_complete
    assert (expected.lines, expected.records, expected.usage.input_tokens > 0) == (LINES, LINES, True)
    edit(results, 0, b'"custom_id":"r-', b'"custom_id":"x-')
    edit(requests, 3, b"question", b"Question")
    found = verify(requests, results)
    assert (found.unknown_ids, found.missing, found.edited, found.records) == (1, 1, 1, LINES)
    assert len(found.findings) == 3


def test_both_ways_to_match_find_the_same(requests: Path, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edit(results, 2, b'"usage":{"input_tokens":', b'"usage":{"input_tokens":1')
    edit(results, 3, b'"response":', b'"response"')
    by_number = verify(requests, results)
    monkeypatch.setattr("batchrun.results.by_line.ByLine.is_all_found", False)
    by_id = verify(requests, results)
    assert by_number == by_id
    assert (by_id.damaged, by_id.missing) == (1, 1)


def test_the_gateways_own_charge_is_summed_exactly(requests: Path, results: Path) -> None:
    """A float would not hold it."""
    exact = b"0.12345678901234567891"
    edit(results, 0, b'},"response"', b',"gateway_cost_usd":' + exact + b'},"response"')
    record = next(checked_records(results, Findings()))[1][0]
    assert record.run.gateway_cost_usd == Decimal(exact.decode())


def test_a_failed_line_is_named_by_its_code_and_is_not_complete(requests: Path, tmp_path: Path) -> None:
    results = tmp_path / "failed.jsonl"
    simulate = GatewayOptions(script="400; ok; ok; ok; ok; ok")
    run(Job(str(requests), results, Endpoint("http://127.0.0.1"), simulate=simulate))
    found = verify(requests, results)
    assert found.succeeded == LINES - 1
    assert sum(found.failed.values()) == 1
    assert not found.is_complete
    assert not found.wrong_usage


def test_findings_are_bounded(requests: Path, results: Path) -> None:
    results.write_bytes(results.read_bytes().splitlines(keepends=True)[0] + b"junk\n" * 50)
    found = verify(requests, results)
    assert (found.damaged, found.missing) == (50, LINES - 1)
    assert len(found.findings) == 20
    assert "…" in render(found)


def test_the_json_holds_every_count_and_money_as_a_number(requests: Path, results: Path) -> None:
    document = orjson.loads(verify(requests, results).to_json())
    assert set(document) == set(Verification.__struct_fields__)
    assert isinstance(document["total_usd"], float)


def test_a_file_without_any_record_is_the_same_to_verify_report_and_estimate(
    requests: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("my notes\nand more")
    for words in (["verify", requests, notes], ["report", notes], ["estimate", requests, "-o", notes]):
        monkeypatch.setattr("sys.argv", ["batchrun", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert (ended.value.code, *capsys.readouterr()) == (2, "", f"batchrun: {notes} contains no batchrun results\n")


def test_an_empty_file_and_half_a_record_beside_a_whole_one_are_judged_line_by_line(
    requests: Path, results: Path, tmp_path: Path
) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    assert verify(requests, empty).missing == LINES
    first, *_ = results.read_bytes().splitlines()
    results.write_bytes(first)  # a whole record whose newline is missing
    assert verify(requests, results).truncated == 1


def test_good_records_are_checked_together(requests: Path, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One by one is for lines with which something is wrong: it takes twice as long."""

    def never(raw: bytes) -> None:
        raise AssertionError(raw)

    monkeypatch.setattr("batchrun.report.stored.parse_result", never)
    assert verify(requests, results).is_complete


# ---------------------------------------------------------------------------------------------- the copies


@pytest.fixture
def copied(requests: Path, tmp_path: Path) -> Path:
    """Results of six lines of which four are copies, two of each of two answers."""
    lines = [orjson.loads(line) for line in requests.read_bytes().splitlines()]
    for number, line in enumerate(lines):
        line["body"]["input"] = f"question {number % 2}"
    requests.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    path = tmp_path / "copied.jsonl"
    run(Job(str(requests), path, Endpoint("http://127.0.0.1"), simulate=GatewayOptions(), dedup=True))
    return path


@pytest.mark.smoke
def test_copies_are_whole_answers_whose_usage_counts_once(requests: Path, copied: Path) -> None:
    found = verify(requests, copied)
    assert found.is_complete
    assert (found.records, found.copied, found.reused, found.wrong_copies) == (6, 4, 0, 0)
    sent = [orjson.loads(line) for line in copied.read_bytes().splitlines() if b'"source"' not in line]
    assert found.usage.input_tokens == sum(record["run"]["usage"]["input_tokens"] for record in sent)
    assert "4 copied from equal lines" in render(found)


def test_a_copy_that_differs_from_its_original_is_found(requests: Path, copied: Path) -> None:
    edit(copied, 4, b'"object":"response"', b'"object":"another"')
    found = verify(requests, copied)
    assert not found.is_complete
    assert found.wrong_copies == 1
    assert found.findings == [f"{copied}:5: is a copy, and the record of the equal request has another answer"]


def test_a_copy_of_an_answer_to_another_request_is_found(requests: Path, copied: Path) -> None:
    lines = copied.read_bytes().splitlines(keepends=True)
    mine = next(at for at, line in enumerate(lines) if b'"source":{"kind":"copied","line":1}' in line)
    other = next(line for line in lines if b'"source":{"kind":"copied","line":2}' in line)
    start, end = lines[mine].index(b'"response":'), other.index(b'"response":')
    lines[mine] = lines[mine][:start] + other[end:]
    copied.write_bytes(b"".join(lines))
    assert verify(requests, copied).wrong_copies == 1


def test_a_copy_whose_original_was_edited_and_sent_again_is_told_of_and_is_no_problem(
    requests: Path, copied: Path
) -> None:
    edit(requests, 0, b"question 0", b"another question")
    job = Job(str(requests), copied, Endpoint("http://127.0.0.1"), simulate=GatewayOptions(), changed="resend")
    assert run(job).exit_code == 0
    found = verify(requests, copied)
    assert found.is_complete
    assert found.findings == ["2 records copied from a line that was sent again since: in no bill"]
