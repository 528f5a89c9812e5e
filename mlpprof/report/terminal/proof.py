"""What --prove has proven, on the terminal: a sentence with the speedup, a table of the cures, and the patch."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from mlpprof.report.advice_words import alone_text, promised_text, proof_headline
from mlpprof.report.numbers import plain, printable
from mlpprof.report.terminal.console import FIGURE, WORDS, heading, indented, listing, pairs, print_trimmed
from mlpprof.results.advice import Advice
from mlpprof.results.proof import IN_THE_PATCH, Proof, TriedCure

STYLES = {"+": "green", "-": "red", "@": "cyan"}
"""First character of a line of a patch -> its colour."""


def print_proof(
    advice: Advice, program: str, console: Console, *, with_patch: bool = True, is_applied: bool = False
) -> None:
    """Print the proof of the cures. with_patch: also the patch, which is not written to a file."""
    proof = advice.proof
    if proof is None:
        console.print(Text("There is nothing to prove: none of the findings has a cure that mlpprof can apply."))
        return
    print_trimmed(console, lambda width: _sections(proof, program, width))
    if proof.patch and with_patch:
        hint = "it is applied" if is_applied else "-o FILE.patch writes it, --apply changes the files"
        console.print(heading("Patch", hint))
        for line in proof.patch.splitlines():
            console.print(Text(printable(line), STYLES.get(line[:1], "")), soft_wrap=True)


def _sections(proof: Proof, program: str, width: int) -> Iterator[RenderableType]:
    yield Text(plain(proof_headline(program, proof)), "bold")
    if proof.changes_precision:
        yield Text("The patch changes the precision to float32; --safe-only leaves that out.")
    yield heading("Cures")
    yield indented(_table(proof))
    notes = [*proof.notes, *(proof.training.notes if proof.training is not None else ())]
    if notes:
        yield heading("Notes")
        yield indented(pairs([("!", "yellow", note) for note in notes], width))


def _table(proof: Proof) -> Table:
    table = listing([("cure", WORDS), ("promised", FIGURE), ("alone", FIGURE), ("result", WORDS)])
    for one in sorted(proof.cures, key=lambda one: one.outcome != IN_THE_PATCH):
        cure = Text.assemble(plain(one.title), ("\n" + plain(f"{one.place.text}  {one.category}, {one.kind}"), "dim"))
        table.add_row(cure, promised_text(one), alone_text(one), _result(one))
    return table


def _result(one: TriedCure) -> Text:
    if one.outcome == IN_THE_PATCH:
        return Text(plain(f"{one.outcome}: {one.reason}" if one.reason else one.outcome), "green")
    return Text(plain(f"{one.outcome}: {one.reason}" if one.reason else one.outcome))
