"""Taking a job up again: what is done stays, what may heal goes again, and no line ever has two records."""

from __future__ import annotations

import contextlib
import json
import os
import random
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from batchrun import Endpoint, Job, run
from batchrun.api import Outcome
from batchrun.cli.main import cli
from batchrun.engine.observer import Silent
from batchrun.engine.retry import RetryPolicy
from batchrun.errors import DiskError, InputError, ResultFileError, UsageError
from batchrun.job.prepare import prepare
from batchrun.job.resume import Changed, Resume
from batchrun.job.run import Ended
from batchrun.job.summary import Summary
from batchrun.records.attempt import BilledTwice
from batchrun.records.request import Overrides, Request, parse_request, read_request
from batchrun.requests import reader
from batchrun.results.journal import Journal
from batchrun.results.paths import ResultPaths
from batchrun.simulator.options import GatewayOptions
from tests.support import (
    KEY,
    MODEL,
    GatewayThread,
    RunProcess,
    events,
    ids,
    mounted,
    read_records,
    record,
    strace,
    until,
    write_prices,
    write_requests,
)


class Noting(Silent):
    """Keeps the notices of a run."""

    def __init__(self, notices: list[str]) -> None:
        self.notices = notices

    def notice(self, text: str) -> None:
        self.notices.append(text)


class Bench:
    """A folder with requests and results, a gateway, and runs of the job."""

    def __init__(self, folder: Path, gateway: GatewayThread) -> None:
        self.gateway = gateway
        self.folder = folder
        self.requests = write_requests(folder / "requests.jsonl", 5)
        self.results = folder / "results.jsonl"
        self.prices = write_prices(folder)
        self.notices: list[str] = []

    def job(self, **changes: Any) -> Job:
        endpoint = Endpoint(self.gateway.base_url, KEY)
        return Job(str(self.requests), self.results, endpoint, **{"prices": self.prices} | changes)

    def run(self, **changes: Any) -> Outcome:
        self.notices.clear()
        return run(self.job(**changes), Noting(self.notices))

    def billed_twice(self, **changes: Any) -> BilledTwice:
        """What a run says that may have been billed twice."""
        twice = self.run(**changes).report.possibly_billed_twice
        assert twice is not None
        return twice

    def sent_by(self, **changes: Any) -> int:
        """How many requests a run of the job sends."""
        before = self.gateway.ledger.requests
        self.run(**changes)
        return self.gateway.ledger.requests - before

    def edit(self, number: int, text: str) -> None:
        """Change the question of one line."""
        self.requests.write_text(self.requests.read_text().replace(f'"question {number}"', f'"{text}"'))

    def text_of(self, custom_id: str) -> str:
        """The usual record of an id, as text."""
        (line,) = [line for line in self.results.read_text().splitlines() if f'"{custom_id}"' in line]
        return line

    @property
    def quarantine(self) -> bytes:
        return self.folder.joinpath("results.jsonl.quarantine").read_bytes()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with GatewayThread() as gateway:
        yield Bench(tmp_path, gateway)


@pytest.fixture
def failing(tmp_path: Path) -> Iterator[Callable[[str], Bench]]:
    """Makes a bench whose gateway follows a script."""
    gateways: list[GatewayThread] = []

    def make(script: str) -> Bench:
        gateways.append(GatewayThread(GatewayOptions(script=script)))
        return Bench(tmp_path, gateways[-1].__enter__())

    yield make
    for gateway in gateways:
        gateway.__exit__(None, None, None)


FIVE = [f"r-{number}" for number in range(1, 6)]


# --------------------------------------------------------------------------------------------- what is done


def test_a_finished_file_run_again_sends_nothing_and_says_so(bench: Bench) -> None:
    assert bench.run().exit_code == 0
    before = bench.results.read_bytes()
    with RunProcess(bench.gateway.base_url, bench.requests, bench.results, "--prices", str(bench.prices)) as again:
        assert again.wait() == 0
        assert "nothing to send: 5 of 5 done" in again.screen
    assert bench.gateway.ledger.requests == 5
    assert bench.results.read_bytes() == before
    assert ids(bench.results) == FIVE


