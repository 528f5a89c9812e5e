"""The catalog finds a variant by a name, a path or an entry point, and loads its class.

The built-in variants are plain files. They are loaded by path and never imported as a package, so that they work in a
checkout, in an editable install and in the wheel. Parent and summary are read from the source without running it.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import shlex
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, cast
from weakref import WeakKeyDictionary

from mlpprof.errors import MissingExtra, MlpprofError, UsageError, VariantCrash, VariantError, did_you_mean, one_line
from mlpprof.model import UnsupportedNetwork, Variant
from mlpprof.namespace import Namespace

ENTRY_POINT_GROUP = "mlpprof.variants"
CLASS_NAME = "MLP"

ARGUMENTS: dict[str, tuple[str, ...]] = {
    "__init__": ("network", "parameters"),
    "fetch_batch": ("X", "Y", "index"),
    "forward": (),
    "loss": (),
    "backward": (),
    "update": (),
    "train_step": ("X", "Y", "index"),
    "parameters": (),
    "gradients": (),
    "predict": ("X",),
}
"""The methods of the interface, with the arguments that mlpprof passes to each by position."""

SHORTEST_FIX = {
    "fetch_batch": "self.X, self.Y = X[index], Y[index]",
    "loss": "return the mean loss of the batch, without the penalty",
    "train_step": "self.fetch_batch(X, Y, index); self.forward(); loss = self.loss(); self.backward(); "
    "self.update(); return loss",
    "parameters": "return [(W, b) for every layer], W (n_l, n_{l-1}) and b (n_l,)",
    "gradients": "return [(dW, db) for every layer], shaped as the parameters",
    "predict": "return the output activations (N, n_L) for X (N, n_0)",
}
"""The shortest body for a method that is missing."""

MOST_MODULES = 3
"""No more modules of a package are listed."""


@dataclass(frozen=True)
class Entry:
    """What is known of a variant without running its code.

    reference: what you type to get it. module: the dotted name, for a variant that comes from a package. extra: the
    optional dependencies that it needs, from the file's constant EXTRA. own: whether it is a built-in variant.
    branch: the kind of branch it belongs to, from its constant BRANCH; None if it may be a rung of the main line.
    """

    name: str
    reference: str
    path: Path
    class_name: str | None
    parent: str | None
    summary: str
    extra: str | None = None
    module: str | None = None
    own: bool = False
    branch: str | None = None

    def source(self) -> str:
        """The text of the file; raises VariantError if it cannot be read."""
        try:
            return self.path.read_text(encoding="utf-8-sig")  # editors on Windows may write a byte order mark
        except (OSError, UnicodeDecodeError) as error:
            raise VariantError(f"cannot read the variant '{self.path}': {error}") from error


def typed_name(path: Path) -> str:
    """The name of a variant on the command line; only for `peers/` is the folder part of the name."""
    return path.with_suffix("").as_posix() if path.parts[0] == "peers" else path.stem


def ladder_folder() -> Path:
    """The folder of the built-in variants; it is inside the package in the wheel, and beside it in a checkout."""
    package = Path(__file__).resolve().parent
    for folder in (package / "variants", package.parent / "variants"):
        if (folder / "naive.py").is_file():
            return folder
    raise VariantError(f"the variants folder is missing beside {package}; reinstall mlpprof")


def ladder() -> dict[str, Entry]:
    """The built-in variants by name. Each comes after its parent, and a branch comes after the rung where it leaves."""
    folder = ladder_folder()
    found = {}
    for path in sorted(folder.rglob("*.py")):
        name = typed_name(path.relative_to(folder))
        if not path.name.startswith("_"):
            found[name] = _read_entry(name, name, path, CLASS_NAME, own=True)
    ordered: dict[str, Entry] = {}

    def visit(parent: str | None) -> None:
        for name, entry in found.items():
            if entry.parent == parent and name not in ordered:
                ordered[name] = entry
                visit(name)

    visit(None)
    return ordered


def third_party() -> dict[str, Entry]:
    """The variants that installed packages offer through the entry-point group `mlpprof.variants`."""
    found = {}
    for point in entry_points(group=ENTRY_POINT_GROUP):
        try:
            spec = importlib.util.find_spec(point.module)
        except Exception as error:  # find_spec runs the __init__ of the packages above the module
            raise VariantError(
                f"entry point '{point.name}' = '{point.value}' cannot be imported: {one_line(error)}"
            ) from error
        if spec is None or spec.origin is None:
            raise VariantError(f"entry point '{point.name}' = '{point.value}': no module '{point.module}'")
        entry = _read_entry(point.name, point.name, Path(spec.origin), point.attr or None, module=point.module)
        found[point.name] = entry
    return found


def find(reference: str) -> Entry:
    """The variant for a name, for a path `./mine.py`, or for a class in a file, `./mine.py:Class`.

    Raises UsageError if there is no such variant, and VariantError if the file cannot be read.
    """
    file, _, class_name = reference.partition(".py:")
    if class_name or reference.endswith(".py"):
        path = Path(f"{file}.py" if class_name else reference)
        if not path.is_file():
            hint = did_you_mean(str(path), map(str, path.parent.glob("*.py"))) or "; expected a Python file"
            raise UsageError(f"there is no file '{path}'{hint}")
        full = str(path.resolve()) + (f":{class_name}" if class_name else "")
        return _read_entry(path.stem, full, path.resolve(), class_name or None)
    known = ladder()
    if reference in known:
        return known[reference]
    others = third_party()
    if reference in others:
        return others[reference]
    if reference.endswith(".ipynb"):
        raise UsageError(
            f"the notebook '{reference}' is a program, and this needs a variant (mlpprof list shows all). Programs are "
            f"for mlpprof advise, profile and compare, as in: mlpprof advise {shlex.quote(reference)}"
        )
    if meant := module_meant(reference):
        raise UsageError(
            f"there is no variant '{reference}', but a package of this name, which Python runs as a module; type "
            f"{meant} in its place"
        )
    hint = did_you_mean(reference, [*known, *others])
    raise UsageError(
        f"there is no variant '{reference}'{hint} (mlpprof list shows all variants; the name of a file ends in .py)"
    )


def module_meant(text: str) -> str | None:
    """'-m nets' for the folder of a package that can be run, '-m nets.train' for a module in one, else None."""
    name = text.rstrip("/").replace("/", ".")
    if not all(part.isidentifier() for part in name.split(".")):
        return None
    folder = Path(*name.split("."))
    if (folder / "__main__.py").is_file() or ("." in name and folder.with_suffix(".py").is_file()):
        return f"-m {name}"
    modules = sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")
    if (folder / "__init__.py").is_file() and modules:
        return " or ".join(f"-m {name}.{module}" for module in modules[:MOST_MODULES])
    return None


def find_all(references: Iterable[str]) -> list[Entry]:
    """The variants of several references, with names that differ: v1/mine and v2/mine, mine:Plain and mine:Fast.

    Raises what `find` raises.
    """
    entries = [find(reference) for reference in references]
    different = list({entry.reference: entry for entry in entries}.values())
    folders = dict.fromkeys((entry.reference for entry in different), 0)

    def name(entry: Entry) -> str:
        if entry.own or entry.module is not None:
            return entry.name
        words = Path(*entry.path.with_suffix("").parts[-1 - folders[entry.reference] :]).as_posix()
        alike = [other for other in different if other.path == entry.path]
        return words if len(alike) == 1 or entry.class_name is None else f"{words}:{entry.class_name}"

    while True:
        names = [name(entry) for entry in different]
        longer = [
            entry.reference
            for entry in different
            if names.count(name(entry)) > 1 and folders[entry.reference] + 1 < len(entry.path.parts)
        ]
        if not longer:
            return [replace(entry, name=name(entry)) for entry in entries]
        for reference in longer:
            folders[reference] += 1


def reference_to(cls: type) -> str:
    """The reference with which `find` finds a class of a user's module: the file and the name of the class.

    Raises UsageError for a class that no other process can load: it is local to a function, or its module is gone.
    """
    if "<locals>" in cls.__qualname__:
        raise UsageError(
            f"class {cls.__qualname__} is local to a function; move it to the top level of its module, or give its path"
        )
    found: Any = sys.modules.get(cls.__module__)
    for name in cls.__qualname__.split("."):
        found = getattr(found, name, None)
    if found is cls:
        return f"{inspect.getfile(cls)}:{cls.__qualname__}"
    # Another file has taken the name of the module since. The methods of the class still know their file.
    methods = [inspect.unwrap(value) for value in vars(cls).values() if inspect.isfunction(value)]
    files = {method.__code__.co_filename for method in methods}
    if len(files) == 1 and (file := Path(files.pop())).is_file():
        return f"{file}:{cls.__qualname__}"
    raise UsageError(
        f"class {cls.__qualname__} is not in its module '{cls.__module__}' any more, so a worker process cannot load "
        f"it; give its path instead, such as 'folder/mine.py:{cls.__qualname__}'"
    )


def load(entry: Entry) -> type[Variant]:
    """Run the variant's file, check the interface of its class, and return the class.

    The modules that a user's file imports from its own folder belong to that file alone: see `mlpprof.namespace`.

    Raises MissingExtra, VariantError (a class or a method is missing, or has a wrong signature) or VariantCrash (the
    file raised an exception).
    """
    # The activations load this when they are first used. It must not find a user's modules in place of Python's own.
    importlib.import_module("scipy.special")
    if entry.module is not None:
        with variant_code(entry):
            return class_in(importlib.import_module(entry.module), entry)
    if not entry.own:
        _require_a_candidate(entry)
    name = module_name(entry)
    spec = importlib.util.spec_from_file_location(name, entry.path)
    if spec is None or spec.loader is None:
        raise VariantError(f"'{entry.path}' cannot be loaded as a Python file")
    module = importlib.util.module_from_spec(spec)
    if not entry.own:
        _namespaces[entry.reference] = Namespace(entry.path)
    sys.modules[name] = module
    with variant_code(entry):
        spec.loader.exec_module(module)
        cls = class_in(module, entry)
        _modules[cls] = sys.modules.get(cls.__module__, module)
    return cls


_namespaces: dict[str, Namespace] = {}
"""The namespaces of the user's files that have been loaded, by reference."""
_modules: WeakKeyDictionary[type, ModuleType] = WeakKeyDictionary()
"""The modules of the classes that have been loaded from files."""


