"""The style of HTML in a notebook: everything within the class `mlpprof`, dark where the front end says that it is."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from markupsafe import Markup

from mlpprof.report.figures.palette import THEME

DARK_FRONT_ENDS = ('[data-jp-theme-light="false"]', "body.vscode-dark", "html[theme=dark]")
"""What JupyterLab, VS Code and Colab mark dark pages with: a light notebook on a dark desktop stays light."""


@cache
def style_sheet() -> Markup:
    """The text within <style>: ours alone, so that nothing in it needs escaping."""
    light, dark = ("".join(f"--{role}:{pair[i]};" for role, pair in THEME.items()) for i in (0, 1))
    selectors = ",".join(f"{front_end} .mlpprof" for front_end in DARK_FRONT_ENDS)
    rules = files("mlpprof.report.notebook").joinpath("templates", "style.css").read_text(encoding="utf-8")
    return Markup(f".mlpprof{{{light}}}{selectors}{{{dark}}}\n{rules}")
