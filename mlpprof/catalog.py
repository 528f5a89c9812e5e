"""From a name, a path or an entry point to a variant: its class, its file, its parent.

The catalog's own variants are plain files, loaded by path and never imported as a package, so that they work from a
checkout, an editable install and the wheel alike. What a list of them needs (parent, summary) is read from the source
without running it.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, cast
from weakref import WeakKeyDictionary

from mlpprof.errors import MissingExtra, MlpprofError, UsageError, VariantCrash, VariantError, did_you_mean
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
"""The methods of the interface and what the harness passes to each, by position."""

SHORTEST_FIX = {
    "fetch_batch": "self.X, self.Y = X[index], Y[index]",
    "loss": "return the mean loss of the batch, without the penalty",
    "train_step": "self.fetch_batch(X, Y, index); self.forward(); loss = self.loss(); self.backward(); "
    "self.update(); return loss",
    "parameters": "return [(W, b) for every layer], W (n_l, n_{l-1}) and b (n_l,)",
    "gradients": "return [(dW, db) for every layer], shaped as the parameters",
    "predict": "return the output activations (N, n_L) for X (N, n_0)",
}
"""What to write into a method that is missing."""


@dataclass(frozen=True)
class Entry:
    """A variant as far as it is known without running its code.

    reference: what the user may type to get it. module: the dotted name, for those that come from a package.
    extra: the optional dependencies it needs, as the file's constant EXTRA names them. branch: what kind of branch it
    belongs to, as its constant BRANCH says; None for what may be a rung of the main line.
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
        """The file's text. Raises VariantError if it cannot be read."""
        try:
            return self.path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise VariantError(f"cannot read the variant '{self.path}': {error}") from error


def typed_name(path: Path) -> str:
    """The name of a variant on the command line: only `peers/` is typed with its folder."""
    return path.with_suffix("").as_posix() if path.parts[0] == "peers" else path.stem


def ladder_folder() -> Path:
    """The folder of the catalog's own variants: inside the package in the wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    for folder in (package / "variants", package.parent / "variants"):
        if (folder / "naive.py").is_file():
            return folder
    raise VariantError(f"the variants folder is missing beside {package}; reinstall mlpprof")


def ladder() -> dict[str, Entry]:
    """The catalog's own variants by name, each after its parent, branches below the rung they leave."""
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
    """Variants that installed packages offer through the entry-point group `mlpprof.variants`."""
    found = {}
    for point in entry_points(group=ENTRY_POINT_GROUP):
        try:
            spec = importlib.util.find_spec(point.module)
        except Exception as error:  # find_spec runs the __init__ of the packages above the module
            raise VariantError(
                f"entry point '{point.name}' = '{point.value}' cannot be imported: {_one_line(error)}"
            ) from error
        if spec is None or spec.origin is None:
            raise VariantError(f"entry point '{point.name}' = '{point.value}': no module '{point.module}'")
        entry = _read_entry(point.name, point.name, Path(spec.origin), point.attr or None, module=point.module)
        found[point.name] = entry
    return found


def find(reference: str) -> Entry:
    """The variant that a user means by a name, a path `./mine.py`, or a class in a file `./mine.py:Class`.

    Raises UsageError for a name that nothing has, VariantError for a file that cannot be read or parsed.
    """
    file, _, class_name = reference.partition(".py:")
    if class_name or reference.endswith(".py"):
        path = Path(f"{file}.py" if class_name else reference)
        if not path.is_file():
            raise UsageError(f"no variant file '{path}'; expected a Python file with a class that has the interface")
        full = str(path.resolve()) + (f":{class_name}" if class_name else "")
        return _read_entry(path.stem, full, path.resolve(), class_name or None)
    known = ladder()
    if reference in known:
        return known[reference]
    others = third_party()
    if reference in others:
        return others[reference]
    hint = did_you_mean(reference, [*known, *others])
    raise UsageError(f"no variant '{reference}'{hint} (mlpprof list shows all; a file of yours needs its .py)")


