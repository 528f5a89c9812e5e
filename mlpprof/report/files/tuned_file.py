"""The winner of `mlpprof autotune` as a Python file of its own, for use where mlpprof is not installed.

The file is the variant's, preceded by everything that it uses of the package: definition by definition, each with all
that it needs in turn, as the text of the real files. It is assembled anew whenever it is written, so it cannot drift
from what was measured. A definition gets another name only where the variant, or another module, has one of its name:
the rung `tanh_sigmoid` has a `sigmoid` of its own, and calls the package's as `activations_sigmoid`.
"""

from __future__ import annotations

import ast
import builtins
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mlpprof.catalog import find
from mlpprof.errors import VariantError
from mlpprof.report.numbers import format_time
from mlpprof.results.tuning import Tuning

PACKAGE = "mlpprof"
Definition = ast.FunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign
ModuleName = tuple[str, str]
"""A module and a name at its top."""

OPTIONAL = {
    "from threadpoolctl import threadpool_limits": '''try:
    from threadpoolctl import threadpool_limits
except ModuleNotFoundError:

    class threadpool_limits:
        """Without threadpoolctl: the variables set above hold BLAS to its threads already."""

        def __init__(self, limits, user_api):
            pass

        def restore_original_limits(self):
            pass''',
}
"""Imports of libraries that may be missing (NumPy, SciPy and numba may not), and what to write in their place."""


@dataclass
class Module:
    """The top of a file: its definitions by name, and where the names that it imports come from.

    inner: local name -> its place in the package. outer: local name -> the import statement.
    """

    name: str
    lines: list[str]
    definitions: dict[str, Definition] = field(default_factory=dict)
    inner: dict[str, ModuleName] = field(default_factory=dict)
    outer: dict[str, str] = field(default_factory=dict)


def read_module(name: str, text: str, file: str) -> Module:
    """The definitions and imports at the top of a file."""
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise VariantError(f"{file}:{error.lineno}: {error.msg}") from error
    found = Module(name, text.splitlines())
    for node in tree.body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == PACKAGE:
                    raise VariantError(f"{file}:{node.lineno}: import {alias.name} cannot be inlined; import its names")
                found.outer[alias.asname or alias.name.split(".")[0]] = ast.unparse(ast.Import([alias]))
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (node.module or "").split(".")[0] == PACKAGE:
                    found.inner[alias.asname or alias.name] = (node.module or "", alias.name)
                elif node.module != "__future__":
                    line = ast.unparse(ast.ImportFrom(node.module, [alias], 0))
                    found.outer[alias.asname or alias.name] = line
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.definitions[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name)]
            found.definitions |= dict.fromkeys(names, node)
    return found


class Linker:
    """Collects definitions of the package, each after all that it needs, and the imports that they need."""

    def __init__(self) -> None:
        self.modules: dict[str, Module] = {}
        self.collected: dict[Definition, Module] = {}
        self.outer: set[str] = set()
        self._begun: set[Definition] = set()

    def home(self, place: ModuleName) -> ModuleName:
        """Where a name is defined, after any number of imports."""
        module = self._module(place[0])
        if place[1] in module.inner:
            return self.home(module.inner[place[1]])
        if place[1] not in module.definitions:
            raise VariantError(f"{place[0]} defines no {place[1]} that can be inlined")
        return place

    def add(self, place: ModuleName) -> None:
        """Collect the definition of a name, and before it what it uses."""
        name, defined = self.home(place)
        module = self.modules[name]
        node = module.definitions[defined]
        if node in self._begun:
            return
        self._begun.add(node)
        for used in _names_in(node):
            if used in module.definitions or used in module.inner:
                self.add((name, used))
            elif used in module.outer:
                self.outer.add(module.outer[used])
        self.collected[node] = module

    def _module(self, name: str) -> Module:
        if name not in self.modules:
            spec = importlib.util.find_spec(name)
            if spec is None or spec.origin is None:
                raise VariantError(f"there is no module {name} to inline")
            self.modules[name] = read_module(name, Path(spec.origin).read_text(encoding="utf-8"), spec.origin)
        return self.modules[name]

    def new_names(self, taken: Mapping[str, ModuleName | None]) -> dict[ModuleName, str]:
        """Names for definitions whose own one is taken, such as 'activations_sigmoid'.

        taken: name -> the place that may have it, None for a name of the variant's.
        """
        owners: dict[str, ModuleName | None] = dict(taken)
        renamed = {}
        for module in self.modules.values():
            for name, node in module.definitions.items():
                place = (module.name, name)
                if node in self.collected and owners.setdefault(name, place) != place:
                    renamed[place] = f"{module.name.rpartition('.')[2]}_{name}"
        return renamed

    def text(self, node: Definition, renamed: Mapping[ModuleName, str]) -> str:
        """The source of a definition, with its decorators and the new names."""
        module = self.collected[node]
        first = _first_line(node)
        lines = [line.encode() for line in module.lines[first - 1 : node.end_lineno]]
        marks = [(one.lineno, one.col_offset, one.id) for one in ast.walk(node) if isinstance(one, ast.Name)]
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            marks.append((node.lineno, module.lines[node.lineno - 1].index(node.name), node.name))
        for line, column, name in sorted(marks, reverse=True):
            known = name in module.definitions or name in module.inner
            if known and (new := renamed.get(self.home((module.name, name)))) is not None:
                text = lines[line - first]
                lines[line - first] = text[:column] + new.encode() + text[column + len(name.encode()) :]
        return b"\n".join(lines).decode()


def _names_in(node: Definition) -> list[str]:
    """The names that a definition uses, in the order of the file."""
    names = [one for one in ast.walk(node) if isinstance(one, ast.Name) and not hasattr(builtins, one.id)]
    return list(dict.fromkeys(one.id for one in sorted(names, key=lambda one: (one.lineno, one.col_offset))))


