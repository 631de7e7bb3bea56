"""Resuming a result file: finds the lines that are done, and removes the records of lines that are sent again.

1. A line is done if the file has a record with its `custom_id` and the same body (by hash).
2. A line with a retryable failure is always sent again; with `retry_errors`, every failed line is.
3. A line that was edited after its answer is refused, unless `Changed` says what to do.
4. Nearly always, each record belongs to the line whose number it names. So records and lines are first matched by
   number, at 9 bytes a line. If that does not account for all records, all are matched by `custom_id`, at some tens of
   bytes a line.
5. Records that will be replaced are removed before anything is sent; the file never has two records of one line.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from decimal import Decimal
from enum import Enum

from batchrun.billing.tally import Tally
from batchrun.errors import ResultFileError
from batchrun.job.lost_log import LostRuns
from batchrun.records.columns import Columns
from batchrun.records.index import HashTable, LineSet, hash64
from batchrun.records.money import NOTHING, total_usd, usd, usd_by_endpoint
from batchrun.records.request import RequestLine
from batchrun.records.result import ResultHead
from batchrun.records.words import counted
from batchrun.requests.batches import Batch
from batchrun.requests.overrides import differences
from batchrun.requests.problems import SHOWN_PROBLEMS
from batchrun.requests.reader import RequestFile
from batchrun.results.by_line import FAILED, RETRYABLE, SUCCEEDED, ByLine, outcome_of
from batchrun.results.events import Replaced
from batchrun.results.store import FileStore
from batchrun.results.tries import OpenTries, TriesReader


class Changed(Enum):
    """What to do about lines that were edited after their answer.

    `REFUSE`: the job does not begin (`ResultFileError`), and the message names the lines.
    `RESEND`: they are sent again, and the new records replace the old ones.
    `KEEP`: they keep the answers to their old text.
    """

    REFUSE = "refuse"
    RESEND = "resend"
    KEEP = "keep"


_BITS = 0xFFFF_FFFF_FFFF_FFFC  # the outcome is kept in the two bits that these leave free


class Resume:
    """Compares a result file with its request file, once. `notices` are for the screen.

    `lost` has the runs without a log, as their records tell. `unbilled_usd` is what the removed records cost, in US
    dollars: it is on no bill any more, so the run log keeps it. It includes records that the log knows and that are
    gone from the file; `unbilled_by_endpoint`: what of it was spent at one of several endpoints. `options` are those of
    this run that change bodies, `endpoints` the names of its endpoints, if there are several. `check_new()` checks the
    request file of a job without records; `look_ahead(done, staying)` is called for any other one, before a record is
    removed: it gets the lines that are done, and the heads of the records that stay.
    """

    def __init__(
        self,
        store: FileStore,
        changed: Changed,
        *,
        retry_errors: bool = False,
        options: Mapping[str, str] | None = None,
        endpoints: Collection[str] = (),
        check_new: Callable[[], None],
        look_ahead: Callable[[LineSet, Iterator[ResultHead]], None],
    ) -> None:
        self.notices: list[str] = []
        self.unbilled_usd = NOTHING
        self.unbilled_by_endpoint: dict[str, Decimal] = {}
        self.lost = LostRuns(store.log.last_run.starts)
        self.open_tries = OpenTries()
        self._tries: TriesReader | None = None
        self._store = store
        self._changed = changed
        self._check_new, self._look_ahead = check_new, look_ahead
        self._retry_errors = retry_errors
        self._options = options or {}
        self._endpoints = endpoints
        self._stored = HashTable()  # id → hash of the body; its last two bits are the outcome
        self._done = LineSet()
        self._replaced: set[int] = set()
        self._edited: list[str] = []
        self._edited_count = 0
        self._matched = 0
        self._failed: set[int] = set()  # the ids of lines with a failure, where lines are matched by id

    def take_up(self, requests: RequestFile, tally: Tally) -> LineSet:
        """Check the request file against the records; returns the numbers of the lines that are done.

        Fills `tally` with the records that stay. Raises `InputError`, `UsageError` or `ResultFileError`; the result
        file has then only been repaired: a torn tail cut off, damaged and duplicate records quarantined.
        """
        self._read_tries()
        if not self._match_by_line(requests, tally):
            tally.clear()
            self._done, self._replaced = LineSet(), set()
            self._read_records(tally)
            requests.check(lambda line: self._match(requests.name, line))
            self._refuse_edited_and_foreign()
        self._note_gone(tally)
        if tally.recorded:
            self._look_ahead(self._done, self._staying())
        if self._replaced:
            self._log_cost_of_replaced(Tally(tally.book, tally.books))
            if self._tries is not None:  # before the records: they have the cost of all their tries
                self._store.tries.remove(lambda head: hash64(head.custom_id) in self._replaced)
            count = self._store.remove(lambda head: hash64(head.custom_id) in self._replaced)
            self.notices.append(f"{counted(count, 'record')} removed; sending again: {counted(count, 'line')}")
            tally.clear()
            self._read_tries()
            for heads in self._store.heads():
                tally.add(heads)
                self._settle_tries(heads)
        self._take_up_tries(tally)
        self._give_up_foreign(tally)
        self._tell()
        return self._done

    def _read_tries(self) -> None:
        """Read what was asked again, if anything was."""
        tries, last_run = self._store.tries, self._store.log.last_run
        self._tries = tries.reader(last_run.settle_try) if tries.is_there else None

    def _settle_tries(self, heads: Sequence[ResultHead]) -> None:
        if self._tries is not None:
            self._tries.settle(heads)

    def _give_up_foreign(self, tally: Tally) -> None:
        """Let nobody be asked to correct, or to send again, what is in the request file no more."""
        if len(self._stored) == self._matched or not tally.failed:
            return
        for heads in self._store.heads():
            for head in heads:
                if head.error is not None and hash64(head.custom_id) not in self._failed:
                    tally.give_up(head)

    def _take_up_tries(self, tally: Tally) -> None:
        """Note what lines have got that were to be asked again, and have no record yet."""
        self.open_tries = self._tries.open() if self._tries is not None else OpenTries()
        if self.open_tries:
            heads = self.open_tries.heads()
            tally.add_open(heads)
            if not {head.run.started for head in heads} <= self.lost.logged:
                self.lost.add(heads)
            count = counted(len(heads), "line")
            self.notices.append(f"{count} with answers that missed their schema and no record yet: going on from there")

    def _match_by_line(self, requests: RequestFile, tally: Tally) -> bool:
        """Match records and lines by number; False if that does not account for every record."""
        records, last_run = ByLine(requests.first_line), self._store.log.last_run
        requests.prescan_ahead(self._store.size_bytes)
        for heads in self._store.heads():
            for head in heads if last_run.sent else ():
                last_run.settle(head.run.started, head.run.line)
            if heads:
                records.add(columns := Columns(heads))
                tally.add_columns(columns)
            self._settle_tries(heads)
            if not tally.starts <= self.lost.logged:
                self.lost.add(heads)
        if not tally.recorded:  # there is nothing to compare: a new job takes its check, and no more
            self._check_new()
            return True

        def match(line: RequestLine) -> None:
            if outcome := records.find(line):
                self._decide(line, outcome)

        def known(batch: Batch) -> list[str]:
            found = batch.prescan()
            ids = records.find_succeeded(batch.first, found.ids, found.body_hashes)
            if all(ids):
                self._done.add_range(range(batch.first, batch.first + len(ids)))
            else:
                for number, custom_id in enumerate(ids, batch.first):
                    if custom_id:
                        self._done.add(number)
            return ids

        requests.check(match, known)
        return records.is_all_found

    def _read_records(self, tally: Tally) -> None:
        doubled = 0
        for heads in self._store.heads():
            firsts = list[ResultHead]()
            for head in heads:
                key = hash64(head.custom_id)
                if self._stored.get(key) is None:
                    self._stored.set(key, _stored_value(int(head.run.body_hash[:16], 16), outcome_of(head)))
                    firsts.append(head)
            doubled += len(heads) - len(firsts)
            tally.add(firsts)
        if doubled:
            self._set_aside_doubles()

    def _log_cost_of_replaced(self, replaced: Tally) -> None:
        """Log the cost of the records that will be removed, because that money stays spent."""
        for heads in self._store.heads():
            replaced.add([head for head in heads if hash64(head.custom_id) in self._replaced])
        replaced_usd = replaced.cost_usd()
        self.unbilled_usd = total_usd((self.unbilled_usd, replaced_usd))
        by_endpoint = {name: replaced.cost_usd_at(name) for name in replaced.by_endpoint}
        self.unbilled_by_endpoint = usd_by_endpoint(self.unbilled_by_endpoint, by_endpoint)
        self._store.log.write(Replaced(replaced.recorded, replaced_usd, by_endpoint))

    def _staying(self) -> Iterator[ResultHead]:
        """The heads of the records that are not removed."""
        for heads in self._store.heads():
            yield from (head for head in heads if not self._replaced or hash64(head.custom_id) not in self._replaced)

    def _note_gone(self, tally: Tally) -> None:
        """Count what records cost that are gone from the file, though no run removed them; and say so."""
        paths = self._store.paths
        count, gone_usd = self._store.log.last_run.gone(tally.recorded, tally.cost_of_records_usd())
        if not count:
            self._note_taken_out(tally)
            return
        self.unbilled_usd = gone_usd
        cost = f"the cost of ${usd(gone_usd)} stays counted as spent" if gone_usd else "what that cost is unknown"
        anew = f"; remove {paths.log.name}, too, to begin anew" if not tally.recorded else ""
        self.notices.append(
            f"WARNING: {paths.results.name} has lost {counted(count, 'record')} of earlier runs; {cost}{anew}"
        )

    def _note_taken_out(self, tally: Tally) -> None:
        """Count what the records of endpoints cost that this run does not have, and so neither their prices."""
        taken_out = [name for name in tally.by_endpoint if name not in self._endpoints]
        more_usd = total_usd((self._store.log.last_run.records_usd, -tally.cost_of_records_usd()))
        if not taken_out or more_usd <= NOTHING:
            return
        self.unbilled_usd = more_usd
        if len(taken_out) == 1:
            self.unbilled_by_endpoint = {taken_out[0]: more_usd}
        self.notices.append(
            f"without the prices of {', '.join(taken_out)}, not among the endpoints of this run, ${usd(more_usd)} that "
            "earlier runs cost is on no bill; it stays counted as spent"
        )

    def _set_aside_doubles(self) -> None:
        seen: set[int] = set()

        def is_second(head: ResultHead) -> bool:
            key = hash64(head.custom_id)
            if key in seen:
                return True
            seen.add(key)
            return False

        self._store.remove(is_second, to_quarantine=True)

    def _match(self, name: str, line: RequestLine) -> None:
        """Decide about one line of the request file."""
        key = hash64(line.custom_id)
        stored = self._stored.get(key)
        if stored is None:
            return
        self._matched += 1
        outcome = stored & 3
        if outcome != SUCCEEDED:
            self._failed.add(key)
        if stored == _stored_value(int(line.body_hash[:16], 16), outcome) or self._goes_again(outcome):
            self._decide(line, outcome)
        elif self._changed is Changed.REFUSE:
            self._edited_count += 1
            if self._edited_count <= SHOWN_PROBLEMS:
                self._edited.append(f"{name}:{line.line_number}: {line.custom_id[:60]!r} was edited after its answer")
        elif self._changed is Changed.RESEND:
            self._replaced.add(key)
        else:
            self._done.add(line.line_number)

    def _decide(self, line: RequestLine, outcome: int) -> None:
        """Decide about a line whose record matches: it is done, or it is sent again."""
        if outcome != SUCCEEDED and self._goes_again(outcome):
            self._replaced.add(hash64(line.custom_id))
        else:
            self._done.add(line.line_number)

    def _goes_again(self, outcome: int) -> bool:
        return outcome == RETRYABLE or (outcome == FAILED and self._retry_errors)

    def _refuse_edited_and_foreign(self) -> None:
        if self._edited:
            self._refuse_other_options()
            more = self._edited_count - len(self._edited)
            raise ResultFileError(
                "\n".join([*self._edited, *([f"… and {more:,} more"] if more else [])])
                + "\n--changed resend sends such lines again, --changed keep keeps the answers to the old text"
            )
        if self._stored and not self._matched:
            raise ResultFileError(
                f"{self._store.paths.results} contains {counted(len(self._stored), 'result')}, "
                "none for this request file; choose another -o (or --overwrite to discard them)"
            )

    def _refuse_other_options(self) -> None:
        """Raise `ResultFileError` if this run has other options than the last one: then no line need be edited."""
        before = self._store.log.last_run.options
        differing = differences(before, self._options) if before is not None else []
        if differing:
            raise ResultFileError(
                f"{counted(self._edited_count, 'line')} would be sent in another way than for the answers in "
                f"{self._store.paths.results}: compared with the last run, {', '.join(differing)}; run it with the "
                "same options, or use --changed resend to send such lines again, --changed keep to keep their answers"
            )

    def _tell(self) -> None:
        if self._store.cut_tail:
            self.notices.append("the last record was cut off in the middle (by a kill or a power cut) and is removed")
        if self._store.quarantined:
            self.notices.append(
                f"WARNING: moved {counted(self._store.quarantined, 'damaged or duplicate record')} to "
                f"{self._store.paths.quarantine.name}; lines without a record are sent again"
            )
        if foreign := len(self._stored) - self._matched:
            self.notices.append(f"{counted(foreign, 'record')} with an id that is in no request; kept")
        if self._store.rescued:
            self.notices.append(f"added {counted(self._store.rescued, 'answer')} from the rescue file")


def _stored_value(bits: int, outcome: int) -> int:
    return bits & _BITS | outcome
