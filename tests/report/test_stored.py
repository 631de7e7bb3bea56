"""The usage of a record beside that of its payload: a quick look finds nothing but what the closer one finds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.records import charges
from batchrun.records.charges import read_charges
from batchrun.records.result import ResultHead
from batchrun.records.usage import Usage
from batchrun.report import stored
from tests.support import Json, run_info

few = st.integers(0, 3)
items = st.sampled_from(
    [{"type": "message"}, {"type": "reasoning"}, {"type": "web_search_call"}, {"type": "x"}, {}, "x"]
)
usages = st.builds(Usage, few, few, few, few, st.integers(0, 6), few, st.sampled_from([None, {"web_search": 1}]))


def reported(usage: Usage, **other: Any) -> Json:
    """A usage as the official API writes it."""
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.total_tokens,
        **other,
    }


@given(
    usages, usages, st.lists(items, max_size=2), st.sampled_from([{}, {"choices": []}, {"output": None}]), st.booleans()
)
def test_the_quick_look_agrees_with_the_closer_one(
    recorded: Usage, told: Usage, output: list[Any], more: Json, is_same: bool
) -> None:
    body = {"output": output, "usage": reported(recorded if is_same else told), **more}
    head = ResultHead("r-1", run_info(usage=recorded))
    expected = read_charges(body, "succeeded").usage != recorded
    assert stored._differs({"status_code": 200, "body": body}, head) == expected


@pytest.mark.parametrize(
    ("usage", "looks"), [(reported(Usage(12, 3, 5, 2, 17)), 0), (reported(Usage(12, 3, 5, 2, 17), audio_tokens=1), 1)]
)
def test_nearly_all_records_take_the_quick_look(usage: Json, looks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = list[str]()

    def look(fields: Json, outcome: str) -> charges.Charges:
        looked.append(outcome)
        return charges.read_charges(fields, outcome)

    monkeypatch.setattr(stored, "read_charges", look)
    head = ResultHead("r-1", run_info(usage=Usage(12, 3, 5, 2, 17)))
    body = {"output": [{"type": "message"}], "usage": usage}
    assert not stored._differs({"status_code": 200, "body": body}, head)
    assert len(looked) == looks
