"""The shape of the program: who imports whom, strictly downward; who may print, and who opens the network."""

import ast
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "batchrun"
LONGEST_MODULE = 450

# Every module with what it imports from batchrun, late imports included. It may import only what stands above it.
TABLE = {
    "version": "",
    "errors": "",
    "hashes": "",
    "histogram": "",
    "sse": "",
    "gate": "",
    "pace": "",
    "plateau": "",
    "window": "errors plateau",
    "strays": "",
    "adaptive": "pace strays window",
    "quota": "",
    "envelope": "pace",
    "rawjson": "",
    "usage": "",
    "deadlines": "",
    "turns": "",
    "gateway": "",
    "endpoint": "errors",
    "rates": "errors usage",
    "budget": "rates",
    "limits": "adaptive budget gate pace quota rates window",
    "pricelist": "rates usage",
    "pricing": "pricelist rates usage",
    "inflight": "pricing rates",
    "stream": "rawjson sse",
    "records": "rawjson usage",
    "glance": "rawjson records",
    "answer": "envelope pace rawjson records usage",
    "retry": "answer",
    "cleaning": "answer",
    "client": "endpoint records version",
    "transport": "answer cleaning client deadlines endpoint envelope records sse stream turns",
    "reader": "errors hashes records",
    "misfit": "errors records",
    "errorlimit": "errors misfit records",
    "contents": "records",
    "spending": "answer budget contents errors pricing rates records usage",
    "intervals": "",
    "tokens": "contents intervals",
    "selection": "hashes records",
    "measured": "hashes pricing rates records",
    "estimate": "contents intervals measured pricing rates reader records tokens usage",
    "estimate_text": "estimate intervals pricing",
    "runlog": "errors inflight rates",
    "journal": "errors records runlog",
    "report": "histogram inflight pricing records usage",
    "tune": "errors runlog",
    "resume": "errors glance hashes journal pricing rates reader records report runlog spending",
    "verify": "hashes pricing rawjson reader records usage",
    "writer": "answer errorlimit errors inflight journal records report retry runlog spending turns",
    "runner": (
        "answer errorlimit errors gate inflight journal limits rates records report retry runlog spending transport "
        "turns writer"
    ),
    "live": "errors limits quota runner transport tune window",
    "job": (
        "answer budget endpoint errorlimit errors gateway hashes inflight journal limits live pricing rates reader "
        "records report resume retry runlog runner selection spending transport tune version window writer"
    ),
    "api": "job live report",
    "progress": "live pricing",
    "options": "endpoint errorlimit errors gateway job limits quota records resume retry transport tune window",
    "signals": "errors",
    "cli": (
        "errors estimate estimate_text gateway inflight job journal options pricing progress reader report runlog "
        "signals tune verify version"
    ),
    "__main__": "cli",
}
# What is heavy, and imported inside functions so that it costs only those who use it.
LATE = {
    "cli": {"batchrun", "msgspec"},
    "signals": {"uvloop"},
    "misfit": {"jsonschema_rs"},
    "tokens": {"rs_bpe"},
    "options": {"batchrun", "orjson"},
    "job": {"batchrun"},  # the simulated gateway
    "pricelist": {"genai_prices"},
    "progress": {"tqdm"},
    "reader": {"zstandard"},
}
LIBRARIES = {  # library → the only modules that may import it
    "aiohttp": {"client", "transport", "gateway.app", "gateway.wire"},
    "click": {"cli", "options"},
    "genai_prices": {"pricelist"},
    "jsonschema_rs": {"misfit"},
    "tenacity": {"retry"},
    "tqdm": {"progress"},
    "uvloop": {"signals"},
}
PRINTERS = {"cli", "options", "progress"}
READS_ENVIRONMENT = {"cli", "options"}


class Imported:
    """One import of a module: the whole name, and whether it stands inside a function."""

    def __init__(self, name: str, *, late: bool) -> None:
        self.name, self.late = name, late

    @property
    def library(self) -> str:
        return self.name.split(".")[0]


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


