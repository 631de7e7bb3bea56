"""Templates: what is asked of each row. Jinja2 in its sandbox; a name that no column has is an error before the first.

1. The cells of a row are values, never templates: what stands in a cell goes out as it is.
2. A text without braces goes out as it is written, CR, blanks and line ends included.
3. Equal rows give equal texts: there is no chance and no clock in here.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from batchrun.errors import UsageError

if TYPE_CHECKING:
    from jinja2 import nodes

ROW, ROW_NUMBER = "row", "row_number"
_OWN = "self"  # the template itself: it would go out as the name of an object
_HELPERS = ("range", "dict", "namespace", "cycler", "joiner")
_STANDS_FOR_CR = "\x1c\x1d\x1e\x1f"  # blanks to Jinja2, which makes every CR LF to LF
_SHOWN_COLUMNS = 30

Cells = Mapping[str, Any]
FAILURES = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError)
"""What can be raised over the values of a row."""


class Templates:
    """Compiles the templates over the columns of one table.

    `used`: the columns that the templates compiled so far use, in the order of the table.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        from jinja2 import StrictUndefined
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        self._columns = columns
        self._environment = ImmutableSandboxedEnvironment(
            undefined=StrictUndefined, finalize=_as_text, keep_trailing_newline=True
        )
        taken = self._environment.globals
        self._environment.globals = {name: taken[name] for name in _HELPERS if name not in columns}
        del self._environment.filters["random"]
        self._environment.filters["tojson"] = _json_filter
        self._used = set[str]()

    @property
    def used(self) -> list[str]:
        """The columns that are used, in the order of the table."""
        return [column for column in self._columns if column in self._used]

    def use(self, option: str, column: str) -> None:
        """Count a column as used. Raises `UsageError` if there is none of that name."""
        self.check(option, column)
        self._used.add(column)

    def compile(self, option: str, source: str) -> Template:
        """A template; `option` is what messages call it. Raises `UsageError` for bad syntax and for unknown names."""
        from jinja2 import Template as JinjaTemplate
        from jinja2 import TemplateSyntaxError

        mark = next((mark for mark in _STANDS_FOR_CR if mark not in source), None)
        if mark is None and "\r" in source:
            raise UsageError(f"{option}: it holds control characters; take them out")
        try:
            tree = self._environment.parse(source.replace("\r", mark) if mark else source)
            if mark:
                _put_back(tree, mark)
            names, columns = self._names(option, tree)
            code = self._environment.compile(tree)
        except TemplateSyntaxError as error:
            raise UsageError(f"{option}, line {error.lineno}: {error.message}") from None
        self._used |= columns
        compiled = JinjaTemplate.from_code(self._environment, code, self._environment.globals)
        return Template(compiled, sorted(columns), is_constant=not names, takes_row=ROW in names)

    def condition(self, option: str, source: str) -> Callable[[int, Cells], bool]:
        """An expression over a row that is true or false. Its columns do not count as used.

        Raises `UsageError`; what is returned raises `ValueError` where it does not fit a row.
        """
        from jinja2 import TemplateError, TemplateSyntaxError

        try:
            _, columns = self._names(option, self._environment.parse("{{ (" + source + "\n) }}"))
            call = self._environment.compile_expression(source, undefined_to_none=False)
        except TemplateSyntaxError as error:
            raise UsageError(f"{option}: {error.message}") from None

        def holds(number: int, cells: Cells) -> bool:
            values = {name: cells[name] for name in columns if name in cells}
            try:
                return bool(call(values | {ROW: cells, ROW_NUMBER: number}))
            except (TemplateError, *FAILURES) as error:
                raise _failed("the condition", error) from None

        return holds

    def _names(self, option: str, tree: nodes.Template) -> tuple[set[str], set[str]]:
        """The variables that a template uses, and the columns that it uses by them or through `row`."""
        from jinja2 import meta, nodes

        if next(tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)), None) is not None:
            raise UsageError(f"{option}: a template cannot take in others; put the whole of it into one file")
        if any(node.name == _OWN for node in tree.find_all(nodes.Name)):
            raise UsageError(f'{option}: {_OWN} is a word of Jinja2; write row["{_OWN}"] for a column of that name')
        names = meta.find_undeclared_variables(tree)
        columns = names - {ROW, ROW_NUMBER}
        for name in columns:
            self.check(option, name)
        return names, columns | (self._through_row(option, tree) if ROW in names else set())

    def _through_row(self, option: str, tree: nodes.Template) -> set[str]:
        """The columns that are used as `row["any name"]`; all of them where the name is not written out."""
        from jinja2 import nodes

        used, count = set[str](), 0
        for node in tree.find_all((nodes.Getitem, nodes.Getattr)):
            of = getattr(node, "node", None)
            if not isinstance(of, nodes.Name) or of.name != ROW:
                continue
            name = node.attr if isinstance(node, nodes.Getattr) else getattr(getattr(node, "arg", None), "value", None)
            if isinstance(name, str) and (isinstance(node, nodes.Getitem) or name in self._columns):
                self.check(option, name)
                used.add(name)
                count += 1
        mentioned = sum(node.name == ROW and node.ctx == "load" for node in tree.find_all(nodes.Name))
        return used if count == mentioned else set(self._columns)

    def check(self, option: str, name: str) -> None:
        """Raise `UsageError` if no column has this name."""
        if name in self._columns:
            return
        near = difflib.get_close_matches(name, self._columns, 1, 0.5)
        maybe = f'; did you mean "{near[0]}"? The' if near else "; the"
        shown = ", ".join(self._columns[:_SHOWN_COLUMNS]) + (", …" if len(self._columns) > _SHOWN_COLUMNS else "")
        raise UsageError(f'{option}: no column is named "{name}"{maybe} columns are: {shown}')


