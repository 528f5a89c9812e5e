"""A folder with everything of `mlpprof peers`: table.txt, README.md, peers.json, and the figure."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from mlpprof import __version__
from mlpprof.files import make_folder, write_atomically
from mlpprof.report.export.json_text import json_text, without_nan
from mlpprof.report.peers_table import peers_markdown, peers_text
from mlpprof.results import Verdict
from mlpprof.results.peers import Competitor, PeersRow, PeersTable

SCHEMA = 1
"""Raised when a key goes or changes its meaning; keys may be added without."""
DESCRIPTION = "Dots on a logarithmic axis: the best variant of the project over the best framework, row by row: "


def peers_json(table: PeersTable) -> dict[str, Any]:
    """The table as plain JSON with the raw timings of every turn; times in seconds; null where a slow one sat out."""
    document = {
        "schema": SCHEMA,
        "mlpprof": __version__,
        "created": table.created,
        "command": table.command,
        "quick": table.quick,
        "replicates": table.replicates,
        "machine": table.machine,
        "rows": [_row(row) for row in table.rows],
    }
    plain: dict[str, Any] = without_nan(document)
    return plain


def write_peers(table: PeersTable, folder: Path) -> list[Path]:
    """Write all files into a folder, made if it is missing; returns their paths. Raises UsageError where that fails."""
    make_folder(folder)
    texts = {
        "table.txt": peers_text(table),
        "README.md": f"# Against the frameworks\n\n{peers_markdown(table)}\n![ratios](peers.png)\n",
        "peers.json": json_text(peers_json(table)),
    }
    written = []
    for name, text in texts.items():
        with write_atomically(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")
        written.append(folder / name)
    return [*written, *_draw(table, folder)]


def _draw(table: PeersTable, folder: Path) -> list[Path]:
    # loading matplotlib takes longer than all the rest
    from mlpprof.report.figures.canvas import WIDE, png_bytes, standalone_svg, style
    from mlpprof.report.figures.ratios import Ratio, ratio_rows

    ratios = [
        Ratio(f"{row.name}: {one.variant}", number, verdict.ratio, verdict.low, verdict.high)
        for number, row in enumerate(table.rows)
        for one in (row.best_ours, row.best_single, row.best_direct)
        if one is not None and (verdict := one.over_best_peer) is not None
    ]
    ratios = list({one.name: one for one in ratios}.values())  # they are often the same
    if not ratios:
        return []
    with style():
        sheet = ratio_rows(ratios, WIDE)
        text = DESCRIPTION + "; ".join(f"{one.name} {one.ratio:.2f}" for one in ratios)
        contents = {
            "png": png_bytes(sheet),
            "svg": standalone_svg(sheet, "Ours over the best framework", text).encode(),
        }
    written = []
    for kind, content in contents.items():
        path = folder / f"peers.{kind}"
        with write_atomically(path) as temporary:
            temporary.write_bytes(content)
        written.append(path)
    return written


def _row(row: PeersRow) -> dict[str, Any]:
    return {
        "name": row.name,
        "title": row.title,
        "network": asdict(row.network),
        "samples": row.samples,
        "batch": row.batch,
        "steps": row.steps,
        "whole_epoch": row.is_whole_epoch,
        "entrants": [_competitor(one) for one in row.competitors],
        "absent": dict(row.absent),
        "best_ours": None if row.best_ours is None else row.best_ours.name,
        "best_single": None if row.best_single is None else row.best_single.name,
        "best_peer": None if row.best_peer is None else row.best_peer.name,
        "variants": row.race.variants,
        "turns_s": [turns.tolist() for turns in row.race.turns_s],
    }


def _competitor(one: Competitor) -> dict[str, Any]:
    return {**asdict(one), "over_best_peer": _ratio(one.over_best_peer)}


def _ratio(verdict: Verdict | None) -> dict[str, Any] | None:
    return None if verdict is None else {"ratio": verdict.ratio, "interval": [verdict.low, verdict.high]}