def own_modules(entry: Entry) -> AbstractContextManager[None]:
    """A context in which code of a loaded variant imports the modules beside its own file."""
    namespace = _namespaces.get(entry.reference)
    return nullcontext() if namespace is None else namespace.running()


def module_name(entry: Entry) -> str:
    """The name of a variant's module in sys.modules; it differs from that of another file with the same name."""
    if entry.module is not None:
        return entry.module
    name = entry.name if entry.own else f"{entry.name}_{zlib.crc32(str(entry.path).encode()):08x}"
    return "mlpprof_variant_" + "".join(c if c.isalnum() else "_" for c in name)


def module_of(cls: type[Variant]) -> ModuleType:
    """The module that a loaded variant class was defined in."""
    return _modules.get(cls) or sys.modules[cls.__module__]


def class_in(module: ModuleType, entry: Entry) -> type[Variant]:
    """The variant class of a loaded module; raises VariantError, with what to type or to write, if there is none."""
    own = {n: c for n, c in vars(module).items() if inspect.isclass(c) and c.__module__ == module.__name__}
    if entry.class_name is not None:
        wanted: Any = own.get(entry.class_name) or getattr(module, entry.class_name, None)
        if not inspect.isclass(wanted):
            raise VariantError(_no_class(entry, entry.class_name, list(own)))
    else:
        candidates = [c for c in own.values() if hasattr(c, "train_step")]
        wanted = own.get(CLASS_NAME) or (candidates[0] if len(candidates) == 1 else None)
        if wanted is None:
            if not candidates:
                raise VariantError(_no_candidate(entry, list(own)))
            raise VariantError(
                f"several classes in {entry.path.name} have the method train_step: "
                f"{', '.join(cls.__name__ for cls in candidates)}. Type the one that you mean: "
                f"{entry.path.name}:{candidates[0].__name__}"
            )
    problems = interface_problems(wanted)
    if problems:
        _require_most_methods(entry, wanted.__name__, [name for name in ARGUMENTS if not hasattr(wanted, name)])
        lacks = f"class {wanted.__name__} in {entry.path.name} lacks parts of the interface of a variant"
        raise VariantError(f"{lacks}: {'; '.join(problems)}")
    return cast(type[Variant], wanted)