@pytest.mark.smoke
def test_a_cut_off_job_sends_what_is_left(bench: Bench) -> None:
    bench.run()
    kept = bench.results.read_bytes().splitlines(keepends=True)[:3]
    bench.results.write_bytes(b"".join(kept) + b'{"id":"batch_req_')
    assert bench.sent_by() == 2
    assert bench.results.read_bytes().startswith(b"".join(kept))
    assert ids(bench.results) == FIVE


def test_appended_reordered_and_removed_lines(bench: Bench) -> None:
    bench.run()
    lines = bench.requests.read_text().splitlines(keepends=True)
    more = write_requests(bench.folder / "more.jsonl", 2, first=6).read_text()
    bench.requests.write_text(more + "".join(reversed(lines[1:])))
    outcome = bench.run()
    assert bench.gateway.ledger.requests == 7
    assert ids(bench.results) == [*FIVE, "r-6", "r-7"], "the record of the removed line is kept"
    assert "1 record with an id that is in no request; kept" in bench.notices
    assert outcome.report.lines.pending == 0


@pytest.mark.parametrize("line", [0, 3, 1_000_000, 2**53])
def test_a_record_may_name_any_line(bench: Bench, line: int) -> None:
    """One far beyond the file, or one that another record names, too: it is found by its id, and takes no room."""
    bench.run()
    lines = bench.results.read_bytes().splitlines(keepends=True)
    number = json.loads(lines[4])["run"]["line"]
    lines[4] = lines[4].replace(b'"line":%d,' % number, b'"line":%d,' % line)
    bench.results.write_bytes(b"".join([*lines, record("orphan", line)]))
    assert bench.sent_by() == 0
    assert ids(bench.results) == ["orphan", *FIVE]
    assert "1 record with an id that is in no request; kept" in bench.notices


