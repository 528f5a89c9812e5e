"""The winner of `mlpprof autotune` as a stand-alone Python file, for use where mlpprof is not installed."""

from __future__ import annotations

import ast
import builtins
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mlpprof.catalog import find
from mlpprof.errors import UsageError, VariantError
from mlpprof.files import write_atomically
from mlpprof.report.numbers import format_time
from mlpprof.results.tuning import Tuning

# The definitions at the top of a file: what each binds, what it needs, and where that comes from.


PACKAGE = "mlpprof"
Definition = ast.FunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign


@dataclass
class Piece:
    """A definition at the top of a module: the names that it binds and uses, and its text."""

    module: str
    node: Definition
    binds: tuple[str, ...]
    uses: frozenset[str]


@dataclass
class Source:
    """A module of the package: its definitions by name, and where the names that it imports come from.

    inner: local name -> (module of the package, name there). outer: local name -> the import statement.
    """

    name: str
    lines: list[str]
    pieces: dict[str, Piece] = field(default_factory=dict)
    order: list[Piece] = field(default_factory=list)
    inner: dict[str, tuple[str, str]] = field(default_factory=dict)
    outer: dict[str, str] = field(default_factory=dict)


def read_source(name: str, text: str, file: str) -> Source:
    """The definitions and imports at the top of a file."""
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise VariantError(f"{file}:{error.lineno}: {error.msg}") from error
    found = Source(name, text.splitlines())
    for node in tree.body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == PACKAGE:
                    raise VariantError(f"{file}:{node.lineno}: import {alias.name} cannot be inlined; import its names")
                local = alias.asname or alias.name.split(".")[0]
                found.outer[local] = ast.unparse(ast.Import([alias]))
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                local = alias.asname or alias.name
                if (node.module or "").split(".")[0] == PACKAGE:
                    found.inner[local] = (node.module or "", alias.name)
                elif node.module != "__future__":
                    found.outer[local] = ast.unparse(ast.ImportFrom(node.module, [alias], 0))
        elif isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign):
            piece = Piece(name, node, tuple(_bound(node)), frozenset(_used(node)))
            found.order.append(piece)
            found.pieces.update(dict.fromkeys(piece.binds, piece))
    return found


def module_source(name: str, sources: dict[str, Source]) -> Source:
    """The source of a module of the package, read once; raises VariantError if there is no such module."""
    if name not in sources:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise VariantError(f"there is no module {name} to inline")
        sources[name] = read_source(name, Path(spec.origin).read_text(encoding="utf-8"), spec.origin)
    return sources[name]


def home_of(place: tuple[str, str], sources: dict[str, Source]) -> tuple[str, str]:
    """Where a name is defined, behind any number of imports."""
    module = module_source(place[0], sources)
    if place[1] in module.pieces:
        return place
    if place[1] in module.inner:
        return home_of(module.inner[place[1]], sources)
    raise VariantError(f"{place[0]} defines no {place[1]} that can be inlined")


def closure(place: tuple[str, str], sources: dict[str, Source]) -> Iterator[tuple[str, str]]:
    """A name and all that it needs, what is needed first."""
    seen: set[tuple[str, str]] = set()

    def visit(wanted: tuple[str, str]) -> Iterator[tuple[str, str]]:
        home = home_of(wanted, sources)
        if home in seen:
            return
        seen.add(home)
        module = module_source(home[0], sources)
        for used in sorted(module.pieces[home[1]].uses, key=lambda name: _line_of(module, name)):
            if used in module.pieces:
                yield from visit((home[0], used))
            elif used in module.inner:
                yield from visit(module.inner[used])
        yield home

    yield from visit(place)


def _line_of(module: Source, name: str) -> int:
    return module.pieces[name].node.lineno if name in module.pieces else 0


def piece_at(place: tuple[str, str], sources: dict[str, Source]) -> Piece:
    """The definition of a name at home in a module that has been read."""
    return sources[place[0]].pieces[place[1]]


def _bound(node: Definition) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        yield node.name
        return
    for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
        yield from (one.id for one in ast.walk(target) if isinstance(one, ast.Name))


def _used(node: Definition) -> Iterator[str]:
    """The names that running the definition needs: those in the annotations of functions are left out."""
    left_out = {id(inner) for annotation, _, _ in annotations_of(node) for inner in ast.walk(annotation)}
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name) and id(inner) not in left_out and not hasattr(builtins, inner.id):
            yield inner.id


