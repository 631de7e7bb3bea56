"""How the answers so far agree with gold: columns of the table that have the right answers of some of its rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from batchrun.datasets.prepared import Prepared, read_prepared
from batchrun.datasets.tables import Format, Source, open_table
from batchrun.errors import UsageError
from batchrun.evaluation.asked import Asked
from batchrun.evaluation.fields import ANSWER, TEXT, Answer, choose_fields
from batchrun.evaluation.gold import Gold, gold_column, ids_of
from batchrun.evaluation.scorers import EXACT
from batchrun.evaluation.tally import FieldTally
from batchrun.evaluation.verdict import Counts, Unanswered, Verdict, of_all_fields
from batchrun.evaluation.warnings import not_allowed
from batchrun.labelling.job_file import JobFile
from batchrun.labelling.paths import LabelPaths
from batchrun.records.answer import read_result
from batchrun.records.index import HashTable, hash64
from batchrun.stats.proportions import Interval, wilson

_VERDICTS = tuple(Verdict)


def gold_columns(told: Sequence[str], fields: Sequence[str], columns: Sequence[str]) -> dict[str, str]:
    """The column of gold for each field, of texts such as `topic=right_topic` or `right_topic`.

    `fields`: those of the schema, none where there is no schema; `columns`: those of the table. A column alone is that
    of the field of its name, or of the only field.

    Raises `UsageError` for a column that is not there, a field that is not, or one that is told twice.
    """
    known, found = list(fields) or [ANSWER], dict[str, str]()
    for text in told:
        field, equals, column = text.partition("=")
        if not equals or text in columns:
            column = text
            field = column if column in known or len(known) > 1 else known[0]
        if column not in columns:
            raise UsageError(f"--gold {text}: the table has no column {column!r}; it has {', '.join(columns)}")
        if field not in known:
            raise UsageError(
                f"--gold {text}: say which field: --gold FIELD={column}; the fields are {', '.join(known)}"
            )
        if field in found:
            raise UsageError(f"--gold {text}: {field} is told twice")
        found[field] = column
    return found


def refuse_shown(gold: Mapping[str, str], used: Sequence[str]) -> None:
    """Raise `UsageError` if the requests use a column of gold: the model would be told the right answer."""
    if shown := [column for column in gold.values() if column in used]:
        raise UsageError(
            f"--gold {shown[0]}: the requests use this column, so the model is told the right answer; "
            "take it out of the prompt"
        )


def gold_of_job(folder: Path) -> tuple[Source, Mapping[str, str]] | None:
    """The table of a labelling job and its columns of gold, by field; None where the job was told of none.

    Raises `UsageError` for a job file that cannot be used.
    """
    paths = LabelPaths(folder)
    told, prepared = JobFile.read(paths.job), read_prepared(paths.requests)
    if told is None or prepared is None or not told.gold:
        return None
    data = prepared.data
    path = str(Path(told.directory, data.name))
    return Source(path, Format(data.format), data.encoding, data.delimiter), told.gold


class Agreement:
    """Reads the records of a run that goes on, and counts how they agree with gold. `warnings` are about gold itself.

    Raises `UsageError` or `InputError` for gold that cannot be used.
    """

    MOST_AT_ONCE = 500  # records; the others are read the next time, so that the run does not wait

    def __init__(self, source: Source, results: Path, prepared: Prepared, columns: Mapping[str, str]) -> None:
        schema = (prepared.format or {}).get("schema")
        asked = Asked(prepared, schema if isinstance(schema, dict) else None)
        with open_table(source) as table:
            self._reader = asked.reader()
            known = {ANSWER: TEXT} | {name: scorer or EXACT for name, scorer in asked.scorers().items()}
            fields = choose_fields(known, columns.values(), columns, {}, table.name)
            self._tallies = [FieldTally(one, gold_column(one.column, one.scorer)) for one in fields]
            ids = ids_of(table, None, asked)
            self._gold = Gold(table, ids, [tally.column for tally in self._tallies])
        self.warnings = list(not_allowed(self._tallies, asked))
        self._results = results
        self._file: IO[bytes] | None = None
        self._rest = b""
        self._seen = HashTable()  # the verdict on each answer, by its place in `Verdict`
        self._counts = Counter[Verdict]()

    def look(self) -> str:
        """Read on, and say how the answers agree so far: `gold 91% (86–94%)`; "" where nothing does yet."""
        self._read_on()
        found = self.so_far
        if found.value is None or found.lower is None or found.upper is None:
            return ""
        return f"gold {found.value:.0%} ({100 * found.lower:.0f}–{found.upper:.0%})"

    @property
    def so_far(self) -> Interval:
        """The share of rows with gold that are right, of those that were asked; an unanswered row is not right."""
        counts = Counts.of(self._counts)
        return wilson(counts.right, counts.denominator(Unanswered.WRONG))

    def __enter__(self) -> Agreement:
        return self

    def __exit__(self, *_: object) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        """Close the file, as another one may take its place; the next look begins at its start."""
        if self._file is not None:
            self._file.close()
        self._file, self._rest = None, b""
        self._seen, self._counts = HashTable(), Counter()

    def _read_on(self) -> None:
        if self._file is None:
            try:
                self._file = self._results.open("rb")
            except OSError:
                return  # it is not there yet
        for _ in range(self.MOST_AT_ONCE):
            self._rest += self._file.readline()
            if not self._rest.endswith(b"\n"):
                return  # the rest of it is still to be written
            self._take(self._rest)
            self._rest = b""

    def _take(self, raw: bytes) -> None:
        try:
            result = read_result(raw.removesuffix(b"\n"))
        except ValueError:
            return  # damaged: whoever reads the whole file tells
        row, _ = self._gold.find(result.custom_id)
        if row is None:
            return
        answer = Answer(result, self._reader)
        verdict = of_all_fields([tally.judge(answer, row).verdict for tally in self._tallies])
        if verdict is Verdict.UNSCORED:
            return
        key = hash64(result.custom_id)
        if (before := self._seen.get(key)) is not None:
            self._counts[_VERDICTS[before]] -= 1
        self._seen.set(key, _VERDICTS.index(verdict))
        self._counts[verdict] += 1
