"""The last values, and how many of them are hits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from batchrun.stats.window import Window


@given(st.lists(st.booleans()), st.integers(1, 10))
def test_only_the_last_values_count(values: list[bool], size: int) -> None:
    window = Window(size)
    for value in values:
        window.add(value)
    last = values[-size:]
    assert (window.count, window.hits) == (len(last), sum(last))
    assert window.share == (sum(last) / len(last) if last else 0.0)
