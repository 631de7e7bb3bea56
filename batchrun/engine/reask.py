"""`--reask N`: whether a line whose answer misses its JSON schema is asked again.

1. Only a whole answer with a text is asked about again: none that was cut at its limit, refused or empty.
2. One code fence around the JSON is taken off and noted; nothing else is mended.
3. What earlier runs got for a line is in `RESULTS.tries`; the line goes on from there.
4. Where too many lines miss (`--max-reasks`, of the last 1,000 lines and from 100 on), the schema is at fault and not
   the answers: no further line is asked again, and the job goes on.
"""

from __future__ import annotations

from collections.abc import Callable

from batchrun.engine.asked import Asked
from batchrun.engine.case import Case
from batchrun.engine.output_limit import is_at_output_limit
from batchrun.limits.in_flight import InFlightBytes
from batchrun.records.outcome import FailureCode, Reply
from batchrun.records.request import RequestLine
from batchrun.results.tries import OpenTries
from batchrun.stats.window import Window
from batchrun.validation.schema import Fit, MismatchCheck

JUDGED_FROM = 100
WINDOW = 1000


class Reask:
    """Asks a line again up to `most` times, as long as no more than `max_share` of the lines need it.

    `open_tries`: what earlier runs got for lines that have no record. `notice` shows one line to the user.
    """

    def __init__(
        self,
        most: int,
        max_share: float,
        check: MismatchCheck,
        open_tries: OpenTries,
        notice: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.most = most
        self._max_share = max_share
        self._check = check
        self._open = open_tries
        self._notice = notice
        self._missed = Window(WINDOW)
        self._has_stopped = False

    def take_up(self, case: Case, held: InFlightBytes) -> bool:
        """Give a line what earlier runs got for it; True if it is asked no more, and its last answer is its record.

        `held` counts the bytes in memory.
        """
        line = case.line
        assert line is not None, "it was just read"
        found = self._open.take(line.custom_id, line.body_hash) if self._open else None
        if found is None:
            return False
        fit = self._check.fit(line, found.reply.body)
        asks = len(found.tries)
        is_over = fit is None or not fit.mismatches or asks > self.most
        reply = found.reply
        if fit is not None and not fit.mismatches:  # by what this version checks
            reply.outcome, reply.error_code, reply.message = "succeeded", None, ""
            reply.schema_error, reply.fenced = None, fit.was_fenced
        case.asked = Asked(reply, fit or Fit(""), found.tries, found.attempts, found.head.run.endpoint)
        held.add(len(reply.body))
        return is_over

    def judge(self, case: Case, line: RequestLine, reply: Reply) -> Fit | None:
        """Check an answer, and note in it what is wrong; returns that if the line is to be asked again."""
        fit = self._check.fit(line, reply.body)
        if fit is None:
            return None
        if case.asked is None:
            self._missed.add(bool(fit.mismatches))
        if not fit.mismatches:
            reply.fenced = fit.was_fenced
            return None
        may_be_cut = is_at_output_limit(line, reply)
        reply.outcome, reply.error_code = "invalid", FailureCode.SCHEMA_MISMATCH
        reply.schema_error = reply.message = fit.mismatches[0].in_words()
        asks = 1 + (len(case.asked.tries) if case.asked is not None else 0)
        if asks > self.most or may_be_cut or not fit.text.strip() or self._is_over(line, reply.message):
            return None
        return fit

    def _is_over(self, line: RequestLine, example: str) -> bool:
        """Whether so many lines miss that none is asked again."""
        missed = self._missed
        if not self._has_stopped and missed.count >= JUDGED_FROM and missed.share > self._max_share:
            self._has_stopped = True
            share = f"{self._max_share:.2%}".replace(".00%", "%")
            self._notice(
                f"{missed.hits:,} of the last {missed.count:,} answers do not fit their schema, more than --max-reasks "
                f"{share}: no line is asked again from now on, and the job goes on; look at the schema "
                f"(e.g. line {line.line_number}: {example})"
            )
        return self._has_stopped
