"""Commands and options: what the pages name exists, what exists is named, and every line to copy parses."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.generate import GENERATED, replace_part
from tests.docs.pages import MANUAL, PAGES, README, ROOT, Page, shell_lines
from tests.docs.program import COMMANDS, help_of, options, parse, spellings

OF_OTHER_PROGRAMS = {"--strict"}  # mypy's
ALL_SPELLINGS = {spelling for command in COMMANDS.values() for spelling in spellings(command)}


# ---------------------------------------------------------------------------------- the generated parts


@pytest.mark.parametrize("name", GENERATED)
def test_a_generated_part_is_as_the_program_writes_it(name: str) -> None:
    """Where this fails: python -m tests.docs"""
    page, generate = GENERATED[name]
    assert replace_part(MANUAL[page].text, name, generate()) == MANUAL[page].text


def test_the_help_of_every_command_stands_in_the_manual() -> None:
    for name in COMMANDS:
        assert help_of(name).rstrip() in MANUAL["commands"].text, name


# ------------------------------------------------------------------------------------ every command's help


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help_with_an_example_and_a_word_for_every_option(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    assert "Example:\n" in command.help
    assert f"\n  batchrun {name} " in command.help or f"\n      batchrun {name} " in command.help
    for option in options(command):
        assert option.help, option.name
        assert option.help.endswith((".", "]", '".')), option.name


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_stands_in_the_manual(name: str) -> None:
    for option in options(COMMANDS[name]):
        for spelling in [*option.opts, *option.secondary_opts]:
            assert re.search(rf"(?<![\w-]){spelling}(?![\w-])", MANUAL["commands"].text), spelling


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_explained_beside_its_help(name: str) -> None:
    pages = "\n".join(page.text for stem, page in MANUAL.items() if stem != "commands")
    for option in options(COMMANDS[name]):
        for way in filter(None, (option.opts, option.secondary_opts)):
            assert any(re.search(rf"(?<![\w-]){spelling}(?![\w-])", pages) for spelling in way), way


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_named_outside_its_help(name: str) -> None:
    pages = [page.written for page in MANUAL.values()]
    assert any(f"batchrun {name}" in text for text in pages)


# ----------------------------------------------------------------------------------------- the commands


def batchrun_commands() -> list[tuple[str, str]]:
    """Every `batchrun …` to copy, with the name of its page; the examples of the help texts included."""
    lines = [(page.name, line) for page, line in shell_lines()]
    for name, command in COMMANDS.items():
        lines += [(f"help of {name}", line.strip()) for line in (command.help or "").splitlines()]
    found = {}
    for page, line in lines:
        for part in line.split("&&"):
            words = part.split()
            if words and Path(words[0]).name == "batchrun":
                found[part.strip()] = page
    return [(page, command) for command, page in found.items()]


@pytest.mark.parametrize(("page", "command"), batchrun_commands())
def test_a_command_to_copy_parses(page: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the program parses it, with every file that it names there."""
    words = shlex.split(command, comments=True)[1:]
    words = words[: next((at for at, word in enumerate(words) if word in ("<", ">")), len(words))]
    monkeypatch.chdir(tmp_path)
    for word in words:
        if re.search(r"\.\w+$", word) and "://" not in word:
            Path(word).parent.mkdir(parents=True, exist_ok=True)
            Path(word).write_text("")
        elif word.endswith("/"):
            Path(word).mkdir()
            Path(word, "plan.json").write_text("{}")
    parse(words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_command_or_an_option_that_is_named_exists(page: Page) -> None:
    for word in page.code_words():
        if found := re.match(r"batchrun (\w+)", word):
            assert found[1] in COMMANDS or found[1] in word
        for option in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", word):
            assert option in ALL_SPELLINGS | OF_OTHER_PROGRAMS, word


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_line_for_shell_completion_prints_a_script(shell: str) -> None:
    line = next(line for line in MANUAL["guide"].lines_to_copy() if f"_BATCHRUN_COMPLETE={shell}_source" in line)
    assert re.search(r"_BATCHRUN_COMPLETE=\w+ batchrun\b", line)
    done = subprocess.run(
        [sys.executable, "-m", "batchrun"],
        env=os.environ | {"_BATCHRUN_COMPLETE": f"{shell}_source", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        encoding="utf-8",
        timeout=30,
    )
    assert done.returncode == 0
    assert "_BATCHRUN_COMPLETE" in done.stdout


# --------------------------------------------------------------------------------- the README's own two


def first_commands() -> tuple[str, str]:
    """The two commands from the top of the README: to try it, and to test it."""
    found = [line for line in README.lines_to_copy() if line.startswith("python3 -m venv .venv && ")]
    return found[0], found[1]


def test_the_readme_begins_with_one_command_to_try_it_and_one_to_test_it() -> None:
    setup = "python3 -m venv .venv && .venv/bin/pip install -q "
    tried, tested = first_commands()
    assert tried == setup + (
        ". && .venv/bin/batchrun label samples/labelling/messages.csv --id custom_id -p @samples/labelling/prompt.txt "
        "-s @samples/labelling/schema.txt --model gpt-4.1-mini --prefix llm_ --gold topic --gold sentiment "
        "--gold urgent -o labelled.csv --simulate --simulate-answers samples/labelling/messages.csv "
        "--simulate-accuracy 0.9 --yes"
    )
    assert tested == setup + "-e '.[test]' && .venv/bin/pytest"
    assert README.text.index(tested) < README.text.index("\n## ")


def test_ci_runs_the_commands_of_the_readme_and_not_its_own() -> None:
    """The install is proved there; here it is held that nothing else is installed by hand."""
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "README.md" in script
    assert not re.search(r"pip\S* install", script)
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


@pytest.fixture(scope="module")
def bill(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What the README's first command prints on the screen, from the bill on."""
    folder = tmp_path_factory.mktemp("first")
    command = first_commands()[0].split("&& ")[-1].removeprefix(".venv/bin/batchrun ")
    (folder / "samples").symlink_to(ROOT / "samples")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    done = subprocess.run(
        [sys.executable, "-m", "batchrun", *shlex.split(command)],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "292 ok: labelled.csv\n")
    told = done.stderr.splitlines()
    return told[next(place for place, line in enumerate(told) if line.startswith("model ")) :]


def test_the_first_command_of_the_readme_prints_a_bill(bill: list[str]) -> None:
    shown = README.text[README.text.index("model         lines   ok  failed") :].splitlines()
    assert bill[:2] == shown[:2]
    assert re.fullmatch(r"attempts for these records: 292, 0 retries, 0 throttled; [\d.]+ s, [\d.]+ lines/s", bill[2])
    assert re.fullmatch(r"latency: p50 [\d.]+ s, p95 [\d.]+ s, p99 [\d.]+ s", bill[4])


def test_the_first_command_of_the_readme_shows_how_the_labels_agree(bill: list[str]) -> None:
    """The simulated gateway is the same each time, so the figures of the page are those of the program."""
    shown = README.text[README.text.index("accuracy       unanswered") :].splitlines()[:2]
    assert [line for line in bill if line in shown] == shown


def test_the_first_command_of_the_readme_prints_what_limited_it(bill: list[str]) -> None:
    shown = next(line for line in README.text.splitlines() if line.startswith("limited by: "))
    named, printed = (set(re.findall(r"[a-z][a-z ]+[a-z]", line)) for line in (shown, bill[3]))
    assert named <= printed
    assert printed - named <= {"gateway speed", "processor", "tail of the run"}, "which a busy machine adds"
