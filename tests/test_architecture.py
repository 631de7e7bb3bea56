"""The shape of the program, read from its code: who may import whom, who may print, who opens the network.

The rule, not a table: a module's folder says what it may import.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "batchrun"
LONGEST_MODULE = 400

ROOTS = {"checks", "errors", "version"}
STATIONS = {"requests", "transport", "limits", "results", "billing", "validation"}
ON_FILES = ["estimate", "datasets", "evaluation", "report", "html", "viewer"]  # each may use those before it
FACES = {"cli", "api", "labelling", "cluster", "__main__", ""}  # "" is batchrun/__init__.py, the public names
BELOW_ENGINE = ROOTS | STATIONS | {"records", "stats"}
BELOW_JOB = BELOW_ENGINE | {"engine", "job", "simulator", *ON_FILES}


def allowed(folder: str) -> set[str]:
    """The folders and top-level modules that the modules of a folder may import, beside their own."""
    if folder == "checks":
        return {"errors"}
    if folder in ROOTS or folder == "stats":
        return set()
    if folder == "records":
        return {"stats", "checks"}
    if folder == "simulator":
        return ROOTS
    if folder in STATIONS:
        return ROOTS | {"records", "stats"}
    if folder in ON_FILES:
        return BELOW_ENGINE | set(ON_FILES[: ON_FILES.index(folder)])
    if folder == "engine":
        return BELOW_ENGINE
    if folder == "job":
        return BELOW_JOB
    assert folder in FACES, f"batchrun/{folder} is in no row of the rule: say here what it may import"
    return BELOW_JOB | FACES


@dataclass(frozen=True, slots=True)
class Module:
    """One file: its dotted name below `batchrun`, its code, and whether it is a folder's `__init__`."""

    name: str
    path: Path
    tree: ast.Module

    @property
    def folder(self) -> str:
        return self.name.partition(".")[0]

    @property
    def is_init(self) -> bool:
        return self.path.name == "__init__.py"


@dataclass(frozen=True, slots=True)
class Imported:
    """One import: the whole name, and whether it stands inside a function, or is for the type checker alone."""

    name: str
    late: bool
    typing: bool

    @property
    def library(self) -> str:
        return self.name.partition(".")[0]

    @property
    def module(self) -> str:
        """The name below `batchrun`."""
        return self.name.partition(".")[2]


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    module_name(path): Module(module_name(path), path, ast.parse(path.read_text(encoding="utf-8")))
    for path in sorted(PACKAGE.rglob("*.py"))
}


