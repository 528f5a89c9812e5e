"""The house: imports run downward only, start-up is light, and only the command line prints."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import mlpprof
from mlpprof.errors import EXIT_OK, EXIT_USAGE

PACKAGE = Path(mlpprof.__file__).parent
ORDER = (
    ("__init__",),
    ("errors",),
    ("owned",),
    ("files",),
    ("model",),
    ("engines",),
    ("results",),
    ("data",),
    ("workloads",),
    ("namespace",),
    ("catalog",),
    ("instrument",),
    ("allowance",),
    ("process",),
    ("machine",),
    ("programs",),
    ("profile",),
    ("compare",),
    ("sweep",),
    ("advise",),
    ("report",),
    ("testing",),
    ("reproduce",),
    ("workshop",),
    ("cli",),
    ("__main__",),
)
"""The groups, each importing only itself and those above it."""

RANK = {name: rank for rank, group in enumerate(ORDER) for name in group}
HEAVY = (
    "numpy",
    "scipy",
    "h5py",
    "matplotlib",
    "rich",
    "psutil",
    "msgspec",
    "line_profiler",
    "pyinstrument",
    "threadpoolctl",
    "distributed",
)


def modules() -> dict[str, Path]:
    """Dotted name -> file, of every module of the package."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        if "variants" not in parts:
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


@cache
def tree_of(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


def imports(name: str, body: ast.AST | None = None) -> Iterator[tuple[str, int]]:
    """Every module of mlpprof that this module imports, anywhere in it, and the line."""
    for node in ast.walk(body or tree_of(name)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "mlpprof":
                    yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}:{node.lineno}: imports are absolute here"
            if node.module and node.module.split(".")[0] == "mlpprof":
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    yield inner if inner in MODULES else node.module, node.lineno


def group(name: str) -> str:
    """The part of the house that a module belongs to."""
    _, *parts = name.split(".")
    return parts[0] if parts else "__init__"


def folder(name: str) -> str:
    """The package that a module lies in; a package lies in itself."""
    return name if MODULES[name].name == "__init__.py" else name.rpartition(".")[0]


def test_every_module_belongs_to_a_group_of_the_house():
    assert {group(name) for name in MODULES} <= set(RANK)


def test_imports_run_downward_only():
    upward = [
        f"{name}:{line} imports {imported}"
        for name in MODULES
        for imported, line in imports(name)
        if RANK[group(imported)] >= RANK[group(name)] and group(imported) != group(name)
    ]
    assert upward == []


def test_files_import_nothing_of_the_package_but_errors_owners_and_the_version():
    assert {imported for imported, _ in imports("mlpprof.files")} <= {"mlpprof", "mlpprof.errors", "mlpprof.owned"}


def test_no_module_imports_itself_around_a_circle():
    graph = {name: {imported for imported, _ in imports(name)} - {name} for name in MODULES}
    # A package's __init__ runs before its modules do; the modules may stand on one another, not on the __init__.
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path[path.index(name) :], name))
        if name not in done:
            for imported in graph[name]:
                visit(imported, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_the_folders_within_a_package_import_each_other_in_one_direction_even_within_functions():
    graph: dict[str, set[str]] = {}
    for name in MODULES:
        for imported, _ in imports(name):
            ours, theirs = folder(name), folder(imported)
            if ours.count(".") > 1 and ours.split(".")[:2] == theirs.split(".")[:2] and not ours.startswith(theirs):
                graph.setdefault(ours, set()).add(theirs)

    list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the folders of a longer circle


def test_a_circle_of_imports_within_functions_is_seen():
    inside = ast.parse("def f():\n    from mlpprof.report.page import page\n    import mlpprof.report.files.traces")
    assert [imported for imported, _ in imports("made up", inside)] == [
        "mlpprof.report.page.page",
        "mlpprof.report.files.traces",
    ]


def test_every_module_says_in_a_docstring_what_it_is_for():
    assert [name for name in MODULES if not ast.get_docstring(tree_of(name))] == []


def test_only_the_command_line_prints_and_exits():
    words = {"print", "sys.exit", "exit", "quit", "os.abort", "sys.stdout.write", "sys.stderr.write", "click.echo"}
    found = [
        f"{name}:{node.lineno} calls {ast.unparse(node.func)}"
        for name in MODULES
        if group(name) not in ("cli", "__main__")
        for node in ast.walk(tree_of(name))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in words
    ]
    assert found == []


def test_no_module_has_a_name_that_says_nothing():
    nothing = {"utils", "util", "helpers", "helper", "misc", "common", "tools"}
    assert [name for name in MODULES if name.rpartition(".")[2] in nothing] == []


def test_no_pickle_is_loaded():
    found = []
    for name in MODULES:
        for node in ast.walk(tree_of(name)):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name for alias in node.names} | {getattr(node, "module", None)}
                if names & {"pickle", "cPickle", "dill", "joblib", "shelve"}:
                    found.append(f"{name}:{node.lineno}")
            elif isinstance(node, ast.keyword) and node.arg == "allow_pickle" and ast.unparse(node.value) != "False":
                found.append(f"{name}:{node.value.lineno}")
    assert found == []


COMPILED = {
    f"mlpprof.engines.{name}"
    for name in (
        *("numba_passes", "tiles", "panels", "blocked_passes", "nonzeros", "sparse_passes"),
        *("meeting", "blocked_team", "sparse_team"),
    )
}


def test_the_model_imports_nothing_but_numpy_and_scipy_beside_the_standard_library():
    for name in MODULES:
        if group(name) == "model":
            for node in ast.walk(tree_of(name)):
                if isinstance(node, ast.Import):
                    outside = {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom):
                    outside = {(node.module or "").split(".")[0]}
                else:
                    continue
                if name == "mlpprof.engines.team":
                    outside -= {"threadpoolctl"}  # which holds BLAS to one thread a worker
                if name == "mlpprof.engines.mpi":
                    outside -= {"mpi4py"}  # only `mpi` imports it
                if name in COMPILED:
                    outside -= {"numba", "llvmlite"}  # only the compiled variants import them
                assert outside <= {"numpy", "scipy", "mlpprof", *sys.stdlib_module_names}, f"{name}:{node.lineno}"


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], []])
def test_help_and_version_import_no_heavy_library(arguments):
    program = (
        "import sys\n"
        "from mlpprof.cli.main import run\n"
        f"code = run({arguments})\n"
        f"heavy = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "print('imported:', *heavy, file=sys.stderr)\n"
        "sys.exit(code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=PACKAGE.parent, timeout=60
    )
    *printed, imported = (done.stdout + done.stderr).splitlines()
    assert done.returncode == (EXIT_OK if arguments else EXIT_USAGE), done.stderr
    assert imported.strip() == "imported:"
    assert any("mlpprof" in line for line in printed)
