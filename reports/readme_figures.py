"""The sentences of the README that hold figures, made from the reports that measured them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mlpprof.errors import UsageError
from mlpprof.files import write_atomically

WORDS = (
    *("half", "a third", "a quarter", "a fifth", "a sixth", "a seventh", "an eighth", "a ninth", "a tenth"),
    *("an eleventh", "a twelfth"),
)
"""What 1 / 2 to 1 / 12 are called."""


def with_figures(readme: str, reports: Path) -> str:
    """The text of the README with its sentences made anew.

    Each stands between `<!-- figures: NAME -->` and `<!-- end -->`, neither of which may begin a line, because Markdown
    would take that line for HTML.
    """
    for name, sentence in (("ladder", ladder(reports)), ("frameworks", frameworks(reports))):
        first, last = f"<!-- figures: {name} -->", "<!-- end -->"
        readme, count = re.subn(f"{first}.*?{last}", f"{first}{sentence}{last}", readme, flags=re.DOTALL)
        if count != 1:
            raise UsageError(f"README.md has {count} places <!-- figures: {name} --> ... <!-- end -->; expected one")
    return readme


def refresh_readme(path: Path, reports: Path) -> bool:
    """Write the README if a figure in it has changed, and return whether it has."""
    old = path.read_text(encoding="utf-8")
    new = with_figures(old, reports)
    if new != old:
        with write_atomically(path) as temporary:
            temporary.write_text(new, encoding="utf-8")
    return new != old


def ladder(reports: Path) -> str:
    """How many times as fast as naive the fastest network of the ladder is."""
    [found] = _document(reports / "ladder" / "ladder-500.json")
    rungs = found["rungs"]
    best = max(rung["over_root"]["ratio"] for rung in rungs if rung["over_root"])
    number = round(best)
    share = WORDS[number - 2] if 2 <= number < len(WORDS) + 2 else f"1/{number}"
    return f"The fastest needs {share} of the\ntime of `naive`, which already works on whole batches. "


def frameworks(reports: Path) -> str:
    """How many times as fast as the best framework the best variants are, over all networks but that of the cats."""
    found = _document(reports / "peers" / "peers.json")
    rows = {row["name"]: row for row in found["rows"]}
    few = rows.pop("optprop", None)
    words = (
        f"On {found['machine']['cpu_affinity_count']} cores, the fastest variant was "
        f"{_range(rows.values(), 'best_ours')} times as fast as\n  the fastest framework "
        f"({_range(rows.values(), 'best_direct')} times without the variants that leave out zeros)"
    )
    if few is None:
        return f"{words}. "
    return f"{words},\n  and {_over_best_framework(few, 'best_ours'):.3g} times for a full batch of few samples. "


def _range(rows: Iterable[Mapping[str, Any]], which: str) -> str:
    ratios = [_over_best_framework(row, which) for row in rows]
    return f"{min(ratios):.2g} to {max(ratios):.2g}"


def _over_best_framework(row: Mapping[str, Any], which: str) -> float:
    [best] = [one for one in row["entrants"] if one["name"] == row[which]]
    return float(best["over_best_peer"]["ratio"])


def _document(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