def imports(tree: ast.AST, *, late: bool = False, typing: bool = False) -> Iterator[Imported]:
    """Every import below a node."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (Imported(alias.name, late, typing) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                is_module = name.removeprefix("batchrun.") in MODULES
                yield Imported(name if is_module else node.module, late, typing)
        yield from imports(
            node,
            late=late or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef),
            typing=typing or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)),
        )


def own_imports(module: Module) -> Iterator[Imported]:
    return (one for one in imports(module.tree) if one.library == "batchrun")


# --------------------------------------------------------------------------------------------- the rule


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_only_what_its_folder_may(name: str) -> None:
    """Late imports and those for the type checker count as well: they say what a module knows of."""
    module = MODULES[name]
    for one in own_imports(module):
        folder = one.module.partition(".")[0]
        assert folder == module.folder or folder in allowed(module.folder), f"{name} imports {one.name}"


def test_every_folder_is_in_the_rule() -> None:
    """A new one fails here until the rule says what it may import."""
    for path in PACKAGE.rglob("*.py"):
        assert path.parent == PACKAGE or (path.parent / "__init__.py").exists(), path
    for module in MODULES.values():
        allowed(module.folder)


def test_only_the_job_and_the_faces_know_the_simulator() -> None:
    users = {module.folder for module in MODULES.values() for one in own_imports(module) if "simulator" in one.name}
    assert users - {"simulator"} <= {"job"} | FACES


def test_there_is_no_cycle_between_files() -> None:
    graph = {module.name: {one.module for one in own_imports(module) if not one.typing} for module in MODULES.values()}
    TopologicalSorter(graph).prepare()


def test_there_is_no_cycle_between_folders() -> None:
    """Not even by imports for the type checker. `batchrun/__init__.py` is left out: it names what is public in all."""
    graph: dict[str, set[str]] = {}
    for module in MODULES.values():
        if module.name:
            others = {one.module.partition(".")[0] for one in own_imports(module)} - {module.folder}
            graph.setdefault(module.folder, set()).update(others)
    TopologicalSorter(graph).prepare()


def test_the_init_of_a_folder_defines_nothing() -> None:
    """So importing one module of a folder loads no other."""
    for module in MODULES.values():
        if module.is_init and module.name:
            assert [type(node) for node in module.tree.body] == [ast.Expr], module.name
            assert len((ast.get_docstring(module.tree) or "").splitlines()) >= 2, module.name


def test_the_rule_sees_what_it_forbids() -> None:
    """A late import and one for the type checker are both found, and describe apart."""
    code = "if TYPE_CHECKING:\n    from batchrun.job.job import Job\ndef f():\n    import batchrun.cli.main\n"
    found = list(imports(ast.parse(code)))
    assert [(one.module, one.late, one.typing) for one in found] == [
        ("job.job", False, True),
        ("cli.main", True, False),
    ]
    assert "transport" not in allowed("limits")
    assert "engine" not in allowed("transport")


# ------------------------------------------------------------------------------------------- libraries

HEAVY = {
    *(
        "genai_prices",
        "jinja2",
        "jsonschema_rs",
        "msgspec",
        "orjson",
        "pandas",
        "polars",
        "pyarrow",
        "python_calamine",
        "ray",
        "rs_bpe",
        "tqdm",
        "uvloop",
        "vl_convert",
    ),
    "zstandard",
}
LIBRARIES = {  # library → where alone it may be imported
    "aiohttp": {
        *("transport.client", "transport.connections", "transport.http"),
        *("simulator.app", "simulator.wire", "viewer.server"),  # which serve, and ask nobody
    },
    "click": {"cli"},
    "genai_prices": {"billing.pricelist"},
    "jinja2": {"datasets.template", "html.page"},
    "jsonschema_rs": {"validation.schema"},
    "markupsafe": {"html"},
    "pandas": {"labelling.frames"},
    "polars": {"labelling.frames"},
    "pyarrow": {"datasets.parquet", "datasets.writers"},
    "python_calamine": {"datasets.excel"},
    "ray": {"cluster.ray_cluster"},
    "tqdm": {"cli.progress"},
    "uvloop": {"job.event_loop"},
    "vl_convert": {"html.charts"},
}
NAMED_OTHERWISE = {"vl_convert": "vl-convert-python"}  # library → the distribution that has it


def test_only_what_is_heavy_is_imported_inside_functions() -> None:
    """`batchrun` itself is heavy to the faces, whose help must be there at once.

    The simulator is to a job, and the HTTP client to one that has nothing to send.
    """
    for name, module in MODULES.items():
        late = {one.library for one in imports(module.tree) if one.late}
        own = {"batchrun"} if module.folder in FACES | {"job"} else set()
        assert late <= HEAVY | own, name
    for one in (one for one in imports(MODULES["job.run"].tree if "job.run" in MODULES else MODULES["job.job"].tree)):
        assert not one.late or ".simulator." in one.name or one.name == "batchrun.transport.http"


def test_the_command_line_loads_nothing_heavy_at_its_start() -> None:
    """Importing what the help needs loads neither the engine nor the network."""
    loaded, to_do = set[str](), ["cli.main"]
    while to_do:
        module = MODULES[to_do.pop()]
        for one in imports(module.tree):
            if not one.late and not one.typing:
                assert one.library not in HEAVY | {"aiohttp"}, (module.name, one.name)
                if one.library == "batchrun" and one.module not in loaded:
                    loaded.add(one.module)
                    to_do.append(one.module)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_has_its_room(library: str) -> None:
    """One module opens the network client, one retries, one draws the bar, one knows the price list."""
    users = {name for name, module in MODULES.items() if library in {one.library for one in imports(module.tree)}}
    assert users
    for user in users:
        assert {user, user.partition(".")[0]} & LIBRARIES[library], user


def test_every_library_is_a_declared_dependency() -> None:
    pyproject = (PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8")
    for name, module in MODULES.items():
        for one in imports(module.tree):
            known = one.library == "batchrun" or one.library in sys.stdlib_module_names
            distribution = NAMED_OTHERWISE.get(one.library, one.library.replace("_", "-"))
            assert known or f'"{distribution}>=' in pyproject, (name, one.library)


# ------------------------------------------------------------------------------------- print, environment


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
    for name, module in MODULES.items():
        used = attributes(module.tree) & printing
        if module.folder == "job":
            used -= {"sys.stdout"}  # the results of `-o -` go there
        assert not used or module.folder == "cli", (name, used)


def test_only_the_command_line_reads_the_environment() -> None:
    """A proxy, a key or an address of the environment can come from nowhere else. (Ray is told by it.)"""
    for name, module in MODULES.items():
        used = attributes(module.tree) & {"os.environ", "os.getenv", "os.environb"}
        assert not used or module.folder == "cli" or name == "cluster.ray_cluster", (name, used)


# ------------------------------------------------------------------------------------------------ style


def test_no_module_is_too_long_to_read() -> None:
    lengths = {name: module.path.read_text(encoding="utf-8").count("\n") for name, module in MODULES.items()}
    assert {name: length for name, length in lengths.items() if length > LONGEST_MODULE} == {}


BESIDE_THE_LINES = ("engine.observer", "job.monitor")  # nothing that goes on there may end the sending; they tell it


def test_nothing_catches_everything() -> None:
    """`except:` and `except Exception` hide mistakes; `BaseException` is fine where it is raised again."""
    for name, module in MODULES.items():
        if name in BESIDE_THE_LINES:
            continue
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ExceptHandler):
                caught = ast.unparse(node.type) if node.type else "everything"
                raised = any(isinstance(inner, ast.Raise) and inner.exc is None for inner in node.body)
                assert caught not in ("everything", "Exception", "BaseException") or raised, (name, node.lineno)


def test_what_is_private_stays_in_its_file() -> None:
    for name, module in MODULES.items():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("batchrun"):
                private = [alias.name for alias in node.names if alias.name.startswith("_") and alias.name[1] != "_"]
                assert private == [], (name, node.module)
