"""Changes to requests that cannot be what was meant are refused."""

from __future__ import annotations

import pytest

from batchrun.errors import UsageError
from batchrun.records.request import Overrides
from batchrun.requests.reader import RequestFile


def refusal(overrides: Overrides) -> str:
    """What is said before the file is even opened."""
    with pytest.raises(UsageError) as refused:
        RequestFile("/nowhere", overrides)
    return str(refused.value)


@pytest.mark.parametrize(
    ("name", "shown"), [("text.format", """text='{"format": 1}'"""), ("tools[0].type", """tools='{"0": 1}'""")]
)
def test_only_a_top_level_field_can_be_set(name: str, shown: str) -> None:
    said = f"--set {name}: only a top-level field can be set; set the whole of it, such as {shown}"
    assert refusal(Overrides(fields={name: b"1"})) == said


def test_an_api_that_there_is_not_is_refused() -> None:
    assert refusal(Overrides(api="images")) == "--api images: write one of responses, chat, embeddings"
