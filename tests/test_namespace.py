"""Two variants whose folders hold modules of one name: each runs its own, in every kind of measurement."""

from __future__ import annotations

import importlib.util
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from mlpprof.catalog import find, find_all, load, module_of, reference_to, variant_code
from mlpprof.cli.main import run
from mlpprof.compare.entrants import FunctionSubject, VariantSubject
from mlpprof.compare.functions import FunctionReference
from mlpprof.compare.functions import reference_to as reference_to_function
from mlpprof.compare.worker import Session
from mlpprof.data.source import DataSource
from mlpprof.errors import EXIT_FAILED, EXIT_USAGE, CheckFailed, UsageError, VariantError
from mlpprof.model import Network
from mlpprof.profile import worker
from mlpprof.profile.request import Request
from mlpprof.testing import Measuring
from mlpprof.testing.gates import assert_no_copies, count
from mlpprof.testing.speedup import require_equivalent

pytestmark = pytest.mark.usefixtures("fresh_imports")

NETWORK = Network((20, 5, 3), rate=0.5, momentum=0.9)
WHO = "from pathlib import Path\n\nWHO = Path(__file__).parent.name\n"
LATE = ("    def loss(self):\n", "    def loss(self):\n        import layers\n        layers.note()\n")
STEP = "from layers import note\n\n\ndef step():\n    note()\n\n\n"
NOTING = "from pathlib import Path\n\n\ndef note():\n    Path(__file__).with_name('ran').touch()\n"

Folders = Callable[..., tuple[str, str]]


def quiet(what: str, share: float) -> None:
    pass


@pytest.fixture
def folders(tmp_path: Path, plain: str) -> Folders:
    """Writes v1/mine.py and v2/mine.py, right and alike, after their neighbours; gives both paths."""

    def write(
        first: dict[str, str], second: dict[str, str], *replacements: tuple[str, str], head: str = ""
    ) -> tuple[str, str]:
        text = head + plain
        for old, new in replacements:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        for folder, files in (("v1", first), ("v2", second)):
            for name, content in {**files, "mine.py": text}.items():
                (tmp_path / folder / name).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / folder / name).write_text(content, encoding="utf-8")
        return str(tmp_path / "v1" / "mine.py"), str(tmp_path / "v2" / "mine.py")

    return write


def modules_of(*paths: str) -> list[ModuleType]:
    """The modules of these variants, loaded one after the other."""
    return [module_of(load(find(path))) for path in paths]


def opened(*paths: str) -> Session:
    session = Session()
    for place, path in enumerate(paths):
        session.load(quiet, place, VariantSubject(Request(path, NETWORK, DataSource("tiny")), 30).to_json())
    return session


