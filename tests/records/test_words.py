"""What others say is shown as one line, without what would act on the screen."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.records.words import printable, printable_json, printable_lines

ACTS = [
    ("\x1b[31mred\x1b[0m", "red"),
    ("\x1b[2J\x1b[1;1Hcleared", "cleared"),
    ("\x9b2Jcleared", "cleared"),
    ("\x1b]0;a title\x07rest", "rest"),
    ("\x1b]8;;https://evil.example\x1b\\link\x1b]8;;\x1b\\", "link"),
    ("\x9d0;a title\x9crest", "rest"),
    ("\x1bP1$r0m\x1b\\rest", "rest"),
    ("\x1b]0;never ended", "0;never ended"),
    ("\x1bcreset\x1b", "reset"),
    ("bell\x07 nul\x00 back\x08space", "bell nul backspace"),
    ("one\nbatchrun: forged\r\nline", "one batchrun: forged line"),
    ("nel\x85ls\u2028ps\u2029vt\x0bff\x0ctab\tend", "nel ls ps vt ff tab end"),
    ("abc\u202etxt.exe\u2066\u2069\u200f", "abctxt.exe"),
    ("half \ud83d of a pair", "half ? of a pair"),
    ("模型 gpt-4.1\u3000🌍 \u200d", "模型 gpt-4.1\u3000🌍 \u200d"),
]


@pytest.mark.parametrize(("said", "shown"), ACTS)
def test_what_acts_on_a_screen_is_not_shown(said: str, shown: str) -> None:
    assert printable(said) == shown


@given(st.text(st.characters(codec=None)))
def test_no_text_holds_a_control_character_a_line_break_or_a_turn_of_direction(said: str) -> None:
    shown = printable(said)
    assert not {"Cc", "Zl", "Zp", "Cs"} & set(map(unicodedata.category, shown))
    assert not {"LRO", "RLO", "LRE", "RLE", "PDF", "LRI", "RLI", "FSI", "PDI"} & set(
        map(unicodedata.bidirectional, shown)
    )
    assert printable(shown) == shown
    lines = printable_lines(said)
    assert lines.count("\n") == said.count("\n")


@given(st.text())
def test_json_keeps_its_value_and_holds_nothing_that_acts(said: str) -> None:
    encoded = json.dumps({"said": said}, ensure_ascii=False, indent=2).encode()
    shown = printable_json(encoded)
    assert json.loads(shown) == {"said": said}
    assert printable_lines(shown.decode()) == shown.decode()
