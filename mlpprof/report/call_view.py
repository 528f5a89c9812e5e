"""The call view: a stored pyinstrument session, drawn by pyinstrument itself.

Its own module, because loading pyinstrument takes longer than printing a report that has no call view.
"""

from __future__ import annotations

import json

from pyinstrument.renderers import ConsoleRenderer, HTMLRenderer, SpeedscopeRenderer
from pyinstrument.renderers.base import Renderer
from pyinstrument.session import Session

from mlpprof.errors import RunFileError
from mlpprof.report.format import printable
from mlpprof.results import StackProfile


class _TreeRenderer(ConsoleRenderer):
    """pyinstrument's tree without its banner."""

    def render_preamble(self, session: Session) -> str:
        """Nothing: the report has said what was measured."""
        return ""


def call_tree(profile: StackProfile) -> str:
    """The tree of calls as text, each with its share; where it cannot be drawn, one line that says why."""
    try:
        tree = _drawn(profile, _TreeRenderer(unicode=True, time="percent_of_total"))
    except RunFileError as error:
        return str(error)
    return "\n".join(printable(line.rstrip()) for line in tree.strip("\n").splitlines())


def call_page(profile: StackProfile) -> str:
    """pyinstrument's own HTML page; raises RunFileError where the session cannot be read."""
    return _drawn(profile, HTMLRenderer())


def call_speedscope_json(profile: StackProfile) -> str:
    """The session for https://www.speedscope.app; raises RunFileError where it cannot be read."""
    return _drawn(profile, SpeedscopeRenderer())


def _drawn(profile: StackProfile, renderer: Renderer) -> str:
    try:
        drawn: str = renderer.render(Session.from_json(json.loads(profile.session_json)))
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        # whoever stored the run may have had another version of pyinstrument
        raise RunFileError(f"the call view of this run cannot be drawn: {printable(repr(error))}") from error
    return drawn