def test_records_in_their_places_are_not_matched_by_id(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.run()
    write_requests(bench.requests, 8)
    monkeypatch.setattr(Resume, "_read_records", None)
    assert bench.sent_by() == 3


def test_only_lines_without_an_answer_are_checked_whole(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others were checked when they were sent; a failed one, which may go again, is checked with the new ones."""
    bench.run()
    write_requests(bench.requests, 8)
    failed_one = bench.text_of("r-2").replace('"outcome":"succeeded"', '"outcome":"failed"')
    failed_one = failed_one.replace('"error":null', '"error":{"code":"c","message":"m"}')
    bench.results.write_text(bench.results.read_text().replace(bench.text_of("r-2"), failed_one))
    checked: list[str] = []

    def check(raw: bytes, overrides: Overrides) -> Request:
        checked.append(json.loads(raw)["custom_id"])
        return read_request(raw, overrides)

    monkeypatch.setattr(reader, "read_request", check)
    assert bench.sent_by() == 3
    assert checked == ["r-2", "r-6", "r-7", "r-8"]


def test_what_stands_beside_a_finished_body_is_still_checked(bench: Bench) -> None:
    bench.run()
    lines = [json.loads(line) for line in bench.requests.read_text().splitlines()]
    lines[2]["method"] = "GET"
    bench.requests.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))
    with pytest.raises(InputError, match='"method" is "GET"'):
        bench.run()


def test_a_finished_line_that_stands_twice_is_refused(bench: Bench) -> None:
    bench.run()
    with bench.requests.open("a") as file:
        file.write(bench.requests.read_text().splitlines()[3] + "\n")
    with pytest.raises(InputError, match='6: "custom_id" duplicates line 4'):
        bench.run()


def test_lines_left_are_counted_by_the_input_not_by_the_file(bench: Bench) -> None:
    """Four orphans in the file must not make four pending lines disappear."""
    bench.run()
    bench.requests.write_text(bench.requests.read_text().splitlines(keepends=True)[0])
    with bench.requests.open("a") as file:
        file.write(write_requests(bench.folder / "more.jsonl", 4, first=6).read_text())
    with contextlib.ExitStack() as files:
        prepared = prepare(bench.job(), Silent(), files)
        assert (prepared.pending, len(prepared.done)) == (4, 1)
        assert Summary(prepared, Ended()).report().lines.pending == 4


def test_equal_bare_bodies_are_lines_of_their_own(bench: Bench) -> None:
    bench.requests.write_text(json.dumps({"model": MODEL, "input": "same"}) + "\n")
    assert bench.sent_by() == 1
    bench.requests.write_text(bench.requests.read_text() * 3)
    assert bench.sent_by() == 2
    assert bench.sent_by() == 0
    assert len(read_records(bench.results)) == 3


# ------------------------------------------------------------------------------------------------- edits


@pytest.mark.smoke
def test_an_edited_line_is_refused_with_its_number_and_both_ways_out(bench: Bench) -> None:
    bench.run()
    before = bench.results.read_bytes()
    bench.edit(2, "another question")
    bench.edit(4, "one more")
    with pytest.raises(ResultFileError) as refused:
        bench.run()
    assert refused.value.exit_code == 2
    assert str(refused.value).splitlines() == [
        f"{bench.requests}:2: 'r-2' was edited after its answer",
        f"{bench.requests}:4: 'r-4' was edited after its answer",
        "--changed resend sends such lines again, --changed keep keeps the answers to the old text",
    ]
    assert bench.gateway.ledger.requests == 5
    assert bench.results.read_bytes() == before


def test_many_edited_lines_are_shown_twenty_at_most(bench: Bench) -> None:
    write_requests(bench.requests, 30)
    bench.run()
    write_requests(bench.requests, 30, temperature=1)
    with pytest.raises(ResultFileError) as refused:
        bench.run()
    lines = str(refused.value).splitlines()
    assert (len(lines), lines[20]) == (22, "… and 10 more")


def test_changed_resend_answers_the_new_text(bench: Bench) -> None:
    bench.run()
    old = bench.text_of("r-2")
    bench.edit(2, "another question")
    assert bench.sent_by(changed=Changed.RESEND) == 1
    assert "1 record removed; sending again: 1 line" in bench.notices
    assert ids(bench.results) == FIVE
    assert bench.text_of("r-2") != old
    assert bench.sent_by() == 0, "it is no longer an edited line"


def test_changed_keep_keeps_the_old_answer(bench: Bench) -> None:
    bench.run()
    before = bench.results.read_bytes()
    bench.edit(2, "another question")
    assert bench.sent_by(changed=Changed.KEEP) == 0
    assert bench.results.read_bytes() == before


def test_an_override_that_changes_the_body_is_an_edit(bench: Bench) -> None:
    bench.run()
    assert bench.sent_by(overrides=Overrides(model="fills in nothing here")) == 0
    with pytest.raises(ResultFileError, match="would be sent in another way"):
        bench.run(overrides=Overrides(fields={"temperature": b"1"}))


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        (Overrides(fields={"temperature": 0}), Overrides(), "--set temperature=0 is missing now"),
        (Overrides(), Overrides(fields={"temperature": 0}), "--set temperature=0 is new"),
        (
            Overrides(fields={"temperature": 0, "top_p": 1}),
            Overrides(fields={"temperature": 1, "top_p": 1}),
            "--set temperature=0 is now 1",
        ),
        (Overrides(stream=True), Overrides(), "--stream is missing now"),
        (
            Overrides(fields={"model": "a"}),
            Overrides(fields={"model": "b"}, stream=True),
            '--set model="a" is now "b", --stream is new',
        ),
    ],
)
def test_an_option_that_differs_from_the_last_run_is_named_and_no_line_is_called_edited(
    bench: Bench, before: Overrides, now: Overrides, told: str
) -> None:
    bench.run(overrides=before)
    with pytest.raises(ResultFileError) as refused:
        bench.run(overrides=now)
    assert f"5 lines would be sent in another way than for the answers in {bench.results}" in str(refused.value)
    assert f"compared with the last run, {told}; run it with the same options" in str(refused.value)
    assert "edited" not in str(refused.value)
    assert bench.sent_by(overrides=before) == 0
    assert bench.sent_by(overrides=now, changed=Changed.KEEP) == 0
    assert bench.sent_by(overrides=now, changed=Changed.RESEND) == 5


def test_a_line_is_called_edited_where_the_options_are_those_of_the_last_run(bench: Bench) -> None:
    bench.run(overrides=Overrides(fields={"temperature": 0}))
    bench.edit(2, "another question")
    with pytest.raises(ResultFileError, match="'r-2' was edited after its answer"):
        bench.run(overrides=Overrides(fields={"temperature": 0}))


def test_a_long_value_of_an_option_is_in_no_log_and_still_compared(bench: Bench) -> None:
    bench.run(overrides=Overrides(fields={"instructions": "be brief " * 30}))
    assert "be brief" not in bench.results.with_name("results.jsonl.log").read_text()
    with pytest.raises(ResultFileError, match=r"--set instructions=…[0-9a-f]{16} is now …[0-9a-f]{16};"):
        bench.run(overrides=Overrides(fields={"instructions": "be brief " * 31}))
    assert bench.sent_by(overrides=Overrides(fields={"instructions": "be brief " * 30})) == 0


# ---------------------------------------------------------------------------------------------- failures


def test_failures_that_may_heal_go_again_by_themselves_others_when_asked(failing: Callable[[str], Bench]) -> None:
    bench = failing("ok; locked ok; context ok; ok; ok")
    outcome = bench.run(retry=RetryPolicy(max_attempts=1))
    assert outcome.exit_code == 1
    assert outcome.report.errors == {"conversation_locked": 1, "context_length_exceeded": 1}
    (fatal,) = [line for line in bench.results.read_bytes().splitlines() if b"context_length_exceeded" in line]
    assert bench.sent_by() == 1, "only the one that may heal"
    assert [line for line in bench.results.read_bytes().splitlines() if b'"error":null' not in line] == [fatal]
    assert bench.sent_by() == 0
    assert bench.sent_by(retry_errors=True) == 1
    assert not [stored for stored in read_records(bench.results) if stored["error"]]
    assert ids(bench.results) == FIVE


def test_records_to_be_replaced_are_out_before_anything_is_sent(failing: Callable[[str], Bench]) -> None:
    """Prepared, and not yet sent: the file holds what stays, and is a whole file should the process die now."""
    bench = failing("context; context; ok; ok; ok")
    bench.run()
    with contextlib.ExitStack() as files:
        prepared = prepare(bench.job(retry_errors=True), Silent(), files)
        assert len(ids(bench.results)) == 3
        assert prepared.pending == 2
        assert Summary(prepared, Ended()).report().lines.failed == 0
    assert bench.sent_by(retry_errors=True) == 2
    assert ids(bench.results) == FIVE


@pytest.mark.parametrize("moment", ["rename:signal=KILL:when=1", "fsync:signal=KILL:when=1"])
def test_killed_while_the_file_is_rewritten(failing: Callable[[str], Bench], moment: str) -> None:
    bench = failing("context; context; ok; ok; ok")
    bench.run()
    before = bench.results.read_bytes()
    options = ["--retry-errors", "--prices", str(bench.prices)]
    with RunProcess(bench.gateway.base_url, bench.requests, bench.results, *options, wrapper=strace(moment)) as killed:
        killed.wait()
    if moment.startswith("fsync"):
        assert bench.results.read_bytes() == before
    assert len(ids(bench.results)) in (3, 5)
    assert bench.sent_by(retry_errors=True) == 2
    assert ids(bench.results) == FIVE
    assert not bench.folder.joinpath("results.jsonl.rewrite").exists()


# --------------------------------------------------------------------------------- foreign, doubled, damaged


def test_results_of_other_requests_are_refused(bench: Bench) -> None:
    bench.run()
    before = bench.results.read_bytes()
    write_requests(bench.requests, 5, first=100)
    with pytest.raises(ResultFileError, match=r"contains 5 results, none for this request file; choose another -o"):
        bench.run()
    assert bench.results.read_bytes() == before


def test_a_file_of_something_else_is_refused_and_untouched(bench: Bench) -> None:
    bench.results.write_text("my notes\n")
    with pytest.raises(ResultFileError, match="contains no batchrun results"):
        bench.run()
    assert sorted(file.name for file in bench.folder.iterdir()) == ["prices.json", "requests.jsonl", "results.jsonl"]
    assert bench.results.read_text() == "my notes\n"
    assert bench.gateway.ledger.requests == 0


def test_the_requests_are_never_written_over(bench: Bench) -> None:
    bench.results.symlink_to(bench.requests)
    with pytest.raises(UsageError, match="is the request file"):
        bench.run(overwrite=True)


def test_doubled_records_are_set_aside_and_the_first_stays(bench: Bench) -> None:
    bench.run()
    lines = bench.results.read_bytes().splitlines(keepends=True)
    bench.results.write_bytes(b"".join([*lines, lines[2], lines[0]]))
    outcome = bench.run()
    assert bench.results.read_bytes() == b"".join(lines)
    assert bench.quarantine == lines[2] + lines[0]
    assert outcome.report.lines.total == 5
    assert outcome.report.usage.output_tokens == sum(
        stored["run"]["usage"]["output_tokens"] for stored in read_records(bench.results)
    )
    assert any("WARNING: moved 2 damaged or duplicate records" in notice for notice in bench.notices)


@pytest.mark.smoke
def test_a_damaged_line_is_sent_again_and_said_loudly(bench: Bench) -> None:
    bench.run()
    lines = bench.results.read_bytes().splitlines(keepends=True)
    damaged = b"\0" * (len(lines[1]) - 1) + b"\n"
    bench.results.write_bytes(b"".join([lines[0], damaged, *lines[2:]]))
    assert bench.sent_by() == 1
    assert ids(bench.results) == FIVE
    assert bench.quarantine == damaged
    assert any(notice.startswith("WARNING: moved 1 damaged") for notice in bench.notices)


def test_answers_saved_elsewhere_are_taken_in(bench: Bench) -> None:
    bench.run()
    lines = bench.results.read_bytes().splitlines(keepends=True)
    bench.results.write_bytes(b"".join(lines[:3]))
    rescue = bench.folder / "results.jsonl.rescue"
    rescue.write_bytes(b"".join(lines[2:]))
    assert bench.sent_by() == 0
    assert bench.results.read_bytes() == b"".join(lines)
    assert bench.quarantine == lines[2], "it had a record already"
    assert "added 3 answers from the rescue file" in bench.notices
    assert not rescue.exists()


# ----------------------------------------------------------------------------------------------- overwrite


def test_overwrite_starts_over(bench: Bench) -> None:
    bench.run()
    before = bench.results.read_bytes()
    assert bench.sent_by(overwrite=True) == 5
    assert ids(bench.results) == FIVE
    assert bench.results.read_bytes() != before
    bench.results.write_text("my notes\n")
    assert bench.sent_by(overwrite=True) == 5, "whatever it holds"


def test_overwrite_loses_nothing_to_requests_that_do_not_pass_the_check(bench: Bench) -> None:
    bench.run()
    before = bench.results.read_bytes()
    bench.requests.write_text("no JSON\n")
    with pytest.raises(InputError):
        bench.run(overwrite=True)
    assert bench.results.read_bytes() == before


# ------------------------------------------------------------------------------------------------- report


def _report_alone(bench: Bench) -> dict[str, Any]:
    done = CliRunner().invoke(cli, ["report", str(bench.results), "--json", "--prices", str(bench.prices)])
    assert done.exit_code == 0, done.output
    made: dict[str, Any] = json.loads(done.stdout)
    return made


def _comparable(report: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in report.items() if key not in ("stopped", "next_command")}


@pytest.mark.smoke
def test_the_report_covers_the_whole_file_over_runs_and_is_made_again_from_it_alone(
    failing: Callable[[str], Bench],
) -> None:
    bench = failing("ok; 429@0 ok; 500 ok; context; locked; ok!")
    for changes in ({"retry": RetryPolicy(max_attempts=2, first_wait_s=0.01)}, {}, {"retry_errors": True}):
        outcome = bench.run(**changes)
        assert _comparable(_report_alone(bench)) == _comparable(json.loads(outcome.report.to_json()))
    write_requests(bench.requests, 8)
    outcome = bench.run()
    report = _report_alone(bench)
    assert _comparable(report) == _comparable(json.loads(outcome.report.to_json()))
    assert report["lines"] == {
        "total": 8,
        "succeeded": 8,
        "failed": 0,
        "pending": 0,
        "refused": 0,
        "incomplete": 0,
        "empty": 0,
        "invalid": 0,
    }
    stored = read_records(bench.results)
    assert len({record["run"]["started"] for record in stored}) > 1, "several runs wrote it"
    assert report["usage"]["output_tokens"] == sum(record["run"]["usage"]["output_tokens"] for record in stored)


# ------------------------------------------------------------------------------------- what died in flight


DIED = "2026-01-01T00:00:00.000Z"


def _log_of_a_death(bench: Bench, *lines: int, limit: int | None = 100, started: str = DIED, known: Any = None) -> None:
    """What a run leaves in its log that was killed with these lines in flight."""
    start = {"event": "start", "pid": 1, "started": started, "possibly_billed_twice": known}
    with bench.folder.joinpath("results.jsonl.log").open("a") as log:
        log.write(json.dumps(start) + "\n")
        for line in lines:
            facts = {"line": line, "attempt": 1, "model": MODEL, "body_bytes": 1000, "max_output_tokens": limit}
            log.write(json.dumps({"event": "sent", **facts}) + "\n")


@pytest.mark.smoke
def test_lines_in_flight_at_a_death_are_told_with_their_upper_cost(bench: Bench) -> None:
    _log_of_a_death(bench, 1, 2, 3)
    bench.results.touch()
    outcome = bench.run()
    assert bench.notices == ["3 lines in flight when the last run died; up to $0.0084 may have been billed twice"]
    twice = json.loads(outcome.report.to_json())["possibly_billed_twice"]
    assert twice == {"lines": 3, "upper_usd": 0.0084, "estimated_lines": 0, "unknown_lines": 0}
    assert _report_alone(bench)["possibly_billed_twice"] == twice


def test_the_figure_survives_further_runs_and_adds_up(bench: Bench) -> None:
    bench.results.touch()
    _log_of_a_death(bench, 1, 2)
    bench.run()
    write_requests(bench.requests, 6)
    assert bench.billed_twice().lines == 2
    assert bench.notices == [], "it was told once"
    known = {"lines": 2, "upper_usd": "0.0056", "estimated_lines": 0, "unknown_lines": 0}
    _log_of_a_death(bench, 6, known=known)
    for _ in range(2):
        twice = bench.billed_twice()
        assert (twice.lines, twice.upper_usd) == (3, Decimal("0.0084"))


def test_a_record_settles_what_the_log_could_not_say_any_more(bench: Bench) -> None:
    """Killed between the record and its event: that line was not lost."""
    bench.run()
    started = read_records(bench.results)[0]["run"]["started"]
    _log_of_a_death(bench, 1, 2, 99, started=started)
    assert bench.billed_twice().lines == 1


def test_without_a_limit_the_longest_answer_is_taken_and_that_is_said(bench: Bench) -> None:
    bench.run()
    longest = max(stored["run"]["usage"]["output_tokens"] for stored in read_records(bench.results))
    _log_of_a_death(bench, 77, limit=None)
    twice = bench.billed_twice()
    assert (twice.lines, twice.estimated_lines, twice.unknown_lines) == (1, 1, 0)
    assert twice.upper_usd * 1_000_000 == 2 * 1000 + 8 * longest
    assert "counted as the longest answer so far" in bench.notices[0]


def test_starting_over_forgets_what_died_before(bench: Bench) -> None:
    _log_of_a_death(bench, 1, 2)
    assert bench.billed_twice().lines == 2, "the money is spent, though there is no result file any more"
    assert bench.billed_twice(overwrite=True).lines == 0
    assert bench.billed_twice().lines == 0


def test_without_a_log_nobody_claims_to_know(bench: Bench) -> None:
    bench.run()
    bench.folder.joinpath("results.jsonl.log").unlink()
    assert _report_alone(bench)["possibly_billed_twice"] is None


def test_every_attempt_has_its_end_in_the_log(failing: Callable[[str], Bench]) -> None:
    bench = failing("ok; 429@0 ok; locked ok; context; ok")
    bench.run(retry=RetryPolicy(max_attempts=3, first_wait_s=0.01))
    log = list(events(bench.results))
    told = [event["event"] for event in log]
    assert told[:2] == ["open", "start"]
    assert told[-1] == "stop"
    assert told.count("sent") == bench.gateway.ledger.requests == 7
    assert told.count("ended") == 3
    assert sorted(line for event in log for line in event.get("numbers", ())) == [1, 2, 3, 4, 5]


# -------------------------------------------------------------------------------------------------- paths


def test_a_symlinked_result_file_works_and_its_companions_are_with_the_file(bench: Bench) -> None:
    real = bench.folder / "disk"
    real.mkdir()
    bench.results.symlink_to(real / "out.jsonl")
    assert bench.sent_by() == 5
    assert bench.results.is_symlink()
    assert (real / "out.jsonl.log").exists()
    assert bench.sent_by() == 0
    assert _report_alone(bench)["possibly_billed_twice"] is not None


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (Path.mkdir, "is not a regular file"),
        (os.mkfifo, "is not a regular file"),
        (lambda path: path.symlink_to("/proc/results.jsonl"), "cannot write"),
        (lambda path: path.symlink_to(path), "cannot write"),
    ],
    ids=["directory", "FIFO", "link into /proc", "link to itself"],
)
def test_a_path_that_cannot_hold_results_is_refused_before_anything_is_sent(
    bench: Bench, make: Callable[[Path], object], says: str
) -> None:
    make(bench.results)
    with pytest.raises(UsageError, match=says):
        bench.run()
    assert bench.gateway.ledger.requests == 0
    left = {file.name for file in bench.folder.iterdir()} - {"results.jsonl"}
    assert left == {"prices.json", "requests.jsonl"}, "nothing is left lying about"


def test_a_read_only_disk_is_refused_before_anything_is_sent(bench: Bench) -> None:
    with mounted(bench.folder / "disk", "ro") as disk:
        bench.results = disk / "results.jsonl"
        with pytest.raises(UsageError, match="Read-only file system"):
            bench.run()
    assert bench.gateway.ledger.requests == 0


def test_a_disk_without_room_for_the_first_event_sends_nothing(bench: Bench) -> None:
    with mounted(bench.folder / "disk", "size=16k") as disk:
        (disk / "ballast").write_bytes(bytes(16 * 1024))
        bench.results = disk / "results.jsonl"
        with pytest.raises(DiskError, match="No space left on device; free some space"):
            bench.run()
        assert bench.gateway.ledger.requests == 0
        (disk / "ballast").unlink()
        assert bench.sent_by() == 5


# ------------------------------------------------------------------------------------------------- a model


@pytest.mark.parametrize("seed", range(6))
def test_any_history_ends_with_one_record_a_line(bench: Bench, seed: int) -> None:
    """Cuts, damage, doubles, edits and appends in any order: a run that succeeds leaves exactly the input's lines."""
    draw = random.Random(seed)
    count = 5
    for _ in range(8):
        action = draw.choice(["cut", "damage", "double", "append", "edit", "orphan", "nothing"])
        lines = bench.results.read_bytes().splitlines(keepends=True) if bench.results.exists() else []
        if action == "cut" and lines:
            data = b"".join(lines)
            bench.results.write_bytes(data[: draw.randrange(len(data))])
        elif action == "damage" and len(lines) > 1:
            lines[draw.randrange(len(lines))] = b'{"id":"batch_req_0"}\n'
            bench.results.write_bytes(b"".join(lines))
        elif action == "double" and lines:
            bench.results.write_bytes(b"".join([*lines, draw.choice(lines)]))
        elif action == "append":
            count += 2
            write_requests(bench.requests, count)
        elif action == "edit":
            bench.edit(draw.randrange(1, count + 1), f"edited {draw.random()}")
        elif action == "orphan" and lines:
            bench.results.write_bytes(b"".join([*lines, record("orphan", 99)]))
        outcome = bench.run(changed=Changed.RESEND)
        assert outcome.exit_code == 0, action
        stored = {record["custom_id"]: record["run"]["body_hash"] for record in read_records(bench.results)}
        asked = [parse_request(raw, 1) for raw in bench.requests.read_bytes().splitlines()]
        assert {line.custom_id: line.body_hash for line in asked}.items() <= stored.items(), action
        assert stored.keys() - {line.custom_id for line in asked} <= {"orphan"}
        with Journal(ResultPaths.of(bench.results)) as journal:
            assert sum(map(len, journal.batches())) == len(stored)
    until(lambda: bench.gateway.ledger.in_flight == 0)
