"""The names by which rewritten code calls the instruments, and where it finds them.

They are put among Python's builtins, so that neither the globals of a module nor those of a function change. They end
in two underscores, so that a class does not mangle them.
"""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from typing import Any

BEGIN, MODE, END, ELEMENT = (f"__mlpprof_{name}__" for name in ("begin", "mode", "end", "element"))
"""Hooks of the step: it begins; which form of it runs; it has ended. Of a comprehension that calls it: its element is
evaluated."""

FED, TESTED = "__mlpprof_fed__", "__mlpprof_tested__"
"""Hooks of the loop around the step: it is about to run over something, or to evaluate its condition."""

RECORDING, LOOP, OVER, TURN, LEAVE, TURNS, USED, GIVEN, LOCALS = (
    f"__mlpprof_{name}__" for name in ("recording", "loop", "over", "turn", "leave", "turns", "used", "given", "locals")
)
"""Hooks of the observed form: whether to observe; a loop begins, what it runs over, a turn of it begins, it ends; the
turns of a comprehension; a value is read, or is handed to code that may not be observed; the names of a frame."""

PRE, POST, OPEN, CLOSE = (f"__mlpprof_{name}__" for name in ("pre", "post", "open", "close"))
"""Hooks of the clocked form: around an expression, and around a statement."""

CALLED, RETURNED, MULTIPLIED, CHANGING, UPDATED, QUIET = (
    f"__mlpprof_{name}__" for name in ("called", "returned", "multiplied", "changing", "updated", "quiet")
)
"""Hooks of the search for the step: a function begins and ends; a matrix product is computed; something is about to
be changed, and has been; whether reading an item or an attribute again runs no code of the program."""


AT, TURNED, ENDED, ENTERED, LEFT, OPENED, CLOSED, SPANS, WATCHED, SEEN = (
    f"__mlpprof_{name}__"
    for name in ("at", "turned", "ended", "entered", "left", "opened", "closed", "spans", "watched", "seen")
)
"""Hooks around the steps: a statement begins; a turn of a loop begins, the loop has ended; a function begins, it has
ended; a file begins to run, it has ended; what a loop runs over; whether to record the statement that begins, and that
it has ended."""

BEFORE, AFTER = "__mlpprof_before__", "__mlpprof_after__"
"""Hooks around statements of which two versions are compared: they begin; the names of the frame once they have ended.
"""

QUIETLY: dict[str, Any] = {
    MODE: lambda: 0,  # the step runs undisturbed
    ELEMENT: lambda evaluate: evaluate(),
    MULTIPLIED: lambda value: value,
    **dict.fromkeys((FED, TESTED), lambda site: lambda value: value),
    **dict.fromkeys((BEGIN, END, CALLED, RETURNED, LOOP, TURN, LEAVE, UPDATED), lambda *arguments: None),
}
"""What hooks do while nothing is observed."""

_held: dict[str, Any] = {}


def install(hooks: Mapping[str, Any]) -> None:
    """Make hooks known to rewritten code, in place of those before them."""
    for name, hook in hooks.items():
        setattr(builtins, name, hook)


def hold() -> None:
    """Observe nothing until `release`: the program runs a part that it has only to have run."""
    _held.update({name: getattr(builtins, name) for name in QUIETLY if hasattr(builtins, name)})
    install({name: QUIETLY[name] for name in _held})


def release() -> None:
    """Install again what was installed before `hold`."""
    install(_held)
    _held.clear()
