"""The program that is looked at, run as it stands: a script as `__main__`, or a variant in a loop over batches."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from mlpprof.advise.steps import Enough
from mlpprof.catalog import own_modules
from mlpprof.errors import UsageError, VariantCrash
from mlpprof.measure.prepare import Loader
from mlpprof.measure.request import Request
from mlpprof.process import Progress

VARIANT_STEPS = 2_000
"""More than are ever recorded."""


@dataclass(frozen=True)
class Script:
    """A script with its arguments."""

    path: str
    arguments: tuple[str, ...]

    def run(self, compiled: Callable[[str, str], CodeType]) -> None:
        """Run it to its end, or to `Enough`. Raises VariantCrash for an exception of its own."""
        source = Path(self.path).read_text(encoding="utf-8")
        module = ModuleType("__main__")
        module.__file__ = self.path
        module.__dict__["__builtins__"] = __builtins__
        sys.modules["__main__"] = module
        sys.argv = [self.path, *self.arguments]
        sys.path.insert(0, str(Path(self.path).resolve().parent))
        try:
            exec(compiled(str(Path(self.path).resolve()), source), module.__dict__)
        except (Enough, SystemExit):
            pass
        except SyntaxError as error:
            raise UsageError(f"{error.filename}:{error.lineno}: SyntaxError: {error.msg}") from error
        except Exception as error:  # it is the user's code, and may raise anything
            raise VariantCrash(f"{_place(error, self.path)}: {type(error).__name__}: {_one_line(error)}") from error


@dataclass(frozen=True)
class VariantLoop:
    """One of the catalog's variants, trained on batches of a workload."""

    request: Request
    batch: int
    report: Progress

    def run(self, compiled: Callable[[str, str], CodeType]) -> None:
        """Train until `Enough`. Raises what loading a variant raises."""
        import numpy as np

        prepared = Loader().prepare(self.request, self.report)
        prepared.require_batch(self.batch)
        X, Y = prepared.subject.X, prepared.subject.Y
        variant = prepared.subject.make()
        random = np.random.default_rng(self.request.seed)
        with own_modules(prepared.entry), suppress(Enough):
            for _ in range(VARIANT_STEPS):
                variant.train_step(X, Y, random.choice(len(X), self.batch, replace=False))


def _place(error: BaseException, script: str) -> str:
    """The innermost line of the traceback outside installed libraries."""
    place, trace = Path(script).name, error.__traceback__
    folder = str(Path(script).resolve().parent)
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if file.startswith(folder):
            place = f"{Path(file).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


def _one_line(error: Any) -> str:
    return " ".join(str(error).split())
