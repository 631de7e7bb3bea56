"""README and CHANGELOG against the program: help texts, tables, commands, examples, links.

`python tests/test_docs.py` writes the generated parts of the README anew.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
from click.testing import CliRunner

from batchrun.billing.prices import PriceFile
from batchrun.cli.main import cli
from batchrun.job.job import Job
from batchrun.records.request import RequestLine, parse_request
from batchrun.records.result import RunInfo
from batchrun.report.report import Report
from batchrun.results.last_run import LastRun
from batchrun.simulator.fault_words import ANSWER_WORDS, ERROR_WORDS, SILENT_WORDS
from batchrun.version import __version__

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
TEXT = README.read_text(encoding="utf-8")
WIDTH = 100
COMMANDS: Mapping[str, click.Command] = cli.commands


# --------------------------------------------------------------------------------- the generated parts


def help_of(*words: str) -> str:
    """The help of a command as a window of 100 columns shows it."""
    done = CliRunner().invoke(cli, [*words, "--help"], terminal_width=WIDTH, prog_name="batchrun")
    assert done.exit_code == 0
    return done.output


def help_blocks() -> str:
    blocks = [help_of(), *(help_of(name) for name in COMMANDS)]
    return "\n\n".join(f"```text\n{block.rstrip()}\n```" for block in blocks)


def fault_table() -> str:
    rows = [
        f"| `{word}` | {does} |" for words in (ANSWER_WORDS, SILENT_WORDS, ERROR_WORDS) for word, does in words.items()
    ]
    return "\n".join(["| word | what the attempt meets |", "|---|---|", *rows])


GENERATED = {"help": help_blocks, "faults": fault_table}


def with_generated(text: str) -> str:
    """The page with its generated parts as they should be."""
    for name, generate in GENERATED.items():
        start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
        before, _, rest = text.partition(start)
        _, _, after = rest.partition(end)
        assert after, name
        text = f"{before}{start}\n{generate()}\n\n{end}{after}"
    return text


def test_help_texts_and_tables_of_the_readme_are_those_of_the_program() -> None:
    """Where this fails: python tests/test_docs.py"""
    assert with_generated(TEXT) == TEXT


def test_the_help_of_every_command_stands_in_the_readme() -> None:
    for name in COMMANDS:
        assert help_of(name).rstrip() in TEXT, name


# ------------------------------------------------------------------------------------ every command's help


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help_with_an_example_and_a_word_for_every_option(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    assert "Example:\n" in command.help
    assert f"\n  batchrun {name} " in command.help or f"\n      batchrun {name} " in command.help
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, option.name
            assert option.help.endswith((".", "]", '".')), option.name


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_stands_in_the_readme(name: str) -> None:
    for option in COMMANDS[name].params:
        if isinstance(option, click.Option):
            for spelling in [*option.opts, *option.secondary_opts]:
                assert spelling in TEXT, spelling


# ----------------------------------------------------------------------------------------- the commands


def indented(text: str = TEXT) -> list[str]:
    """The lines of the page that a reader may copy into a shell."""
    return re.findall(r"^ {4}(\S.*)$", text, re.MULTILINE)


def batchrun_commands() -> list[str]:
    """Every `batchrun …` of the page, the example of a help text included."""
    found = []
    for line in indented():
        if "──" in line:
            continue  # the drawing
        for part in line.split("&&"):
            words = part.split()
            if words and Path(words[0]).name == "batchrun":
                found.append(part.strip())
    return found


@pytest.mark.parametrize("command", dict.fromkeys(batchrun_commands()))
def test_a_command_of_the_readme_names_a_command_and_options_that_exist(command: str) -> None:
    words = shlex.split(command, comments=True)[1:]
    words = words[: words.index("<")] if "<" in words else words
    made = COMMANDS[words[0]].make_context(words[0], [word.rstrip("…") for word in words[1:]], resilient_parsing=True)
    options = {spelling for param in made.command.params for spelling in (*param.opts, *param.secondary_opts)}
    for word in words[1:]:
        assert not word.startswith("--") or word.split("=")[0] in options, word


def first_commands() -> tuple[str, str]:
    """The two commands from the top of the page: to try it, and to test it."""
    found = [line for line in indented() if line.startswith("python3 -m venv .venv && ")]
    return found[0], found[1]


def test_the_readme_begins_with_one_command_to_try_it_and_one_to_test_it() -> None:
    setup = "python3 -m venv .venv && .venv/bin/pip install -q "
    tried, tested = first_commands()
    assert tried == setup + (
        ". && .venv/bin/batchrun run samples/labelling/requests.jsonl -o results-labelling.jsonl --simulate"
    )
    assert tested == setup + "-e '.[test]' && .venv/bin/pytest"
    assert TEXT.index(tested) < TEXT.index("## Use")


def test_ci_runs_the_commands_of_the_readme_and_not_its_own() -> None:
    """The install is proved there; here it is held that nothing else is installed by hand."""
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "README.md" in script
    assert not re.search(r"pip\S* install", script)
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_the_first_command_of_the_readme_prints_a_bill(tmp_path: Path) -> None:
    command = first_commands()[0].split("&& ")[-1].removeprefix(".venv/bin/batchrun ")
    (tmp_path / "samples").symlink_to(ROOT / "samples")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    done = subprocess.run(
        [sys.executable, "-m", "batchrun", *shlex.split(command)],
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")
    shown = TEXT[TEXT.index("model         lines   ok  failed") :].splitlines()
    assert done.stderr.splitlines()[:2] == shown[:2]
    assert re.fullmatch(
        r"sent: 292 attempts, 0 retries, 0 throttled; [\d.]+ s, [\d.]+ lines/s", done.stderr.splitlines()[2]
    )


# ----------------------------------------------------------------------------------------- the examples


def fenced(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("number", range(len(fenced("python"))))
def test_the_python_examples_run(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a simulated gateway in another process, in a directory with three requests."""
    lines = [{"model": "gpt-4.1", "input": f"question {i}"} for i in range(3)]
    (tmp_path / "requests.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    command = [sys.executable, "-m", "batchrun", "gateway", "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
    ) as gateway:
        assert gateway.stdout is not None
        base_url = gateway.stdout.readline().removeprefix("listening: ").strip()
        environment = os.environ | {"OPENAI_BASE_URL": base_url, "OPENAI_API_KEY": "sk-test", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", fenced("python")[number]],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )
        gateway.terminate()
    assert (done.returncode, done.stderr) == (0, "")
    expected = (r"3 of 3 succeeded, 0\.\d+ USD\n", r"(?s).*3 of 3, 0\.\d+ USD\n0\n")
    assert re.fullmatch(expected[number], done.stdout)


def test_the_price_file_of_the_readme_is_one(tmp_path: Path) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(fenced("toml")[0], encoding="utf-8")
    assert PriceFile.load(path).find(["relay/some-model"]) is not None
    as_json = re.search(r"The same as JSON: `(.*?)`", TEXT)
    assert as_json is not None
    path = tmp_path / "prices.json"
    path.write_text(as_json[1], encoding="utf-8")
    assert PriceFile.load(path).find(["gpt-4.1"]) is not None


def test_the_requests_of_the_readme_are_requests() -> None:
    batch_line, body, _ = fenced("json")
    assert isinstance(parse_request(batch_line.encode().strip(), 1), RequestLine)
    derived = parse_request(body.encode().strip(), 2)
    assert derived.derived
    assert re.fullmatch(r"req-[0-9a-f]{16}", derived.custom_id)


def test_the_result_of_the_readme_is_a_result() -> None:
    record = json.loads(fenced("json")[2])
    assert list(record) == ["id", "custom_id", "run", "response", "error"]
    assert msgspec.convert(record["run"], RunInfo).attempts == 2


# ------------------------------------------------------------------------------------------- the tables


def fields_in(section: str) -> list[str]:
    """The names in the first column of the tables of a section."""
    part = re.split(r"^#{2,3} ", TEXT[TEXT.index(f"\n### {section}\n") + 5 :], flags=re.MULTILINE)[0]
    cells = re.findall(r"^\| (`.*?) \|", part, re.MULTILINE)
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


@pytest.mark.parametrize(
    ("section", "names"),
    [
        ("Results", RunInfo.__struct_fields__),
        ("Report", Report.__struct_fields__),
        ("From Python", Job.__dataclass_fields__),
    ],
)
def test_a_table_of_fields_names_each_of_them_in_order(section: str, names: list[str]) -> None:
    assert fields_in(section) == list(names)


def test_the_parts_of_the_report_are_named_too() -> None:
    part = TEXT[TEXT.index("\n### Report\n") : TEXT.index("\n### Other files\n")]
    structs: list[Any] = [msgspec.inspect.type_info(Report)]
    while structs:
        info = structs.pop()
        if isinstance(info, msgspec.inspect.StructType):
            for one in info.fields:
                assert f"`{one.name}`" in part, one.name
                structs.append(one.type)
        elif isinstance(info, msgspec.inspect.UnionType):
            structs.extend(info.types)
        elif isinstance(info, msgspec.inspect.DictType):
            structs.append(info.value_type)


def test_the_events_of_the_run_log_are_those_of_the_code() -> None:
    pattern = re.compile(r'(?:log_event\(|self\._append\(|log\.write\(|\.log\(|tag=)\s*"(\w+)"')
    written = {name for path in (ROOT / "batchrun").rglob("*.py") for name in pattern.findall(path.read_text("utf-8"))}
    assert set(fields_in("Run log")) == written
    assert LastRun([json.dumps({"event": name}).encode() for name in written]).stopped in (True, False)


# -------------------------------------------------------------------------------------------- the rest


def test_links_lead_somewhere() -> None:
    for page in (README, ROOT / "samples" / "README.md", ROOT / "CHANGELOG.md"):
        text = page.read_text(encoding="utf-8")
        headings = {
            re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
            for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        }
        for target in re.findall(r"\]\(([^)]+)\)", text):
            if target.startswith("#"):
                assert target[1:] in headings, target
            elif not target.startswith("https://"):
                assert (page.parent / target).exists(), target


def test_the_sections_stand_in_their_order() -> None:
    assert re.findall(r"^## (.*)$", TEXT, re.MULTILINE) == [
        "Use",
        "Formats",
        "Guarantees",
        "How a line travels",
        "Developing",
        "Changes",
    ]


def test_the_changelog_has_this_version() -> None:
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"\n## [{__version__}]" in changes
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["requires-python"] == ">=3.11"


if __name__ == "__main__":
    README.write_text(with_generated(TEXT), encoding="utf-8")
