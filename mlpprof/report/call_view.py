"""The call view: a stored pyinstrument session, drawn by pyinstrument itself.

Its own module, because loading pyinstrument takes longer than printing a report that has no call view.
"""

from __future__ import annotations

import json

from pyinstrument.renderers import ConsoleRenderer
from pyinstrument.session import Session

from mlpprof.report.format import printable
from mlpprof.results import StackProfile


def call_tree(profile: StackProfile) -> str:
    """The tree of calls with the share of each; one line on what is wrong where pyinstrument cannot read it."""
    renderer = ConsoleRenderer(unicode=True, time="percent_of_total")
    try:
        session = Session.from_json(json.loads(profile.session_json))
        drawn: str = renderer.render(session)
        tree = drawn.removeprefix(renderer.render_preamble(session))
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        # another version of pyinstrument may have written it
        return f"pyinstrument cannot draw this session: {printable(repr(error))}"
    return "\n".join(printable(line.rstrip()) for line in tree.strip("\n").splitlines())