TREES = {module_name(path): ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")}
CLIENT = [name for name in TREES if name and not name.startswith("gateway")]
GATEWAY = [name for name in TREES if name.startswith("gateway")]


def imports(tree: ast.AST, *, late: bool = False) -> Iterator[Imported]:
    """Every import that is done at run time; those for the type checker alone are left out."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (Imported(alias.name, late=late) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            packages = {"batchrun", "batchrun.gateway"}
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                is_module = node.module in packages and name.removeprefix("batchrun.") in TREES
                yield Imported(name if is_module else node.module, late=late)
        yield from imports(node, late=late or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def own_imports(name: str) -> set[str]:
    """The modules of batchrun that a module imports; of the gateway only that it is the gateway."""
    names = {one.name.removeprefix("batchrun.") for one in imports(TREES[name]) if one.library == "batchrun"}
    return {"gateway" if one.startswith("gateway") else one for one in names}


def test_every_module_stands_in_the_table() -> None:
    assert set(TABLE) == {*CLIENT, "gateway"}


@pytest.mark.parametrize("name", CLIENT)
def test_a_module_imports_what_the_table_says(name: str) -> None:
    assert own_imports(name) == set(TABLE[name].split())


def test_the_table_runs_strictly_downward() -> None:
    """So there is no cycle either."""
    above: set[str] = set()
    for name, imported in TABLE.items():
        assert set(imported.split()) <= above, name
        above.add(name)


def test_the_simulated_gateway_shares_nothing_with_the_client() -> None:
    """So that the two cannot share a mistake."""
    for name in GATEWAY:
        foreign = [one.name for one in imports(TREES[name]) if one.library == "batchrun" and ".gateway" not in one.name]
        assert foreign == [], name


def test_the_gateway_has_no_cycles() -> None:
    graph = {
        name: {one.name.removeprefix("batchrun.") for one in imports(TREES[name]) if one.library == "batchrun"}
        for name in GATEWAY
    }
    graph["gateway"] -= {"gateway"}
    TopologicalSorter(graph).prepare()


def test_only_what_is_heavy_is_imported_inside_functions() -> None:
    for name, tree in TREES.items():
        late = {one.library for one in imports(tree) if one.late}
        assert late <= LATE.get(name, set()), name
        assert late == LATE.get(name, late), f"{name}: the list of late imports holds more than there are"


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_has_its_room(library: str) -> None:
    """One module opens the network client, one retries, one draws the bar, one knows the price list."""
    users = {name for name, tree in TREES.items() if library in {one.library for one in imports(tree)}}
    assert users == LIBRARIES[library]


def test_every_library_is_a_declared_dependency() -> None:
    pyproject = (PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8")
    for name, tree in TREES.items():
        for one in imports(tree):
            known = one.library == "batchrun" or one.library in sys.stdlib_module_names
            assert known or f'"{one.library.replace("_", "-")}>=' in pyproject, (name, one.library)


def attributes(tree: ast.AST) -> set[str]:
    """Every `name.attribute` in the code, and every bare name that is called."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found.add(f"{node.value.id}.{node.attr}")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            found.add(node.func.id)
    return found


def test_only_the_command_line_prints() -> None:
    printing = {"print", "click.echo", "click.secho", "tqdm.write", "sys.stdout", "sys.stderr"}
    for name, tree in TREES.items():
        used = attributes(tree) & printing
        if name == "job":
            used -= {"sys.stdout"}  # the results of `-o -` go there
        assert not used or name in PRINTERS, (name, used)


def test_only_the_command_line_reads_the_environment() -> None:
    """A proxy, a key or an address of the environment can come from nowhere else."""
    for name, tree in TREES.items():
        used = attributes(tree) & {"os.environ", "os.getenv", "os.environb"}
        assert not used or name in READS_ENVIRONMENT, (name, used)


def test_no_module_is_too_long_to_read() -> None:
    lengths = {path.name: path.read_text(encoding="utf-8").count("\n") for path in PACKAGE.rglob("*.py")}
    assert {name: length for name, length in lengths.items() if length > LONGEST_MODULE} == {}


def test_nothing_catches_everything() -> None:
    """`except:` and `except Exception` hide mistakes; `BaseException` is fine where it is raised again."""
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ExceptHandler):
                caught = ast.unparse(node.type) if node.type else "everything"
                raised = any(isinstance(inner, ast.Raise) and inner.exc is None for inner in node.body)
                assert caught not in ("everything", "Exception", "BaseException") or raised, (name, node.lineno)
