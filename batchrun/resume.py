"""Taking up a result file: which lines are done, which go again, and what the last run left in the air.

1. A line is done when the file holds a record of its `custom_id` and the same body (by hash).
2. Goes again by itself: a failure that may heal. With `retry_errors`: every failure.
3. An edited line under a finished id is refused, unless `Changed` says what to do.
4. Records that will be replaced are taken out before anything is sent; the file never holds two of one line.
"""

from __future__ import annotations

from enum import Enum

from batchrun.errors import ResultFileError
from batchrun.hashes import HashTable, LineSet, hash64
from batchrun.journal import Journal
from batchrun.pricing import PriceBook
from batchrun.rates import NOTHING
from batchrun.reader import SHOWN_PROBLEMS, RequestFile
from batchrun.records import RequestLine, ResultHead
from batchrun.report import Tally
from batchrun.runlog import RunLog
from batchrun.spending import Unbounded


class Changed(Enum):
    """What to do about lines that were edited after they had been answered."""

    REFUSE = "refuse"
    RESEND = "resend"
    KEEP = "keep"


_SUCCEEDED, _FAILED, _MAY_HEAL = 0, 1, 2


class Resume:
    """One reading of a result file against its input. `notices` are for the screen.

    `unbilled_usd` is what the records cost that are taken out: it is on no bill any more, and goes into `log`.
    """

    def __init__(
        self,
        journal: Journal,
        log: RunLog,
        changed: Changed,
        *,
        retry_errors: bool = False,
        unbounded: Unbounded | None = None,
    ) -> None:
        self.notices: list[str] = []
        self.unbilled_usd = NOTHING
        self._journal = journal
        self._log = log
        self._changed = changed
        self._unbounded = unbounded
        self._retry_errors = retry_errors
        self._stored = HashTable()  # id → hash of the body, its last two bits taken by the outcome
        self._done = LineSet()
        self._replaced: set[int] = set()
        self._edited: list[str] = []
        self._edited_count = 0
        self._matched = 0

    def take_up(self, requests: RequestFile, tally: Tally) -> LineSet:
        """Check the input against the records; returns the numbers of the lines that are done.

        Fills `tally` with the records that stay. Raises `InputError`, `UsageError` and `ResultFileError`, before which
        the file has only been made whole: its torn tail cut off, damaged and doubled records set aside.
        """
        self._read_records(tally)
        requests.check(lambda line: self._match(requests.name, line))
        self._refuse_edited_and_foreign()
        if self._unbounded is not None:
            self._unbounded.refuse()
        if self._replaced:
            self._log_cost_of_replaced(tally.book)
            count = self._journal.remove(lambda head: hash64(head.custom_id) in self._replaced)
            self.notices.append(f"{count:,} records are taken out, their lines go again")
            tally.clear()
            for head in self._journal.records():
                tally.add(head)
        self._tell()
        return self._done

    def _read_records(self, tally: Tally) -> None:
        doubled = 0
        for head in self._journal.records():
            key = hash64(head.custom_id)
            self._log.last_run.settle(head.run.started, head.run.line)
            if self._stored.get(key) is not None:
                doubled += 1
                continue
            self._stored.set(key, _stored_value(head.run.sha, _outcome(head)))
            tally.add(head)
        if doubled:
            self._set_aside_doubles()

    def _log_cost_of_replaced(self, book: PriceBook) -> None:
        """What the records cost that are about to go: it stays spent, though nothing is left to show for it."""
        replaced = Tally(book)
        for head in self._journal.records():
            if hash64(head.custom_id) in self._replaced:
                replaced.add(head)
        self.unbilled_usd = replaced.cost_usd()
        if self.unbilled_usd:
            self._log.write("replaced", lines=replaced.recorded, unbilled_usd=str(self.unbilled_usd))

    def _set_aside_doubles(self) -> None:
        seen: set[int] = set()

        def is_second(head: ResultHead) -> bool:
            key = hash64(head.custom_id)
            if key in seen:
                return True
            seen.add(key)
            return False

        self._journal.remove(is_second, to_quarantine=True)

    def _match(self, name: str, line: RequestLine) -> None:
        """Decide about one line of the input."""
        key = hash64(line.custom_id)
        stored = self._stored.get(key)
        if stored is None:
            self._look_at_pending(line)
            return
        self._matched += 1
        outcome = stored & 3
        goes_again = outcome == _MAY_HEAL or (outcome == _FAILED and self._retry_errors)
        if stored != _stored_value(line.sha, outcome) and not goes_again:
            if self._changed is Changed.REFUSE:
                self._edited_count += 1
                if self._edited_count <= SHOWN_PROBLEMS:
                    self._edited.append(
                        f"{name}:{line.line_number}: {line.custom_id[:60]!r} was edited after its answer"
                    )
                return
            goes_again = self._changed is Changed.RESEND
        if goes_again:
            self._replaced.add(key)
            self._look_at_pending(line)
        else:
            self._done.add(line.line_number)

    def _look_at_pending(self, line: RequestLine) -> None:
        if self._unbounded is not None:
            self._unbounded.look(line)

    def _refuse_edited_and_foreign(self) -> None:
        if self._edited:
            more = self._edited_count - len(self._edited)
            raise ResultFileError(
                "\n".join([*self._edited, *([f"… and {more:,} more"] if more else [])])
                + "\n--changed resend sends such lines again, --changed keep keeps the answers to the old text"
            )
        if self._stored and not self._matched:
            raise ResultFileError(
                f"{self._journal.path} holds {len(self._stored):,} results, none of them of this input; "
                "choose another -o (or --overwrite to lose them)"
            )

    def _tell(self) -> None:
        if self._journal.quarantined:
            self.notices.append(
                f"WARNING: {self._journal.quarantined:,} damaged or doubled records were moved to "
                f"{self._journal.path.name}.quarantine; lines without a record go again"
            )
        if foreign := len(self._stored) - self._matched:
            self.notices.append(f"{foreign:,} records belong to no line of this input; they are kept")
        if self._journal.rescued:
            self.notices.append(f"{self._journal.rescued:,} answers are taken in that an earlier run saved elsewhere")


def _outcome(head: ResultHead) -> int:
    if head.error is None:
        return _SUCCEEDED
    return _MAY_HEAL if head.run.may_heal else _FAILED


def _stored_value(sha: str, outcome: int) -> int:
    return int(sha, 16) & ~3 | outcome