def annotations_of(node: ast.AST) -> Iterator[tuple[ast.expr, int, int]]:
    """Annotations within functions and of assignments outside of classes; the kind is told by what precedes them."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.FunctionDef):
            arguments = inner.args
            every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
            for argument in every:
                if argument is not None and argument.annotation is not None:
                    yield argument.annotation, argument.lineno, argument.col_offset + len(argument.arg.encode())
            if inner.returns is not None:
                yield inner.returns, -1, -1
            for statement in ast.walk(inner):
                if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                    yield statement.annotation, statement.lineno, statement.target.end_col_offset or 0
    if isinstance(node, ast.AnnAssign):
        yield node.annotation, node.lineno, node.target.end_col_offset or 0


# A variant as one file of its own: what it takes from `mlpprof.model` stands in it, copied from the real files.
#
# Only what is used is taken, definition by definition, with the source text as it is but for the annotations of
# functions, which would need names that nothing else does. So the file cannot drift from what was measured: it is
# assembled again from the sources whenever it is written.


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
"""Imports of what is neither NumPy nor SciPy nor numba, and does not have to be there."""


@dataclass(frozen=True)
class Standalone:
    """The text of the assembled file, and the definitions that came from each module of the package."""

    text: str
    taken: Mapping[str, tuple[str, ...]]


def assemble(
    source: str,
    file: str,
    docstring: str,
    constants: Mapping[str, int],
    also: Sequence[tuple[str, str]] = (),
    setup: str = "",
    ending: str = "",
) -> Standalone:
    """A variant's source with everything of the package that it needs.

    constants: of the file, to be written with these values. also: (module, name) that the ending needs. setup: lines
    that have to run before anything is imported; ending: the last lines.
    Raises VariantError where the file imports the package in a way that cannot be inlined, or has no such constant.
    """
    variant = read_source("", _with_constants(source, file, constants), file)
    sources: dict[str, Source] = {}
    wanted: list[tuple[str, str]] = []
    for place in [*variant.inner.values(), *also]:
        for one in closure(place, sources):
            if one not in wanted:
                wanted.append(one)
    pieces = [piece_at(place, sources) for place in wanted]
    used_names = {name for piece in variant.order for name in piece.binds}
    renamed = _renamings(pieces, used_names)
    outer = set(variant.outer.values())
    for piece in pieces:
        outer |= {sources[piece.module].outer[name] for name in piece.uses if name in sources[piece.module].outer}
    blocks = _blocks(_unique(pieces), sources, renamed)
    body = "\n".join(variant.lines[_first_definition(variant) - 1 :]).rstrip()
    aliases = list(_aliases(variant, sources, renamed))
    optional = [OPTIONAL[line] for line in sorted(outer & set(OPTIONAL))]
    parts = [
        f'"""{docstring.strip()}\n"""',
        "\n".join(filter(None, [setup.strip(), "\n".join(_sorted_imports(outer - set(OPTIONAL)))])),
        *optional,
        *blocks,
        *(["\n".join(aliases)] if aliases else []),
        body,
        *([ending.strip()] if ending else []),
    ]
    taken: dict[str, tuple[str, ...]] = {}
    for piece in _unique(pieces):
        taken[piece.module] = (*taken.get(piece.module, ()), *piece.binds)
    return Standalone("\n\n\n".join(parts) + "\n", taken)


def _unique(pieces: Sequence[Piece]) -> list[Piece]:
    return list({id(piece): piece for piece in pieces}.values())


def _text(module: Source, piece: Piece, renamed: Mapping[tuple[str, str], str]) -> str:
    """The source of a definition, with its decorators, without annotations of functions, with the new names."""
    node = piece.node
    first = _first_line(node)
    assert node.end_lineno is not None
    lines = [line.encode() for line in module.lines[first - 1 : node.end_lineno]]
    edits: list[tuple[int, int, int, bytes]] = []
    for annotation, line, column in annotations_of(node):
        if line < 0:  # of what a function returns: from the bracket to the annotation's end
            line = annotation.lineno
            before = lines[line - first][: annotation.col_offset]
            column = before.rindex(b")") + 1
        if annotation.end_lineno == line and annotation.end_col_offset is not None:
            edits.append((line, column, annotation.end_col_offset, b""))
    for inner in ast.walk(node):
        new = renamed.get((piece.module, inner.id)) if isinstance(inner, ast.Name) else None
        if isinstance(inner, ast.Name) and new is not None and inner.end_col_offset is not None:
            edits.append((inner.lineno, inner.col_offset, inner.end_col_offset, new.encode()))
    if isinstance(node, ast.FunctionDef | ast.ClassDef) and (piece.module, node.name) in renamed:
        column = module.lines[node.lineno - 1].index(node.name)
        new_name = renamed[piece.module, node.name].encode()
        edits.append((node.lineno, column, column + len(node.name), new_name))
    for line, start, end, new_text in sorted(set(edits), reverse=True):
        text = lines[line - first]
        lines[line - first] = text[:start] + new_text + text[end:]
    return b"\n".join(lines).decode()


def _blocks(
    pieces: Sequence[Piece], sources: Mapping[str, Source], renamed: Mapping[tuple[str, str], str]
) -> list[str]:
    """The texts of definitions; constants that follow each other stand together."""
    blocks: list[str] = []
    after_constant = False
    for piece in pieces:
        text = _text(sources[piece.module], piece, renamed)
        is_constant = isinstance(piece.node, ast.Assign | ast.AnnAssign)
        if is_constant and after_constant:
            blocks[-1] += f"\n{text}"
        else:
            blocks.append(text)
        after_constant = is_constant
    return blocks


def _renamings(pieces: Sequence[Piece], taken: set[str]) -> dict[tuple[str, str], str]:
    """New names for definitions that the variant, or a module before, calls alike: 'activations_sigmoid'."""
    renamed = {}
    used = set(taken)
    for piece in _unique(pieces):
        for name in piece.binds:
            if name in used:
                renamed[piece.module, name] = f"{piece.module.rpartition('.')[2]}_{name}"
            used.add(renamed.get((piece.module, name), name))
    # A name that another module imports is renamed there as well.
    return renamed


def _aliases(variant: Source, sources: dict[str, Source], renamed: Mapping[tuple[str, str], str]) -> Iterator[str]:
    """What the variant calls by another name than it has now."""
    for local, place in variant.inner.items():
        home = home_of(place, sources)
        now = renamed.get(home, home[1])
        if now != local:
            yield f"{local} = {now}"


def _first_definition(variant: Source) -> int:
    return _first_line(variant.order[0].node)


def _first_line(node: Definition) -> int:
    """Of its first decorator, where there is one."""
    decorators = [] if isinstance(node, ast.Assign | ast.AnnAssign) else node.decorator_list
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


def _with_constants(source: str, file: str, constants: Mapping[str, int]) -> str:
    """The source with constants at its top set to other numbers; their comments stay."""
    lines = source.splitlines()
    for name, value in constants.items():
        node = next(
            (
                one
                for one in ast.parse(source).body
                if isinstance(one, ast.Assign) and [ast.unparse(target) for target in one.targets] == [name]
            ),
            None,
        )
        if node is None or node.value.end_col_offset is None:
            raise VariantError(f"{file} has no constant {name} to set to {value}")
        line = lines[node.lineno - 1]
        lines[node.lineno - 1] = line[: node.value.col_offset] + str(value) + line[node.value.end_col_offset :]
    return "\n".join(lines) + "\n"


def _sorted_imports(lines: set[str]) -> list[str]:
    """Imports of modules, then of names, one line a module."""
    whole = sorted(line for line in lines if line.startswith("import "))
    names: dict[str, list[str]] = {}
    for line in lines - set(whole):
        module, _, name = line.removeprefix("from ").partition(" import ")
        names.setdefault(module, []).append(name)
    return whole + [f"from {module} import {', '.join(sorted(names[module]))}" for module in sorted(names)]


SETUP = """import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "{threads}")  # before NumPy is imported; as it was measured
"""

ENDING = '''NETWORK = {network}
BATCH = {batch}
DTYPE = np.{dtype}


def train(X, Y, epochs, batch=BATCH, seed=0):
    """Train on samples X (N, n_0) and targets Y (N, n_L), shuffled every epoch; the model, each epoch's mean loss."""
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


