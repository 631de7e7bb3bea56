"""The help: sections, headings, whole sentences; what it loads; completion in the shell."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from batchrun.cli.group import SECTIONS, SUMMARIES
from batchrun.cli.main import cli
from batchrun.cli.verb import HEADINGS, Verb
from batchrun.engine.error_limit import KINDS
from tests.cli.commands import BATCHRUN

WIDTH = 100
HEAVY = {"aiohttp", "genai_prices", "jinja2", "jsonschema_rs", "msgspec", "orjson", "rs_bpe", "tqdm", "uvloop"}


def help_of(*words: str, columns: int = WIDTH) -> str:
    done = CliRunner().invoke(cli, [*words, "--help"], terminal_width=columns)
    assert done.exit_code == 0
    return done.output


def verb(name: str) -> Verb:
    command = cli.commands[name]
    assert isinstance(command, Verb)
    return command


def options(command: click.Command) -> list[click.Option]:
    return [param for param in command.params if isinstance(param, click.Option)]


# ------------------------------------------------------------------------------------- the list of commands


def test_the_commands_are_listed_in_sections_each_with_its_whole_summary() -> None:
    text = help_of()
    assert re.findall(r"^(\w+):$", text, re.MULTILINE) == ["Options", *SECTIONS]
    for section, commands in SECTIONS.items():
        part = text[text.index(f"\n{section}:\n") :].split("\n\n")[0]
        rows = [re.split(r"\s{2,}", row.strip()) for row in part.splitlines()[2:]]
        assert rows == [[name, summary] for name, summary in commands.items()]


@pytest.mark.parametrize("columns", [40, 60, 80, WIDTH])
def test_a_narrow_window_wraps_summaries_and_cuts_none(columns: int) -> None:
    text = " ".join(help_of(columns=columns).split())
    assert all(f"{name} {summary}" in text for name, summary in SUMMARIES.items())


@pytest.mark.parametrize("name", SUMMARIES)
def test_a_command_is_there_under_its_name(name: str) -> None:
    assert verb(name).name == name


def test_what_is_no_command_is_none() -> None:
    assert "gateway" not in cli.commands
    assert cli.commands.get("gateway") is None
    assert len(cli.commands) == len(SUMMARIES)


# ----------------------------------------------------------------------------------- the help of a command


@pytest.mark.parametrize("name", SUMMARIES)
def test_the_help_of_a_command_fits_and_names_every_option_once(name: str) -> None:
    text = help_of(name)
    assert max(map(len, text.splitlines())) <= WIDTH
    assert "..." not in text.replace("[ARGS]...", "")
    for option in options(verb(name)):
        for spelling in (*option.opts, *option.secondary_opts):
            assert len(re.findall(rf"^  (?:-\w, |--[\w-]+ / )?{spelling}(?=[ ,]|$)", text, re.MULTILINE)) == 1, spelling
        assert option.help is not None
        assert option.help.endswith("."), option.name
        assert option.help in " ".join(text.split()), option.name


def test_the_options_of_run_stand_under_headings() -> None:
    text = help_of("run")
    headings = re.findall(r"^(\S.*):$", text, re.MULTILINE)
    assert headings == [heading for heading in HEADINGS if heading != "Rows"], "which are those of a table"
    under = {
        heading: re.findall(r"^  (?:-\w, )?(--[\w-]+)", part, re.MULTILINE)
        for heading, part in zip(headings, re.split(r"^\S.*:$", text, flags=re.MULTILINE)[1:], strict=True)
    }
    files = ["--output", "--report", "--changed", "--overwrite", "--no-lock", "--html", "--with-text"]
    assert under["Files"] == files
    assert under["Request"] == ["--model", "--set", "--stream", "--api"]
    assert under["Spending"] == [
        *("--max-cost", "--max-line-cost", "--prices"),
        *("--dedup", "--reuse", "--reuse-batch", "--reuse-any-gateway"),
        *("--pilot", "--yes"),
    ]
    assert under["Screen"] == ["--quiet", "--verbose", "--help"]
    assert sum(map(len, under.values())) == len(options(verb("run"))) + 1


def test_texts_of_all_options_start_in_the_same_column() -> None:
    columns = {
        match.start(2) for line in help_of("run").splitlines() if (match := re.match(r"(  -.*?\s{2,})(\S.*)", line))
    }
    assert len(columns) == 1


def test_few_options_stand_in_one_list() -> None:
    assert "\nOptions:\n" in help_of("schema")
    assert not any(f"\n{heading}:\n" in help_of("schema") for heading in HEADINGS)


def test_defaults_are_written_as_a_user_would() -> None:
    text = " ".join(help_of("run").split())
    for default in ("auto", "600", "refuse", "$OPENAI_BASE_URL", "beside the results, .report.json", "0.3"):
        assert f"[default: {default}]" in text
    assert "[default: 6, and more where other lines fail, too]" in text
    assert "Result file; - is standard output. [required]" in text
    assert not re.search(r"x>|<=|None|False|\d\.0\b", text)


def test_every_kind_of_error_that_a_run_counts_can_be_chosen() -> None:
    (option,) = (one for one in options(verb("run")) if "--max-errors-on" in one.opts)
    assert isinstance(option.type, click.Choice)
    assert set(KINDS) <= set(option.type.choices)
    assert option.help is not None
    assert all(kind in option.help for kind in option.type.choices)


@pytest.mark.parametrize("name", SUMMARIES)
def test_a_group_of_options_holds_the_fields_of_its_values(name: str) -> None:
    for group in verb(name).groups:
        fields = [field.name for field in dataclasses.fields(group.values)]
        assert sorted(fields) == sorted(str(option.name) for option in group.options)
        assert group.values.__dataclass_params__.frozen


# ---------------------------------------------------------------------------------------------- what it loads


def test_help_is_there_at_once() -> None:
    """≤ 0.15 s of processor time: what is heavy is imported by the command that needs it (best of five)."""
    script = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL);"
    script += "used = resource.getrusage(resource.RUSAGE_CHILDREN); print(used.ru_utime + used.ru_stime)"
    command = [sys.executable, "-c", script, *BATCHRUN, "--help"]
    tries = (float(subprocess.run(command, capture_output=True, check=True).stdout) for _ in range(5))
    assert any(used_s <= 0.15 for used_s in tries)


@pytest.mark.smoke
def test_help_imports_nothing_heavy() -> None:
    script = "import sys, batchrun, batchrun.cli; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"aiohttp", "tqdm", "genai_prices", "uvloop", "orjson", "msgspec"} & set(loaded)


def loaded_by(*words: str) -> set[str]:
    """The libraries and modules that are loaded when a command has ended."""
    script = (
        "import json, sys\nfrom batchrun.cli.main import main\ntry:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(json.dumps(list(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_help_loads_no_command_and_nothing_heavy() -> None:
    loaded = loaded_by("--help")
    assert not (HEAVY | {"asyncio"}) & loaded
    assert not {f"batchrun.cli.{name}" for name in SUMMARIES} & loaded


@pytest.mark.parametrize("name", SUMMARIES)
def test_the_help_of_a_command_loads_nothing_heavy(name: str) -> None:
    assert not HEAVY & loaded_by(name, "--help")


def test_a_command_loads_no_other_command() -> None:
    loaded = loaded_by("docs", "--help")
    assert {f"batchrun.cli.{name}" for name in SUMMARIES} & loaded == {"batchrun.cli.docs"}


# ------------------------------------------------------------------------------------------------- completion


def completed(*words: str) -> list[str]:
    """What bash would offer for the last of these words."""
    line = ["batchrun", *words]
    environment = {
        "_BATCHRUN_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(line),
        "COMP_CWORD": str(len(line) - 1),
    }
    done = subprocess.run(BATCHRUN, env=os.environ | environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell_is_printed(shell: str) -> None:
    environment = os.environ | {"_BATCHRUN_COMPLETE": f"{shell}_source"}
    done = subprocess.run(BATCHRUN, env=environment, capture_output=True, text=True, check=True)
    assert f"_BATCHRUN_COMPLETE={shell}_complete" in done.stdout


def test_commands_options_files_and_topics_are_completed() -> None:
    assert completed("ru") == ["plain,run"]
    assert completed("") == [f"plain,{name}" for name in SUMMARIES]
    assert completed("run", "--max-c") == ["plain,--max-cost"]
    assert completed("run", "req") == ["file,req"]
    assert completed("run", "requests.jsonl", "--changed", "re") == ["plain,refuse", "plain,resend"]
    assert completed("docs", "gui") == ["plain,guide"]