def loose(path: str, name: str) -> ModuleType:
    """A file loaded by its path, as tests do that have several of one name."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# Imports


def test_each_file_gets_the_modules_packages_and_submodules_beside_it(folders):
    files = {"layers.py": WHO, "parts/__init__.py": "from layers import WHO\n", "parts/deep.py": WHO, "bare/x.py": WHO}
    head = "import layers\nimport parts.deep\nfrom bare import x\nfrom parts import WHO\n"
    for module, folder in zip(modules_of(*folders(files, files, head=head)), ("v1", "v2"), strict=True):
        assert module.layers.WHO == module.WHO == folder
        for other in (module.parts.deep, module.x):
            assert Path(other.__file__).parts[-3] == folder


def test_a_folder_that_a_file_adds_to_the_path_is_its_own_too(folders):
    head = "import sys\nfrom pathlib import Path\nsys.path.append(str(Path(__file__).parent / 'src'))\nimport layers\n"
    before = sys.path.copy()
    modules = modules_of(*folders({"src/layers.py": WHO}, {"src/layers.py": WHO}, head=head))
    assert [Path(module.layers.__file__).parts[-3] for module in modules] == ["v1", "v2"]
    assert sys.path == before


def test_what_one_file_sets_in_a_neighbour_does_not_reach_another_file_of_the_folder(folders, tmp_path):
    one, _ = folders({"layers.py": "RATE = 1\n"}, {}, head="import layers\nlayers.RATE += 1\n")
    other = tmp_path / "v1" / "other.py"
    other.write_text(Path(one).read_text(encoding="utf-8"), encoding="utf-8")
    assert [module.layers.RATE for module in modules_of(one, str(other))] == [2, 2]


def test_a_file_does_not_find_what_lies_beside_another(folders):
    one, other = folders({"layers.py": WHO}, {}, head="import layers\n")
    load(find(one))
    with pytest.raises(VariantError, match="No module named 'layers'"):
        load(find(other))


@pytest.mark.parametrize("name", ["statistics", "queue", "sched"])
def test_a_neighbour_named_as_a_standard_module_is_imported_and_the_standard_one_stays(folders, name):
    standard = sys.modules.get(name)
    files = {f"{name}.py": WHO}
    modules = modules_of(*folders(files, files, head=f"import {name}\n"))
    assert [vars(module)[name].WHO for module in modules] == ["v1", "v2"]
    assert sys.modules.get(name) is standard
    assert statistics.mean([1, 3]) == 2


def test_late_imports_pickles_and_new_processes_find_the_file_s_own(folders):
    files = {"layers.py": WHO + "\n\nclass Dense:\n    pass\n\n\ndef who(_):\n    return WHO\n"}
    head = "import importlib\nimport pickle\nfrom multiprocessing import get_context\n\n"
    head += "def look():\n    import layers\n    dense = pickle.loads(pickle.dumps(layers.Dense()))\n"
    head += "    with get_context('spawn').Pool(1) as pool:\n        there = pool.map(layers.who, [0])\n"
    head += "    return [*there, layers.WHO, importlib.import_module('layers').WHO, type(dense) is layers.Dense]\n"
    entries = [find(path) for path in folders(files, files, head=head)]
    modules = [module_of(load(entry)) for entry in entries]
    for entry, module, folder in zip(entries, modules, ("v1", "v2"), strict=True):
        with variant_code(entry):
            assert module.look() == [folder, folder, folder, True]


def test_a_class_that_comes_from_a_neighbour_keeps_its_module(folders):
    one, other = folders({}, {})
    for path in (one, other):
        Path(path).rename(Path(path).with_name("layers.py"))
        Path(path).write_text("from layers import MLP\n", encoding="utf-8")
    modules = [module_of(load(find(f"{path}:MLP"))) for path in (one, other)]
    assert [Path(str(module.__file__)).parts[-2:] for module in modules] == [("v1", "layers.py"), ("v2", "layers.py")]


# Measurements


def test_a_race_runs_each_variant_s_own_modules_also_those_imported_within_a_step(folders, tmp_path):
    paths = folders({"layers.py": NOTING}, {"layers.py": NOTING}, LATE)
    opened(*paths).race(quiet, [0, 1], blocks=1, seed=0, turn_s=0.001)
    assert [(tmp_path / folder / "ran").exists() for folder in ("v1", "v2")] == [True, True]


def test_a_profile_of_several_variants_runs_each_one_s_own_modules(folders):
    late = (
        "    def loss(self):\n        return ",
        "    def loss(self):\n        import layers\n        return layers.RAISE + ",
    )
    paths = folders({"layers.py": "RAISE = 0\n"}, {"layers.py": "RAISE = 1000\n"}, late)
    session = opened(*paths)
    low, high = (session.profile(quiet, place, batch=30, steps=2)["losses"][0] for place in (0, 1))
    assert low < 100 < 900 < high  # not exactly: how many steps have warmed up each differs


def wrong_second(folders: Folders) -> tuple[str, str]:
    """Two variants, the second of which has a neighbour that makes its gradients wrong."""
    late = ("delta.sum(axis=0))", "layers.SIGN * delta.sum(axis=0))")
    return folders({"layers.py": "SIGN = 1\n"}, {"layers.py": "SIGN = 0\n"}, late, head="import layers\n")


def test_check_judges_each_variant_with_its_own_modules(folders):
    one, other = wrong_second(folders)
    assert worker.check(quiet, one, 2, 0)["ok"] is True
    checked = worker.check(quiet, other, 2, 0, called="v2/mine")
    assert (checked["variant"], checked["ok"]) == ("v2/mine", False)


def test_the_agreement_of_two_variants_is_that_of_their_own_modules(folders):
    late = ("delta.sum(axis=0))", "__import__('layers').SIGN * delta.sum(axis=0))")
    one, other = folders({"layers.py": "SIGN = 1\n"}, {"layers.py": "SIGN = 0\n"}, late)
    assert opened(one, other).agreement(quiet, 0, 1)["ok"] is False


def test_compare_names_the_one_of_two_alike_whose_modules_make_it_wrong(folders, capsys):
    assert run(["compare", *wrong_second(folders), "--workload", "tiny"]) == EXIT_FAILED
    assert "v2/mine: layer" in capsys.readouterr().err


def test_an_assertion_about_two_variants_runs_each_one_s_own_modules(folders):
    one, other = wrong_second(folders)
    with pytest.raises(CheckFailed, match="v2/mine: layer"):
        require_equivalent(other, over=one, workload="tiny", measuring=Measuring())


def test_a_gate_counts_each_variant_s_own_modules(folders):
    late = ("self.A = [X[index]]", "self.A = [layers.kept(X[index])]")
    kept = "def kept(x):\n    return x{}\n"
    one, other = folders(
        {"layers.py": kept.format("")}, {"layers.py": kept.format(".copy()")}, late, head="import layers\n"
    )
    assert len(count(other, workload="tiny")) == len(count(one, workload="tiny")) + 1
    with pytest.raises(AssertionError, match="3 copies of"):  # two gathers and the neighbour's
        assert_no_copies(other, phases=("fetch_batch",), workload="tiny")


def test_functions_of_files_loaded_by_path_are_raced_with_their_own_modules(folders, tmp_path, monkeypatch):
    files = {"layers.py": NOTING}
    subjects = []
    for path, name in zip(folders(files, files, head=STEP), ("one", "two"), strict=True):
        monkeypatch.syspath_prepend(Path(path).parent)
        reference = reference_to_function(loose(path, name).step)
        assert reference is not None
        subjects.append(FunctionSubject(name, reference).to_json())
    for name in ("one", "two", "layers"):
        monkeypatch.delitem(sys.modules, name)  # as in a fresh process
    session = Session()
    for place, subject in enumerate(subjects):
        session.load(quiet, place, subject)
        session.turn(quiet, place, runs=1)
    assert [(tmp_path / folder / "ran").exists() for folder in ("v1", "v2")] == [True, True]


def test_a_class_is_raced_from_its_own_file_though_another_module_has_taken_the_name(folders, monkeypatch):
    paths = folders({}, {})
    classes = [loose(path, "mine").MLP for path in paths]
    monkeypatch.delitem(sys.modules, "mine")
    monkeypatch.setitem(sys.modules, "mine", sys.modules[__name__])
    assert [reference_to(cls) for cls in classes] == [f"{path}:MLP" for path in paths]


def test_a_class_whose_file_cannot_be_known_is_refused(monkeypatch):
    cls = type("MLP", (), {"__module__": "gone"})
    with pytest.raises(UsageError, match="not in its module 'gone' any more.*give its path"):
        reference_to(cls)


# What cannot be separated


def test_a_neighbour_called_numpy_is_refused_in_one_sentence(folders, capsys):
    one, other = folders({}, {"numpy.py": ""})
    assert run(["compare", one, other, "--workload", "tiny"]) == EXIT_USAGE
    said = capsys.readouterr().err
    assert "beside mine.py is a module called 'numpy'" in said
    assert "Traceback" not in said


def test_an_installed_module_that_takes_a_neighbour_for_python_s_own_is_refused(folders):
    sys.modules.pop("sched", None)
    one, other = folders({"heapq.py": WHO}, {}, head="import sched\n")
    with pytest.raises(VariantError, match=r"'sched', which all variants share, has imported your heapq\.py instead"):
        load(find(one))
    assert module_of(load(find(other))).sched.heapq is sys.modules["heapq"]  # the other one is not affected


def test_a_function_whose_module_is_another_one_in_a_fresh_process_is_refused(tmp_path):
    reference = FunctionReference("textwrap", "dedent", None, (), str(tmp_path / "textwrap.py"))
    with pytest.raises(UsageError, match="the module 'textwrap' is .* here, but .* in a fresh process"):
        reference.resolve()


# Names


def test_files_of_one_name_are_called_by_as_many_folders_as_tell_them_apart(folders, tmp_path):
    one, other = folders({"a/mine.py": "", "b/x.py": ""}, {"a/mine.py": "", "a/cached.py": ""})
    inner = [str(tmp_path / folder / "a" / "mine.py") for folder in ("v1", "v2")]
    cached = str(tmp_path / "v2" / "a" / "cached.py")
    names = [entry.name for entry in find_all([one, other, *inner, one, "cached", cached])]
    assert names == ["v1/mine", "v2/mine", "v1/a/mine", "v2/a/mine", "v1/mine", "cached", "a/cached"]
    assert [entry.name for entry in find_all([one, "cached"])] == ["mine", "cached"]


def test_two_classes_of_one_file_are_called_by_their_names(folders):
    one, _ = folders({}, {})
    assert [entry.name for entry in find_all([f"{one}:Plain", f"{one}:Fast"])] == ["mine:Plain", "mine:Fast"]