def class_name_in(entry: Entry) -> str:
    """The name of the class that `load` takes, as far as the source shows it without being run."""
    if entry.class_name is not None:
        return entry.class_name
    try:
        methods = interface_methods(ast.parse(entry.source()))
    except (SyntaxError, ValueError):
        return CLASS_NAME  # loading the file will say where the error is
    candidates = [name for name, (own, _) in methods.items() if "train_step" in own]
    return candidates[0] if len(candidates) == 1 else CLASS_NAME


def _require_a_candidate(entry: Entry) -> None:
    """Raise VariantError, before the file runs and perhaps trains for hours, if it cannot have the class."""
    source = entry.source()
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return  # loading the file will say where the error is
    classes = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    wanted = entry.class_name
    if wanted is None:
        # A base class or a decorator may bring the method from elsewhere.
        if "train_step" not in source and not any(cls.bases or cls.decorator_list for cls in classes.values()):
            raise VariantError(_no_candidate(entry, list(classes)))
    elif wanted not in classes:
        if _is_step(tree, wanted):
            script = _typed_path(entry)
            raise VariantError(
                f"{wanted} in {entry.path.name} is not a class. To take it as the training step of your program: "
                f"mlpprof advise {script} --step {wanted}, or mlpprof profile {script} --step {wanted}"
            )
        if not _may_bind(tree, wanted):
            raise VariantError(_no_class(entry, wanted, list(classes)))
    elif not classes[wanted].decorator_list:
        methods, has_others = interface_methods(tree).get(wanted, (set(), True))
        if not has_others:
            _require_most_methods(entry, wanted, [name for name in ARGUMENTS if name not in methods])


