"""The figure of `mlpprof peers`: on every network, our best variant compared with the best framework."""

from __future__ import annotations

from mlpprof.report.figures.canvas import WIDE, png_bytes, standalone_svg, style
from mlpprof.report.figures.ratios import Ratio, ratio_rows
from mlpprof.results.peers import PeersTable

TITLE = "Ours compared with the best framework"
DESCRIPTION = (
    "Dots on a logarithmic axis: how many times as fast as the best framework the best variant is, row by row: "
)


def peers_pictures(table: PeersTable) -> dict[str, bytes]:
    """File name -> content of peers.png and peers.svg; nothing if no row has a framework to compare with."""
    ratios = [
        Ratio(f"{row.name}: {one.variant}", number, verdict.ratio, verdict.low, verdict.high)
        for number, row in enumerate(table.rows)
        for one in (row.best_ours, row.best_single, row.best_direct, row.best_direct_single)
        if one is not None and (verdict := one.over_best_peer) is not None
    ]
    ratios = list({one.name: one for one in ratios}.values())  # one variant is often the best in more than one way
    if not ratios:
        return {}
    with style():
        sheet = ratio_rows(ratios, WIDE, baseline="the best framework")
        text = DESCRIPTION + "; ".join(f"{one.name} {one.ratio:.2f}" for one in ratios)
        return {"peers.png": png_bytes(sheet), "peers.svg": standalone_svg(sheet, TITLE, text).encode()}
