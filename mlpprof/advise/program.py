"""The program that is looked at, run as it stands: a script as `__main__`, or a variant in a loop over batches."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from mlpprof.advise.own_files import own_files
from mlpprof.advise.steps import Enough
from mlpprof.errors import ARGUMENTS_HINT, UsageError, VariantCrash
from mlpprof.measure.prepare import Loader
from mlpprof.measure.request import Request
from mlpprof.process import Progress

VARIANT_STEPS = 2_000
"""More than are ever recorded."""


@dataclass(frozen=True)
class Exit:
    """That a program has ended by itself. place: the line that called sys.exit; None for the end of the script."""

    place: str | None = None
    code: int = 0


@dataclass(frozen=True)
class Script:
    """A script with its arguments."""

    path: str
    arguments: tuple[str, ...]

    def run(self, compiled: Callable[[str, str], CodeType]) -> Exit | None:
        """Run it to its end, or to `Enough` (None). Raises VariantCrash for an exception of its own."""
        source = Path(self.path).read_text(encoding="utf-8")
        module = ModuleType("__main__")
        module.__file__ = self.path
        module.__dict__["__builtins__"] = __builtins__
        sys.modules["__main__"] = module
        sys.argv = [self.path, *self.arguments]
        sys.path.insert(0, str(Path(self.path).resolve().parent))
        try:
            exec(compiled(str(Path(self.path).resolve()), source), module.__dict__)
        except Enough:
            return None
        except SystemExit as error:
            return Exit(_place(error, self.path), _exit_code(error))
        except SyntaxError as error:
            raise UsageError(f"{error.filename}:{error.lineno}: SyntaxError: {error.msg}") from error
        except Exception as error:  # it is the user's code, and may raise anything
            hint = f"; {ARGUMENTS_HINT}" if "argv" in source and not self.arguments else ""
            message = f"{_place(error, self.path)}: {type(error).__name__}: {_one_line(error)}{hint}"
            raise VariantCrash(message) from error
        finally:
            with contextlib.suppress(OSError, ValueError):  # the program may have closed it
                sys.stdout.flush()  # so that the last words are in the log
        return Exit()


@dataclass(frozen=True)
class VariantLoop:
    """One of the catalog's variants, trained on batches of a workload."""

    request: Request
    batch: int
    report: Progress

    def run(self, compiled: Callable[[str, str], CodeType]) -> Exit | None:
        """Train until `Enough`. Raises what loading a variant raises."""
        import numpy as np

        prepared = Loader().prepare(self.request, self.report)
        prepared.require_batch(self.batch)
        X, Y = prepared.subject.X, prepared.subject.Y
        variant = prepared.subject.make()
        random = np.random.default_rng(self.request.seed)
        try:
            for _ in range(VARIANT_STEPS):
                variant.train_step(X, Y, random.choice(len(X), self.batch, replace=False))
        except Enough:
            return None
        return Exit()


def _place(error: BaseException, script: str) -> str:
    """The innermost line of the traceback outside installed libraries."""
    place, trace = Path(script).name, error.__traceback__
    is_own = own_files((), ())
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if is_own(file):
            place = f"{Path(file).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


def _exit_code(error: SystemExit) -> int:
    """As Python makes it of the argument of sys.exit: None is success, and anything but a number is printed."""
    if error.code is None or isinstance(error.code, int):
        return int(error.code or 0)
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        os.write(2, f"{error.code}\n".encode())
    return 1


def _one_line(error: Any) -> str:
    return " ".join(str(error).split())