class Template:
    """A compiled template. `is_constant`: it uses nothing of the row."""

    def __init__(self, compiled: Any, columns: Sequence[str], *, is_constant: bool, takes_row: bool) -> None:
        from jinja2 import TemplateError

        self._compiled = compiled
        self._columns = columns
        self._takes_row = takes_row
        self._error = TemplateError
        self._constant: str | None = None
        self.is_constant = is_constant

    def render(self, number: int, cells: Cells) -> str:
        """The text for a row. Raises `ValueError` where the template does not fit it."""
        if self._constant is not None:
            return self._constant
        values = {name: cells[name] for name in self._columns}
        values[ROW_NUMBER] = number
        if self._takes_row:
            values[ROW] = cells
        try:
            text: str = self._compiled.render(values)
        except (self._error, *FAILURES) as error:
            raise _failed("the template", error) from None
        if self.is_constant:
            self._constant = text
        return text


def _failed(what: str, error: Exception) -> ValueError:
    why = str(error) or type(error).__name__
    return ValueError(f"{what} does not fit this row ({why}); change it, or leave such rows out with --where")


def _put_back(tree: nodes.Template, mark: str) -> None:
    """Make the CRs again that were replaced, wherever text goes out as it stands."""
    from jinja2 import nodes

    for data in tree.find_all(nodes.TemplateData):
        data.data = data.data.replace(mark, "\r")
    for constant in tree.find_all(nodes.Const):
        if isinstance(constant.value, str):
            constant.value = constant.value.replace(mark, "\r")


def _as_text(value: Any) -> Any:
    """How a value is written into a text: null as nothing, what JSON has as JSON."""
    if type(value) is str:
        return value
    if value is None:
        return ""
    if isinstance(value, (bool, list, dict)):
        return _json(value)
    return value


def _json_filter(value: Any, indent: int | None = None) -> str:
    """`tojson` for texts: Jinja2's own makes it fit for HTML, `<` as `\\u003c`."""
    return _json(value) if indent is None else json.dumps(value, ensure_ascii=False, default=str, indent=indent)


def _json(value: Any) -> str:
    try:
        return orjson.dumps(value, option=orjson.OPT_PASSTHROUGH_SUBCLASS, default=_written).decode()
    except TypeError:  # whole numbers beyond 64 bits
        return json.dumps(value, ensure_ascii=False, default=str)


def _written(value: Any) -> Any:
    return orjson.Fragment(str(value)) if isinstance(value, float) else str(value)
