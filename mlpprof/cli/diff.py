"""`mlpprof diff OLD NEW` shows the code that differs between two variants."""

from __future__ import annotations

import ast
import difflib

import click
from rich.text import Text

from mlpprof.catalog import Entry, find_all
from mlpprof.cli.terminal import output_console
from mlpprof.errors import VariantCrash

CONTEXT_LINES = 2
STYLES = {"+": "green", "-": "red", "@": "cyan"}


@click.command("diff")
@click.argument("old")
@click.argument("new")
@click.option("--docstring", is_flag=True, help="Compare the files' docstrings too.")
def command(old: str, new: str, docstring: bool) -> None:
    """Show how the code of the variant NEW differs from that of OLD, as a unified diff."""
    first, second = find_all((old, new))
    lines = difflib.unified_diff(
        _code(first, docstring), _code(second, docstring), first.name, second.name, n=CONTEXT_LINES, lineterm=""
    )
    console = output_console()
    for line in lines:
        bold = " bold" if line.startswith(("+++", "---")) else ""
        console.print(Text(line, style=(STYLES.get(line[:1], "") + bold).strip()), soft_wrap=True)


def _code(entry: Entry, docstring: bool) -> list[str]:
    """The lines of the file, without its docstring unless `docstring` is true."""
    source = entry.source()
    lines = source.splitlines()
    try:
        body = ast.parse(source).body
    except SyntaxError as error:
        raise VariantCrash(f"{entry.path.name}:{error.lineno}: SyntaxError: {error.msg}") from error
    if not docstring and body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        return lines[body[0].end_lineno :]
    return lines
