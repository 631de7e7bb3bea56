"""Templates: what goes out, which columns they use, and that a cell is never more than a value."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.datasets.json_values import parse
from batchrun.datasets.template import Templates
from batchrun.errors import UsageError

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def rendered(source: str, cells: dict[str, Any], number: int = 1) -> str:
    return Templates(list(cells)).compile("-p", source).render(number, cells)


def used(source: str, *columns: str) -> list[str]:
    templates = Templates(columns)
    templates.compile("-p", source)
    return templates.used


@given(TEXT.filter(lambda text: not any(mark in text for mark in ("{{", "{%", "{#"))))
def test_text_goes_out_as_it_is_written(text: str) -> None:
    assert rendered(text, {"a": "x"}) == text
    assert rendered(f"{text} {{{{ a }}}}{text}", {"a": "x"}) == f"{text} x{text}"


@given(TEXT)
def test_a_cell_is_a_value_and_never_a_template(cell: str) -> None:
    assert rendered("<{{ a }}>{{ row['a'] }}", {"a": cell}) == f"<{cell}>{cell}"


@pytest.mark.parametrize("cell", ["{{ 7*7 }}", "{% for x in y %}", "{# no #}", "```json\n{}\n```", "{{ row }}", "\r\n"])
def test_what_looks_like_a_template_in_a_cell_goes_out_as_text(cell: str) -> None:
    assert rendered("A\r\n{{ a }}\r", {"a": cell}) == f"A\r\n{cell}\r"
    assert rendered("{% if a %}{{ a|trim }}{% endif %}", {"a": cell}) == cell.strip()


def test_values_of_json_are_rendered_as_they_are_written() -> None:
    cells = parse('{"n": 1.10, "e": 1e5, "big": 12345678901234567890, "no": null, "t": true, "l": [1.50, "x", null]}')
    assert rendered("{{ n }} {{ e }} {{ big }} <{{ no }}> {{ t }} {{ l }}", cells) == (
        '1.10 1e5 12345678901234567890 <> true [1.50,"x",null]'
    )
    assert rendered("{% for x in l %}{{ loop.index }}={{ x }};{% endfor %}", cells) == "1=1.50;2=x;3=;"
    assert rendered("{{ n + 1 }}", cells) == "2.1"
    assert rendered("{{ o.k }}", {"o": {"k": "v"}}) == "v"


@pytest.mark.parametrize(
    ("source", "columns"),
    [
        ("no column", []),
        ("{{ b }}{{ a }}", ["a", "b"]),
        ("{% if a %}{{ row['c d'] }}{% endif %}", ["a", "c d"]),
        ("{{ row.b }}", ["b"]),
        ("{% set x = a %}{{ x }}", ["a"]),
        ("{{ row_number }}", []),
        ("{% for name, cell in row.items() %}{{ cell }}{% endfor %}", ["a", "b", "c d"]),
        ("{{ row[a] }}", ["a", "b", "c d"]),
        ("{{ row['a'] }}{{ row|length }}", ["a", "b", "c d"]),
    ],
)
def test_the_columns_that_are_used_are_known_before_the_first_row(source: str, columns: list[str]) -> None:
    assert used(source, "a", "b", "c d") == columns


def test_json_in_a_text_is_as_it_is_written_and_not_made_for_html() -> None:
    cells = parse('{"a": "<b> & \\"c\\"", "n": 1.10}')
    assert rendered("{{ row|tojson }}", cells) == '{"a":"<b> & \\"c\\"","n":1.10}'
    assert rendered("{{ row }}", cells) == rendered("{{ row|tojson }}", cells)
    assert rendered("{{ [a]|tojson(indent=2) }}", cells) == '[\n  "<b> & \\"c\\""\n]'


def test_a_column_may_have_the_name_of_a_helper_of_jinja() -> None:
    assert used("{{ range }}", "range", "dict") == ["range"]
    assert rendered("{{ range }}", {"range": "near"}) == "near"
    assert rendered("{% for i in range(3) %}{{ i }}{% endfor %}", {"a": ""}) == "012"


def test_a_column_named_row_is_reached_through_the_row() -> None:
    assert rendered("{{ row['row'] }}{{ row['row_number'] }}{{ row_number }}", {"row": "a", "row_number": "b"}) == "ab1"
    assert used("{{ row['row'] }}", "row", "other") == ["row"]


def test_the_number_of_the_row_counts() -> None:
    assert rendered("{{ row_number }}", {"a": ""}, 7) == "7"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ txt }}", '-p: no column is named "txt"; did you mean "text"? The columns are: text, lang'),
        ("{{ row['txt'] }}", '-p: no column is named "txt"; did you mean "text"?'),
        ("{{ zzz }}", '-p: no column is named "zzz"; the columns are: text, lang'),
        ("a\n{{ text", "-p, line 2: unexpected end of template"),
        ("{{ text|nofilter }}", "-p, line 1: No filter named 'nofilter'"),
        ("{{ text|random }}", "-p, line 1: No filter named 'random'"),
        ("{{ lipsum() }}", '-p: no column is named "lipsum"'),
        ("{{ self }}", '-p: self is a word of Jinja2; write row["self"]'),
        ("{% include 'other' %}", "-p: a template cannot take in others; put the whole of it into one file"),
        ("{% extends text %}", "-p: a template cannot take in others"),
        ("{% from 'other' import x %}", "-p: a template cannot take in others"),
        ("{{ loop.index }}", '-p: no column is named "loop"'),
    ],
)
def test_a_template_that_cannot_be_used_is_refused_before_the_first_row(source: str, message: str) -> None:
    with pytest.raises(UsageError) as refused:
        Templates(["text", "lang"]).compile("-p", source)
    assert str(refused.value).startswith(message)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ row.__class__ }}",
        "{{ a.__init__.__globals__ }}",
        "{{ a.nothing }}",
        "{{ a + 1 }}",
        "{{ 1 / 0 }}",
        "{{ l.append(1) }}",
        "{{ range(10000000)|list }}",
        "{{ '%s' % (1, 2) }}",
    ],
)
def test_a_template_reaches_nothing_but_the_row(source: str) -> None:
    cells = {"a": "x", "l": [1]}
    with pytest.raises(ValueError, match="the template does not fit this row"):
        rendered(source, cells)
    assert cells == {"a": "x", "l": [1]}


@pytest.mark.parametrize(
    ("source", "holds"),
    [
        ("lang == 'de'", True),
        ("lang in ('en', 'fr')", False),
        ("score|int > 3", True),
        ("row['score'] == '4' and row_number == 2", True),
        ("text", False),
        ("not text", True),
        ("text.startswith('x') or true", True),
    ],
)
def test_a_condition_is_true_or_false_of_a_row(source: str, holds: bool) -> None:
    cells = {"lang": "de", "score": "4", "text": ""}
    templates = Templates(list(cells))
    assert templates.condition("--where", source)(2, cells) is holds
    assert templates.used == [], "the requests do not use them"