def _first_line(node: Definition) -> int:
    decorators = [] if isinstance(node, ast.Assign | ast.AnnAssign) else node.decorator_list
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


def assemble(
    source: str,
    file: str,
    docstring: str,
    constants: Mapping[str, int],
    also: Sequence[ModuleName] = (),
    setup: str = "",
    ending: str = "",
) -> str:
    """A variant's source with everything of the package that it needs.

    constants: of the file, to be written with these values. also: what the ending needs of the package. setup: lines
    that have to run before anything is imported. ending: the last lines.
    Raises VariantError if the file imports the package in a way that cannot be inlined, or has no such constant.
    """
    variant = read_module("", _with_constants(source, file, constants), file)
    linker = Linker()
    taken: dict[str, ModuleName | None] = dict.fromkeys(variant.definitions)
    for local, place in variant.inner.items():
        linker.add(place)
        taken[local] = linker.home(place)
        if local != place[1]:
            raise VariantError(f"{file}: {place[1]} as {local} cannot be inlined; import it under its own name")
    for place in also:
        linker.add(place)
    renamed = linker.new_names(taken)
    imports = {*linker.outer, *variant.outer.values()}
    optional = [OPTIONAL[line] for line in sorted(imports & OPTIONAL.keys())]
    body = variant.lines[min(_first_line(node) for node in variant.definitions.values()) - 1 :]
    parts = [
        f'"""{docstring.strip()}\n"""\n\nfrom __future__ import annotations',
        "\n".join([*filter(None, [setup.strip()]), *sorted(imports - OPTIONAL.keys(), key=_import_order)]),
        *optional,
        *(linker.text(node, renamed) for node in linker.collected),
        "\n".join(body).rstrip(),
        *([ending.strip()] if ending else []),
    ]
    return "\n\n\n".join(parts) + "\n"


def _import_order(line: str) -> tuple[bool, str]:
    return line.startswith("from "), line


def _with_constants(source: str, file: str, constants: Mapping[str, int]) -> str:
    """The source with constants at its top set to other numbers; their comments stay."""
    lines = source.splitlines()
    for name, value in constants.items():
        node = read_module("", source, file).definitions.get(name)
        if not isinstance(node, ast.Assign) or node.value.end_col_offset is None:
            raise VariantError(f"{file} has no constant {name} to set to {value}")
        line = lines[node.lineno - 1]
        lines[node.lineno - 1] = line[: node.value.col_offset] + str(value) + line[node.value.end_col_offset :]
    return "\n".join(lines) + "\n"


SETUP = """import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "{threads}")  # as it was measured; NumPy reads it when it is imported
"""

ENDING = '''NETWORK = {network}
BATCH = {batch}
DTYPE = np.{dtype}


def train(X, Y, epochs, batch=BATCH, seed=0):
    """Train on samples X (N, n_0) and targets Y (N, n_L), shuffled every epoch; returns the model and mean losses."""
    X, Y = np.ascontiguousarray(X, DTYPE), np.ascontiguousarray(Y, DTYPE)
    model = MLP(NETWORK, NETWORK.initial_parameters(seed, DTYPE))
    rng = np.random.default_rng(seed)
    losses = []
    for _ in range(epochs):
        order = np.arange(len(X)) if batch >= len(X) else rng.permutation(len(X))
        indices = [order[start : start + batch] for start in range(0, len(X) - len(X) % batch or len(X), batch)]
        if hasattr(model, "train"):
            found = model.train(X, Y, indices)
        else:
            found = [model.train_step(X, Y, index) for index in indices]
        losses.append(sum(found) / len(found))
    return model, losses


if __name__ == "__main__":
    import sys

    if len(sys.argv) < 2:
        sys.exit("usage: python FILE.py DATA.npz [EPOCHS], with the arrays X (N, n_0) and Y (N, n_L) in DATA.npz")
    with np.load(sys.argv[1], allow_pickle=False) as data:
        _, mean_losses = train(data["X"], data["Y"], int(sys.argv[2]) if len(sys.argv) > 2 else 10)
    for epoch, mean_loss in enumerate(mean_losses, start=1):
        print(f"epoch {{epoch}}: loss {{mean_loss:.6f}}")
'''


def tuned_file(tuning: Tuning) -> str:
    """The winner with everything that it takes from the package.

    Raises VariantError if something cannot be inlined.
    """
    entry = find(tuning.variant)
    source = entry.source()
    idea = ast.get_docstring(ast.parse(source)) or ""
    network = tuning.network
    fields = ", ".join(f"{name}={value!r}" for name, value in vars(network).items())
    docstring = "\n".join(
        [
            f"The fastest multi-layer perceptron for {network.text}, batch {tuning.batch:,}, {tuning.dtype}.",
            "",
            f"mlpprof autotune found it on {tuning.created[:10]}: {tuning.winner},",
            f"{format_time(tuning.step_s)} per step. It does not need mlpprof: train(X, Y, epochs) trains a",
            "network, and so does `python FILE.py DATA.npz`. The class MLP has the interface that",
            "`mlpprof check`, `mlpprof profile` and `mlpprof compare` take.",
            "",
            idea,
        ]
    )
    return assemble(
        source,
        entry.path.name,
        docstring,
        tuning.constants,
        also=[("mlpprof.model", "Network")],
        setup=SETUP.format(threads=tuning.threads)
        + "".join(f"os.environ.setdefault({name!r}, {value!r})\n" for name, value in tuning.variables.items()),
        ending=ENDING.format(network=f"Network({fields})", batch=tuning.batch, dtype=tuning.dtype),
    )