def interface_methods(tree: ast.Module) -> dict[str, tuple[set[str], bool]]:
    """Class of a file -> the methods of the interface that it has, and whether others may come from another file."""
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}

    def methods(node: ast.ClassDef, seen: tuple[str, ...]) -> tuple[set[str], bool]:
        found = {one.name for one in node.body if isinstance(one, ast.FunctionDef)} & set(ARGUMENTS)
        has_others = False
        for base in node.bases:
            name = base.id if isinstance(base, ast.Name) else ""
            if name in classes and name not in seen:
                more, others = methods(classes[name], (*seen, name))
                found, has_others = found | more, has_others or others
            elif name not in ("object", *seen):
                has_others = True
        return found, has_others

    return {name: methods(node, (name,)) for name, node in classes.items()}


def _is_step(tree: ast.Module, name: str) -> bool:
    """Whether it is the line of a loop, a function of the file, or a method as 'Class.method'."""
    scopes = {"": tree.body, **{f"{node.name}.": node.body for node in tree.body if isinstance(node, ast.ClassDef)}}
    functions = {f"{scope}{one.name}" for scope, body in scopes.items() for one in body if isinstance(one, DEFINITIONS)}
    return name.isdecimal() or name in functions


DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def _may_bind(tree: ast.Module, name: str) -> bool:
    """Whether a file may get a name without a class statement: by an assignment or an import."""
    nodes = list(ast.walk(tree))
    imports = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
    stored = [node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    return name in stored or any((one.asname or one.name) in (name, "*") for node in imports for one in node.names)


def _require_most_methods(entry: Entry, class_name: str, missing: list[str]) -> None:
    """Raise VariantError for a class that was not written as a variant, with what to type instead."""
    if len(missing) <= len(ARGUMENTS) / 2:
        return
    methods = [name for name in missing if name != "__init__"]
    step = "METHOD" if "train_step" in missing else "train_step"
    raise VariantError(
        f"class {class_name} in {entry.path.name} is not a variant: it lacks {', '.join(methods[:3])} and "
        f"{len(methods) - 3} other methods of the interface. {_as_a_program(entry, f'{class_name}.{step}')}"
    )


def _no_class(entry: Entry, class_name: str, classes: list[str]) -> str:
    return (
        f"there is no class '{class_name}' in {entry.path.name}{did_you_mean(class_name, classes)} "
        f"(it has: {', '.join(classes) or 'no class'})"
    )


def _no_candidate(entry: Entry, classes: list[str]) -> str:
    found = f"its classes are {', '.join(classes)}" if classes else "it has no class"
    return (
        f"{entry.path.name} has no class with the interface of a variant, which has a method train_step ({found}). "
        + _as_a_program(entry, f"{classes[0]}.METHOD" if classes else "FUNCTION")
    )


def _as_a_program(entry: Entry, step: str) -> str:
    """What to type to measure a file that has no variant."""
    script = _typed_path(entry)
    return (
        f"To run it unchanged as your program: mlpprof profile {script} or mlpprof advise {script}, with --step {step} "
        "if they do not find the training step"
    )


def _typed_path(entry: Entry) -> str:
    here = Path.cwd()
    return shlex.quote(str(entry.path.relative_to(here) if entry.path.is_relative_to(here) else entry.path))


def interface_problems(cls: type) -> list[str]:
    """The reasons why a class is not a variant, each with the shortest fix; empty if it is one."""
    problems = []
    if getattr(cls, "DTYPE", None) is None:
        problems.append("no DTYPE; add `DTYPE = np.float64` to the class")
    for name, arguments in ARGUMENTS.items():
        wanted = f"{name}({', '.join(('self', *arguments))})"
        method = getattr(cls, name, None)
        if not callable(method) or method is object.__init__:
            fix = SHORTEST_FIX.get(name)
            problems.append(f"no method {wanted}" + (f"; shortest: {fix}" if fix else ""))
            continue
        try:
            signature = inspect.signature(method)
        except (TypeError, ValueError):
            continue  # a compiled method may have no signature
        try:
            signature.bind(None, *arguments)
        except TypeError:
            problems.append(f"{name}{signature} should be {wanted}")
    return problems


@contextmanager
def variant_code(entry: Entry) -> Iterator[None]:
    """A context for code of the variant: its exceptions become VariantCrash with the file and line in the variant.

    If a variant with an EXTRA lacks a third-party module, that becomes MissingExtra. The code imports what the file
    itself would import: see `own_modules`.
    """
    with own_modules(entry):
        try:
            yield
        except MlpprofError:
            raise
        except ModuleNotFoundError as error:
            if entry.extra is not None:
                raise MissingExtra(
                    f"variant '{entry.name}' needs {error.name}; install it with: pip install 'mlpprof[{entry.extra}]'"
                ) from error
            raise VariantCrash(f"{_place(entry, error)}: {error}") from error
        except SyntaxError as error:
            file = Path(error.filename or entry.path).name  # the file itself, or a neighbour that it imports
            raise VariantCrash(f"{file}:{error.lineno}: SyntaxError: {error.msg}") from error
        except SystemExit as error:
            raise VariantCrash(f"{_place(entry, error)}: the code called exit(); remove the call") from error
        except EOFError as error:
            raise VariantCrash(
                f"{_place(entry, error)}: the code reads from the keyboard, as input() does, and nobody types while "
                "mlpprof runs it; remove the call"
            ) from error
        except Exception as error:  # a variant is a user's code, and may raise anything
            # a file that does not import mlpprof has an UnsupportedNetwork of its own
            if type(error).__name__ == UnsupportedNetwork.__name__:
                raise UnsupportedNetwork(one_line(error)) from error
            raise VariantCrash(f"{_place(entry, error)}: {type(error).__name__}: {one_line(error)}") from error


def _place(entry: Entry, error: BaseException) -> str:
    """The innermost line of the variant's file in a traceback, such as 'mine.py:41 in backward'."""
    place = entry.path.name
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if Path(code.co_filename).name == entry.path.name:
            place = f"{entry.path.name}:{trace.tb_lineno} in {code.co_name}"
        trace = trace.tb_next
    return place


def _read_entry(
    name: str,
    reference: str,
    path: Path,
    class_name: str | None,
    *,
    module: str | None = None,
    own: bool = False,
) -> Entry:
    """Read the summary, PARENT, EXTRA and BRANCH from the source; for a file that does not parse they are empty."""
    entry = Entry(name, reference, path, class_name, None, "", module=module, own=own)
    summary, parent, extra, branch = _head_of(entry.source())
    return replace(entry, parent=parent, summary=summary, extra=extra, branch=branch)


@cache  # every search by name reads all files of the ladder
def _head_of(source: str) -> tuple[str, str | None, str | None, str | None]:
    """The summary, PARENT, EXTRA and BRANCH of a file."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return "", None, None, None  # loading the file will say where the error is
    constants = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name) and isinstance(node.value.value, str)
    }
    summary = (ast.get_docstring(tree) or "").partition("\n")[0]
    return summary, constants.get("PARENT"), constants.get("EXTRA"), constants.get("BRANCH")
