"""A variant as one file of its own: what it takes from `mlpprof.model` stands in it, copied from the real files.

Only what is used is taken, definition by definition, with the source text as it is but for the annotations of
functions, which would need names that nothing else does. So the file cannot drift from what was measured: it is
assembled again from the sources whenever it is written.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mlpprof.errors import VariantError
from mlpprof.report.export.definitions import (
    Definition,
    Piece,
    Source,
    annotations_of,
    closure,
    home_of,
    piece_at,
    read_source,
)

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
