"""What is made ready while nothing else is to be done: the orders by numbers, and the rows of the most frequent words.

1. Only where there are many rows: for few of them all is found at once.
2. Each step is short, so that new rows and questions are not held up. What was made is kept in the index file.
3. Where rows were added since, an order is made from the one before, and a word is asked of the rows behind it.
"""

from __future__ import annotations

import re
import threading
from array import array
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence

import orjson

from batchrun.viewer.columns import Columns, Numbers
from batchrun.viewer.index_file import IndexFile

LEAST_ROWS = 20_000
"""With fewer rows nothing is made ready."""
FREQUENT = 0.04
"""The share of rows that a word must be in to have its set of rows."""
_OLD = 0.9  # what is there for fewer of the rows is made again
_STEP_ROWS = 50_000
_KEPT_ORDERS = 2
_WORD = re.compile(r"[^\W_]+")


class QuietHours:
    """Makes things ready for one index. `tidy` and `sample` are for the thread that reads, `order` for any."""

    def __init__(self, file: IndexFile) -> None:
        self._file = file
        self._sampled = self._told_of = 0
        self._told = "{}"
        self._words: Counter[str] = Counter()
        self._orders: OrderedDict[str, array[int]] = OrderedDict()
        self._lock = threading.Lock()
        self._ready: dict[str, dict[str, int]] = {"ordering": {}, "common": {}}
        self._steps: Iterator[None] | None = None
        self._steps_rows = 0

    def load(self, samples: str) -> None:
        """Take over what was sampled and made before."""
        told = orjson.loads(samples)
        self._sampled, self._words = told.get("texts", 0), Counter(told.get("words", {}))
        self._ready = {table: self._file.known(table) for table in self._ready}

    def samples(self) -> str:
        """What was sampled: the words that may be frequent. It is told anew where a tenth has come to it."""
        if self._sampled < 1.1 * self._told_of:
            return self._told
        self._told_of = self._sampled
        least = self._sampled * FREQUENT / 2
        words = {word: count for word, count in self._words.items() if count >= least}
        self._told = orjson.dumps({"texts": self._sampled, "words": words}).decode()
        return self._told

    def sample(self, texts: Sequence[str]) -> None:
        """Note the words of some texts out of many."""
        for text in texts:
            self._sampled += 1
            self._words.update(set(_WORD.findall(text.lower())))
        if len(self._words) > 30_000:
            least = self._sampled * FREQUENT / 4
            self._words = Counter({word: count for word, count in self._words.items() if count >= least})

    def order(self, numbers: Numbers) -> array[int]:
        """All rows by a number."""
        with self._lock:
            order = self._orders.get(numbers.name)
            if order is None:
                order = self._file.order(numbers.name)
            if len(order) < len(numbers.values):
                order = numbers.order(order)
            self._orders[numbers.name] = order
            self._orders.move_to_end(numbers.name)
            while len(self._orders) > _KEPT_ORDERS:
                self._orders.popitem(last=False)
            return order

    def tidy(self, columns: Columns) -> bool:
        """Do one step; False where nothing is left to do."""
        if len(columns) < LEAST_ROWS:
            return False
        if self._steps is None:
            self._steps, self._steps_rows = self._all_steps(columns, len(columns)), len(columns)
        for _ in self._steps:
            return True
        if self._steps_rows < _OLD * len(columns):
            self._steps = None
        return False

    def _all_steps(self, columns: Columns, count: int) -> Iterator[None]:
        for name, numbers in columns.numbers.items():
            if self._ready["ordering"].get(name, 0) < _OLD * count:
                order = numbers.order_by_parts()
                self._file.keep_order(name, order)
                self._ready["ordering"][name] = len(order)
                yield
        while self._file.merge():
            yield
        frequent = [word for word, found in self._words.most_common() if found >= FREQUENT * self._sampled]
        for query in (f'"{word}"' for word in frequent):
            start = self._ready["common"].get(query, 0)
            if start >= _OLD * count:
                continue
            rows = self._file.having(query, start)
            for first in range(start, count, _STEP_ROWS):
                rows |= self._file.words_between(query, first, min(count, first + _STEP_ROWS))
                yield
            self._file.keep_common(query, count, rows)
            self._ready["common"][query] = count
