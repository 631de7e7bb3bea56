"""What is said of a value that an option cannot take: what is expected, in plain words."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.commands import Command

WORDS = {
    ("-n", "many"): "'many' is not a whole number, at least 1",
    ("-n", "0"): "'0' is not a whole number, at least 1",
    ("-n", "1.5"): "'1.5' is not a whole number, at least 1",
    ("--pilot", "3"): "'3' is not a whole number, at least 10",
    ("--grace", "soon"): "'soon' is not a number, at least 0",
    ("--grace", "-1"): "'-1' is not a number, at least 0",
    ("--idle-timeout", "0"): "'0' is not a number above 0",
    ("--idle-timeout", "nan"): "'nan' is not a number above 0",
    ("--rpm", "inf"): "'inf' is not a number, at least ",
}


@pytest.mark.parametrize("words", WORDS)
def test_what_is_expected_is_said(batchrun: Command, requests: Path, words: tuple[str, str]) -> None:
    done = batchrun("run", requests, "-o", "r.jsonl", *words)
    assert done.code == 2
    assert WORDS[words] in done.err
    assert "range" not in done.err


def test_a_port_is_a_whole_number(batchrun: Command) -> None:
    assert "'70000' is not a whole number, 0 to 65535" in batchrun("simulator", "--port", "70000").err


@pytest.mark.parametrize("topic", ["Guide", "GUIDE"])
def test_a_page_of_the_manual_is_found_whatever_its_case(batchrun: Command, topic: str) -> None:
    assert batchrun("docs", topic) == batchrun("docs", "guide")
