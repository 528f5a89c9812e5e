"""storage: what the step reads from a file is read once, before the training, into an array."""

from __future__ import annotations

import ast
import textwrap

from mlpprof.advise.editing.computed_once import Moved, data_names, move_out, outermost_loop
from mlpprof.advise.editing.cure import Cure
from mlpprof.advise.editing.edits import Edits
from mlpprof.advise.editing.recorded_code import RecordedCode, code_of
from mlpprof.programs.record.file_reads import FileRead
from mlpprof.programs.record.graph import Graph


def read_once(read: FileRead, whole: frozenset[ast.AST], graph: Graph) -> Cure | None:
    """The edit that reads a set once; None if there is no place where it would certainly be right.

    whole: the expressions that read all rows of a set.
    """
    code = code_of(graph)
    node = code.node_of(read.site)
    if not isinstance(node, ast.expr):
        return None
    edits, may_be_written, writes = Edits(code), _may_be_written(read, graph), _writes_files(code)
    moved_part = node.value if node not in whole and isinstance(node, ast.Subscript) else node
    if writes and any(isinstance(one, ast.Call) for one in ast.walk(moved_part)):
        return None  # a read that comes earlier may open the file before the program has written it
    if node in whole:
        is_moved = not may_be_written and (
            (not writes and _with_its_file(node, whole, code, edits))
            or move_out(Moved(node, _name(node), code.text(node)), code, edits, is_expensive=True)
            or _before_the_function(node, code, edits)
        )
    elif isinstance(node, ast.Subscript):
        once, name = f"{code.text(node.value)}[:]", _name(node.value)
        moved = Moved(node.value, name, once)
        if (read.is_run or read.is_one_row) and may_be_written:  # rows of an array are a view, those of a file are new
            rest = code.text(node).removeprefix(code.text(node.value))
            moved = Moved(node, name, once, node.value, f"{rest}.copy()")
        is_moved = move_out(moved, code, edits, is_expensive=True)
    else:
        is_moved = False
    return edits.cure() if is_moved else None


WRITING = frozenset(
    (
        *("save", "savez", "savez_compressed", "savetxt", "dump", "tofile", "write_bytes", "write_text", "to_csv"),
        *("to_hdf", "memmap", "open_memmap", "urlretrieve", "copyfile", "copy2", "rename", "system", "check_call"),
    )
)
"""Functions that write files."""


def _writes_files(code: RecordedCode) -> bool:
    """Whether the program may write a file."""
    for node in code.nodes:
        match node:
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=args, keywords=keywords):
                is_method = isinstance(node.func, ast.Attribute) and name == "open" and len(args) == 1
                first = 0 if is_method else 1  # `path.open("w")`
                modes = [*args[first:2], *(one.value for one in keywords if one.arg == "mode")]
                is_reading = all(isinstance(one, ast.Constant) and one.value in ("r", "rb", "rt") for one in modes)
                if name in WRITING or (name in ("open", "File") and not is_reading):
                    return True
    return False


def _may_be_written(read: FileRead, graph: Graph) -> bool:
    """Whether the program writes into what it has read, or may do so where it is not recorded."""
    events = [event for event in graph.turn if graph.span(event.site) == read.place]
    written = {root for event in graph.events for root in event.writes}
    return not events or any(event.output is None or event.output.root in written for event in events)


def _name(node: ast.expr) -> str:
    """A name for the array, from the name or the key of the set: `X_array` for ``data["X"]``."""
    match node:
        case ast.Subscript(slice=ast.Constant(value=str(key))) if key.isidentifier():
            return f"{key}_array"
        case ast.Subscript(value=value) | ast.Call(args=[ast.Subscript() as value, *_]):
            return _name(value)
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return f"{name}_array"
    return "loaded"


def _with_its_file(node: ast.expr, whole: frozenset[ast.AST], code: RecordedCode, edits: Edits) -> bool:
    """Move a ``with`` statement that does nothing but read whole sets before the loop. Whether there is one."""
    holder = code.parent(code.statement(node))
    if not isinstance(holder, ast.With) or not code.has_own_lines(holder):
        return False
    for one in holder.body:
        match one:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if value in whole:
                if len(code.bindings(name, code.scope(holder))) > 1:
                    return False
            case _:
                return False
    loop = outermost_loop(holder, [item.context_expr for item in holder.items], code)
    if loop is None:
        return False
    lines = code.graph.trace.sources[code.file(holder)].splitlines()[holder.lineno - 1 : holder.end_lineno]
    edits.insert_before(loop, textwrap.dedent("\n".join(lines)))
    edits.remove(holder)
    return True


def _before_the_function(node: ast.expr, code: RecordedCode, edits: Edits) -> bool:
    """Read before the function that reads, if the expression needs only modules and constants, as a file's name."""
    *_, module = code.around(node)
    if data_names(node, code) or not isinstance(module, ast.Module) or code.scope(node) is module:
        return False
    around = {node, *code.around(node)}
    top = next(one for one in module.body if one in around)
    name = edits.fresh_name(_name(node), code.file(node))
    edits.insert_before(top, f"{name} = {code.text(node)}")
    edits.replace(node, name)
    return True
