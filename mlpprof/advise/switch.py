"""Functions change their form while the program runs: their `__code__` is exchanged, and nothing else.

So operators, properties, callbacks and closures are reached as well, and whoever holds a function keeps it.
"""

from __future__ import annotations

import gc
from types import CodeType, FunctionType

from mlpprof.advise.forms import PLAIN, Forms
from mlpprof.advise.hooks import BEGIN


class Switch:
    """Puts all functions of a program's files into one form."""

    def __init__(self, forms: Forms) -> None:
        self._forms = forms
        self._plain: dict[CodeType, CodeType] = {}

    def to(self, mode: int) -> None:
        """Exchange the code of every function; those whose step chooses for itself, or that have no twin, stay."""
        for thing in gc.get_objects():
            if type(thing) is FunctionType and thing.__code__.co_filename in self._forms.sources:
                self._exchange(thing, mode)

    def _exchange(self, function: FunctionType, mode: int) -> None:
        plain = self._plain.get(function.__code__, function.__code__)
        if BEGIN in plain.co_names:
            return
        code = plain if mode == PLAIN else self._forms.twin(plain, mode)
        if code is None:
            code = plain
        if code is not function.__code__ and code.co_freevars == function.__code__.co_freevars:
            self._plain[code] = plain
            function.__code__ = code