def require_python_file(path: Path) -> None:
    """Raise UsageError for a name that no Python file has, or a folder that is not there, before time is spent."""
    if path.suffix != ".py":
        raise UsageError(f"cannot write {path}: it is no Python file; name it .py, such as fast_mlp.py")
    if not path.parent.is_dir():
        raise UsageError(f"cannot write {path}: there is no folder {path.parent}; create it first")


def tuned_file(tuning: Tuning) -> Standalone:
    """The winner with everything that it takes from the package; raises VariantError where that cannot be inlined."""
    entry = find(tuning.variant)
    source = entry.source()
    idea = ast.get_docstring(ast.parse(source)) or ""
    network = tuning.network
    fields = ", ".join(f"{name}={value!r}" for name, value in vars(network).items())
    docstring = "\n".join(
        [
            f"The fastest multi-layer perceptron for {network.text}, batch {tuning.batch:,}, {tuning.dtype}.",
            "",
            f"Found by mlpprof autotune, {tuning.created[:10]}: {tuning.winner}, {format_time(tuning.step_s)} a step.",
            "It stands alone: train(X, Y, epochs) trains it, and so does `python FILE.py DATA.npz`. Its class has the",
            "interface that `mlpprof check`, `profile` and `compare` take. The file was assembled from mlpprof's own.",
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


def write_tuned_file(tuning: Tuning, path: Path) -> Path:
    """Write the winner's file; returns its path. Raises UsageError where it cannot be written."""
    text = tuned_file(tuning).text
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
    return path
