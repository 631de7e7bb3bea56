"""The parts of the manual that the program writes: between `<!-- name -->` and `<!-- /name -->`."""

from __future__ import annotations

import re
from collections.abc import Callable

from batchrun.records.outcome import FAMILIES, FailureCode
from batchrun.simulator.fault_words import ANSWER_WORDS, ERROR_WORDS, SILENT_WORDS
from tests.docs.pages import MANUAL
from tests.docs.program import COMMANDS, help_of

_OPTION = re.compile(r"--[a-z][a-z-]*")


def help_blocks() -> str:
    blocks = [help_of(), *(help_of(name) for name in COMMANDS)]
    return "\n\n".join(f"```text\n{block.rstrip()}\n```" for block in blocks)


def fault_table() -> str:
    words = {**ANSWER_WORDS, **SILENT_WORDS, **ERROR_WORDS}
    rows = [f"| `{word}` | {does} |" for word, does in words.items()]
    return "\n".join(["| word | what the attempt meets |", "|---|---|", *rows])


def code_table() -> str:
    meanings = {code.value: code.meaning for code in FailureCode}
    meanings["unsent"] = f"only in the run log: {meanings['unsent']}"
    meanings |= {f"{start}…": meaning for start, meaning in FAMILIES.items()}
    rows = [f"| `{code}` | {_OPTION.sub(_in_backticks, meaning)} |" for code, meaning in meanings.items()]
    return "\n".join(["| code | when it is given |", "|---|---|", *rows])


def _in_backticks(option: re.Match[str]) -> str:
    return f"`{option[0]}`"


GENERATED: dict[str, tuple[str, Callable[[], str]]] = {
    "help": ("commands", help_blocks),
    "faults": ("simulator", fault_table),
    "codes": ("failures", code_table),
}


def replace_part(text: str, name: str, content: str) -> str:
    """The page with the part of that name replaced. Raises `ValueError` where it has no such part."""
    start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
    before, found_start, rest = text.partition(start)
    _, found_end, after = rest.partition(end)
    if not found_start or not found_end:
        raise ValueError(f"no part {start.strip()} … {end.strip()}")
    return f"{before}{start}\n{content}\n\n{end}{after}"


def write_generated() -> None:
    """Write every generated part anew."""
    for name, (page, generate) in GENERATED.items():
        write_part(page, name, generate())


def write_part(page: str, name: str, content: str) -> None:
    """Write one part of a page of the manual anew."""
    path = MANUAL[page].path
    path.write_text(replace_part(path.read_text("utf-8"), name, content), encoding="utf-8")
