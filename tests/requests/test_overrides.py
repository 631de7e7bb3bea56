"""Changes to requests that cannot be what was meant are refused; as options they can be logged, and had back."""

from __future__ import annotations

import pytest

from batchrun.errors import UsageError
from batchrun.records.request import Overrides
from batchrun.requests.overrides import as_options, from_options
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


@pytest.mark.parametrize(
    "overrides",
    [
        Overrides(),
        Overrides("gpt-4.1", {"temperature": 0, "user": "me=you"}, True, "chat"),
        Overrides(None, {}, False),
    ],
)
def test_options_that_were_logged_are_overrides_again(overrides: Overrides) -> None:
    assert from_options(as_options(overrides)) == overrides


def test_an_option_too_long_for_the_log_cannot_be_had_back() -> None:
    assert from_options(as_options(Overrides(fields={"user": "x" * 61}))) is None