def find_all(references: Iterable[str]) -> list[Entry]:
    """The variants of several references, under names that differ: v1/mine and v2/mine, mine:Plain and mine:Fast.

    Raises as `find` does.
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
    """What `find` needs for a class of a user's module: its file and name.

    Raises UsageError for a class that no other process can load: one of a function, or of a module that is gone.
    """
    if "<locals>" in cls.__qualname__:
        raise UsageError(f"class {cls.__qualname__} is local to a function; define it in its module, or give its path")
    found: Any = sys.modules.get(cls.__module__)
    for name in cls.__qualname__.split("."):
        found = getattr(found, name, None)
    if found is cls:
        return f"{inspect.getfile(cls)}:{cls.__qualname__}"
    # Another file stands for the module by now; where the class comes from is what its methods know.
    methods = [inspect.unwrap(value) for value in vars(cls).values() if inspect.isfunction(value)]
    files = {method.__code__.co_filename for method in methods}
    if len(files) == 1 and (file := Path(files.pop())).is_file():
        return f"{file}:{cls.__qualname__}"
    raise UsageError(
        f"class {cls.__qualname__} is not in its module '{cls.__module__}' any more, so a worker process cannot load "
        f"it; give its path instead, such as 'folder/mine.py:{cls.__qualname__}'"
    )


def load(entry: Entry) -> type[Variant]:
    """Run the variant's file and return its class, after a check of the interface.

    What a user's file imports from beside it is its own: see `mlpprof.namespace`.

    Raises MissingExtra, VariantError (class or method missing, wrong signature) or VariantCrash (its own exception).
    """
    if entry.module is not None:
        with variant_code(entry):
            return class_in(importlib.import_module(entry.module), entry)
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
"""Of the user's files that have been loaded, by reference."""
_modules: WeakKeyDictionary[type, ModuleType] = WeakKeyDictionary()
"""Of the classes that have been loaded from files."""


def own_modules(entry: Entry) -> AbstractContextManager[None]:
    """Around code of a loaded variant: what it imports is what lies beside its own file."""
    namespace = _namespaces.get(entry.reference)
    return nullcontext() if namespace is None else namespace.running()


def module_name(entry: Entry) -> str:
    """The name under which a variant's file stands in sys.modules: its own, also if another file is called alike."""
    if entry.module is not None:
        return entry.module
    name = entry.name if entry.own else f"{entry.name}_{zlib.crc32(str(entry.path).encode()):08x}"
    return "mlpprof_variant_" + "".join(c if c.isalnum() else "_" for c in name)


def module_of(cls: type[Variant]) -> ModuleType:
    """The module that a loaded variant class was defined in."""
    return _modules.get(cls) or sys.modules[cls.__module__]


def class_in(module: ModuleType, entry: Entry) -> type[Variant]:
    """The variant class of a loaded module; raises VariantError with the shortest fix if there is none."""
    own = {n: c for n, c in vars(module).items() if inspect.isclass(c) and c.__module__ == module.__name__}
    if entry.class_name is not None:
        wanted: Any = own.get(entry.class_name) or getattr(module, entry.class_name, None)
        if not inspect.isclass(wanted):
            raise VariantError(
                f"no class '{entry.class_name}' in {entry.path.name}{did_you_mean(entry.class_name, own)} "
                f"(classes there: {', '.join(own) or 'none'})"
            )
    else:
        candidates = [c for c in own.values() if hasattr(c, "train_step")]
        wanted = own.get(CLASS_NAME) or (candidates[0] if len(candidates) == 1 else None)
        if wanted is None:
            what = "several classes have" if candidates else "no class has"
            raise VariantError(
                f"{entry.path.name}: {what} a train_step (classes there: {', '.join(own) or 'none'}); name the class "
                f"MLP or say which: {entry.path.name}:ClassName"
            )
    problems = interface_problems(wanted)
    if problems:
        raise VariantError(f"{entry.path.name}: class {wanted.__name__} lacks the interface: {'; '.join(problems)}")
    return cast(type[Variant], wanted)


def interface_problems(cls: type) -> list[str]:
    """What keeps a class from being a variant, each with the shortest fix; empty if nothing does."""
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
            continue  # a compiled method need not tell its signature
        try:
            signature.bind(None, *arguments)
        except TypeError:
            problems.append(f"{name}{signature} should be {wanted}")
    return problems


@contextmanager
def variant_code(entry: Entry) -> Iterator[None]:
    """Around code of the variant: its exceptions become VariantCrash with the file and line in the variant.

    A missing third-party module of one of the catalog's own variants becomes MissingExtra. What is imported is found
    as the file itself would find it: see `own_modules`.
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
        except Exception as error:  # a variant is a user's code, and may raise anything
            if type(error).__name__ == UnsupportedNetwork.__name__:  # of a file that stands alone, and so has its own
                raise UnsupportedNetwork(_one_line(error)) from error
            raise VariantCrash(f"{_place(entry, error)}: {type(error).__name__}: {_one_line(error)}") from error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _place(entry: Entry, error: BaseException) -> str:
    """The innermost line of the variant's file in a traceback: 'mine.py:41 in backward'."""
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
    """Read docstring, PARENT, EXTRA and BRANCH from the source; a file that does not parse has none of them."""
    entry = Entry(name, reference, path, class_name, None, "", module=module, own=own)
    try:
        tree = ast.parse(entry.source())
    except (SyntaxError, ValueError):
        return entry  # loading it will say where the error is
    constants = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name) and isinstance(node.value.value, str)
    }
    summary = (ast.get_docstring(tree) or "").partition("\n")[0]
    parent, extra, branch = (constants.get(name) for name in ("PARENT", "EXTRA", "BRANCH"))
    return replace(entry, parent=parent, summary=summary, extra=extra, branch=branch)
