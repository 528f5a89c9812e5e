"""From what a user types to a variant's class, and what is said when that fails."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mlpprof.catalog import (
    ARGUMENTS,
    SHORTEST_FIX,
    class_name_in,
    find,
    interface_problems,
    ladder,
    ladder_folder,
    load,
    module_meant,
    module_name,
    module_of,
    third_party,
    variant_code,
)
from mlpprof.errors import EXIT_USAGE, MissingExtra, UnsupportedNetwork, UsageError, VariantCrash, VariantError
from mlpprof.model import Network

pytestmark = pytest.mark.usefixtures("fresh_imports")

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file into the test's folder."""

    def write(text: str, name: str = "mine.py") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Write) -> Callable[[str], None]:
    """Installs a distribution whose entry points are given, as pip would lay it out, for this test alone."""

    def install(entry_points: str) -> None:
        write("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1.0\n", "elsewhere-1.0.dist-info/METADATA")
        write(f"[mlpprof.variants]\n{entry_points}\n", "elsewhere-1.0.dist-info/entry_points.txt")
        monkeypatch.syspath_prepend(tmp_path)

    return install


def message_of(reference: object, kind: type[Exception] = VariantError) -> str:
    """What is said when this variant is found and loaded."""
    with pytest.raises(kind) as caught:
        load(find(str(reference)))
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    return str(caught.value)


# By name


def test_every_rung_is_found_by_its_name_and_loads():
    for name, entry in ladder().items():
        assert find(name) == entry
        assert entry.reference == name
        assert entry.own
        assert entry.path in ladder_folder().rglob(f"{name.rpartition('/')[2]}.py")
        if entry.extra is not None:
            continue  # what it needs may be missing
        cls = load(entry)
        assert cls.__name__ == "MLP"
        assert module_of(cls) is sys.modules[module_name(entry)]
        assert module_of(cls).__file__ == str(entry.path)


def test_the_summary_parent_and_source_are_read_without_running_the_file():
    loaded = {name for name in sys.modules if name.startswith("mlpprof_variant_cached")}
    for name in loaded:
        del sys.modules[name]
    entry = find("cached")
    assert (entry.name, entry.parent, entry.extra) == ("cached", "contiguous", None)
    assert entry.source().startswith(f'"""{entry.summary}\n')
    assert "mlpprof_variant_cached" not in sys.modules


def test_the_ladder_lists_parents_before_children():
    seen: set[str | None] = {None}
    for name, entry in ladder().items():
        assert entry.parent in seen
        seen.add(name)


def test_the_folder_beside_the_package_s_own_files_wins_over_the_one_of_the_checkout(tmp_path, monkeypatch):
    import mlpprof.catalog

    package = tmp_path / "site-packages" / "mlpprof"
    for folder in (package / "variants", package.parent / "variants"):
        folder.mkdir(parents=True)
        (folder / "naive.py").write_text("PARENT = None\n")
    monkeypatch.setattr(mlpprof.catalog, "__file__", str(package / "catalog.py"))
    assert ladder_folder() == package / "variants"
    (package / "variants" / "naive.py").unlink()
    assert ladder_folder() == package.parent / "variants"
    (package.parent / "variants" / "naive.py").unlink()
    with pytest.raises(VariantError, match=r"the variants folder is missing beside .*; reinstall mlpprof"):
        ladder_folder()


@pytest.mark.parametrize(("typed", "meant"), [("cachd", "cached"), ("slice", "sliced"), ("persample", "per_sample")])
def test_a_mistyped_name_is_answered_with_the_nearest(typed, meant):
    with pytest.raises(UsageError) as caught:
        find(typed)
    assert f"there is no variant '{typed}'; did you mean '{meant}'? (mlpprof list shows all" in str(caught.value)
    assert caught.value.exit_code == EXIT_USAGE


@pytest.mark.parametrize("typed", ["", "xyz", "mine", "./mine", "mine.py:", "variants/"])
def test_a_name_that_is_similar_to_nothing_is_repeated_with_what_a_file_needs(typed):
    with pytest.raises(UsageError) as caught:
        find(typed)
    assert f"there is no variant '{typed}' (mlpprof list shows all variants; the name of a file ends in .py)" in str(
        caught.value
    )


def test_a_notebook_is_answered_with_a_command_for_programs():
    with pytest.raises(UsageError, match=r"mlpprof advise 'my net\.ipynb'$"):
        find("my net.ipynb")


# By path


def test_a_file_is_found_by_its_path_and_its_class_is_loaded(write, plain):
    path = write(plain)
    entry = find(str(path))
    assert (entry.name, entry.class_name, entry.own, entry.parent) == ("mine", None, False, None)
    assert entry.summary == "My own MLP."
    assert load(entry).__name__ == "MLP"


def test_the_reference_of_a_file_is_absolute_so_that_a_worker_finds_it_from_anywhere(
    write, plain, tmp_path, monkeypatch
):
    write(plain)
    monkeypatch.chdir(tmp_path)
    assert find("./mine.py").reference == find("mine.py").reference == str(tmp_path / "mine.py")
    assert find("./mine.py:MLP").reference == f"{tmp_path / 'mine.py'}:MLP"
    assert find(find("mine.py:MLP").reference) == find("mine.py:MLP")


def test_a_class_in_a_file_is_found_by_its_name(write, plain):
    path = write(plain + "\n\nclass Faster(MLP):\n    pass\n")
    assert load(find(str(path))).__name__ == "MLP"
    assert load(find(f"{path}:Faster")).__name__ == "Faster"


def test_a_single_class_needs_no_special_name(write, plain):
    assert load(find(str(write(plain.replace("class MLP", "class Perceptron"))))).__name__ == "Perceptron"


def test_a_helper_class_without_train_step_is_not_taken_for_the_variant(write, plain):
    path = write(plain.replace("class MLP", "class Layer:\n    pass\n\n\nclass Perceptron"))
    assert load(find(str(path))).__name__ == "Perceptron"


def test_a_missing_file_is_named(tmp_path):
    for reference in ("nowhere.py", "nowhere.py:MLP", str(tmp_path / "no.py")):
        with pytest.raises(UsageError, match=r"there is no file '.*(nowhere|no)\.py'; expected a Python file"):
            find(reference)


def test_a_folder_called_like_a_file_is_refused(tmp_path):
    (tmp_path / "mine.py").mkdir()
    with pytest.raises(UsageError, match="there is no file"):
        find(str(tmp_path / "mine.py"))


def test_a_file_that_is_no_text_is_refused_in_one_line(tmp_path):
    path = tmp_path / "mine.py"
    path.write_bytes(b"\x89HDF\r\n\xff\xfe")
    assert f"cannot read the variant '{path}'" in message_of(path)


def test_PARENT_and_EXTRA_of_a_file_are_read_where_they_are_plain_text(write):
    entry = find(str(write('PARENT = "naive"\nEXTRA = "compiled"\n')))
    assert (entry.parent, entry.extra) == ("naive", "compiled")
    entry = find(str(write("PARENT = None\nEXTRA = 3\n")))
    assert (entry.parent, entry.extra) == (None, None)


def test_a_file_called_like_a_rung_does_not_take_the_rung_s_place(write, plain):
    mine, rung = find(str(write(plain, "naive.py"))), find("naive")
    my_class = load(mine)
    rung_class = load(rung)
    assert module_of(my_class).__file__ == str(mine.path)
    assert module_of(rung_class).__file__ == str(rung.path)
    assert module_name(mine) != module_name(rung)


def test_files_of_the_same_name_in_two_folders_are_two_modules(write, plain):
    one, two = find(str(write(plain, "one/mine.py"))), find(str(write(plain, "two/mine.py")))
    first, second = load(one), load(two)
    assert module_of(first).__file__ == str(one.path)
    assert module_of(second).__file__ == str(two.path)


def test_a_file_may_import_its_neighbours(write, plain):
    write("def loss_of_mine(network):\n    return None\n", "helper_of_mine.py")
    path = write("import helper_of_mine\n" + plain)
    assert load(find(str(path))).__name__ == "MLP"


def test_a_file_may_hold_dataclasses_and_look_itself_up(write, plain):
    text = "from __future__ import annotations\nfrom dataclasses import dataclass\nimport sys\n\n\n"
    text += "@dataclass\nclass Options:\n    rate: float = 0.1\n\n\nassert sys.modules[__name__].Options is Options\n"
    assert load(find(str(write(text + plain.split('"""', 2)[2])))).__name__ == "MLP"


# By entry point


def test_an_entry_point_is_found_by_its_name_and_loads_its_class(package, write, plain):
    write('"""Variants from elsewhere."""\n', "elsewhere/__init__.py")
    write(plain.replace("class MLP", "class Fast").replace("My own MLP.", "From elsewhere."), "elsewhere/fast.py")
    package("quick = elsewhere.fast:Fast")
    entry = find("quick")
    assert (entry.name, entry.class_name, entry.module, entry.own) == ("quick", "Fast", "elsewhere.fast", False)
    assert entry.summary == "From elsewhere."
    cls = load(entry)
    assert (cls.__name__, cls.__module__) == ("Fast", "elsewhere.fast")
    assert module_of(cls) is sys.modules["elsewhere.fast"]
    assert list(third_party()) == ["quick"]


def test_an_entry_point_that_names_a_module_alone_gives_its_single_class(package, write, plain):
    write(plain, "elsewhere_alone.py")
    package("quick = elsewhere_alone")
    assert load(find("quick")).__name__ == "MLP"


def test_the_names_of_entry_points_are_suggested_too(package, write, plain):
    write(plain, "elsewhere_near.py")
    package("blazing = elsewhere_near:MLP")
    with pytest.raises(UsageError, match="did you mean 'blazing'?"):
        find("blazin")


def test_a_rung_wins_over_an_entry_point_of_its_name(package, write, plain):
    write(plain, "elsewhere_naive.py")
    package("naive = elsewhere_naive:MLP")
    assert find("naive").own


@pytest.mark.parametrize(
    ("point", "said"),
    [
        ("quick = no_such_module_anywhere:MLP", "no module 'no_such_module_anywhere'"),
        ("quick = no_such_package.inside:MLP", "cannot be imported"),
    ],
)
def test_an_entry_point_to_nowhere_is_named(package, point, said):
    package(point)
    with pytest.raises(VariantError, match="entry point 'quick'") as caught:
        find("quick")
    assert said in str(caught.value)


def test_a_package_that_raises_when_it_is_imported_is_named(package, write):
    write("raise RuntimeError('no licence')\n", "elsewhere_broken/__init__.py")
    write("", "elsewhere_broken/inside.py")
    package("quick = elsewhere_broken.inside:MLP")
    with pytest.raises(VariantError, match=r"entry point 'quick'.*no licence"):
        find("quick")


def test_a_broken_entry_point_does_not_keep_rungs_and_files_from_being_found(package, write, plain):
    package("quick = no_such_package.inside:MLP")
    assert find("cached").name == "cached"
    assert find(str(write(plain))).name == "mine"


def test_a_class_that_an_entry_point_s_module_lacks_is_answered_with_the_nearest(package, write, plain):
    write(plain, "elsewhere_lacks.py")
    package("quick = elsewhere_lacks:MPL")
    assert "no class 'MPL' in elsewhere_lacks.py; did you mean 'MLP'?" in message_of("quick")


# What is wrong with a file


@pytest.mark.parametrize(
    ("classes", "step"), [("", "FUNCTION"), ("class Net:\n    def update(self): pass\n\n\n", "Net.METHOD")]
)
def test_a_program_is_not_run_but_answered_with_the_commands_for_a_program(write, classes, step, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = message_of(write(f"{classes}raise SystemExit('it ran')\n", "my folder/mine.py"))
    assert message.startswith("mine.py has no class with the interface of a variant, which has a method train_step")
    path = "'my folder/mine.py'"
    assert f": mlpprof profile {path} or mlpprof advise {path}, with --step {step}" in message


@pytest.mark.parametrize("base", ["", "(object)", "(Base)"])
@pytest.mark.parametrize(("method", "step"), [("update", "METHOD"), ("train_step", "train_step")])
def test_a_class_of_a_program_that_is_named_is_answered_with_the_commands_for_a_program(write, base, method, step):
    net = f"class Base:\n    pass\n\nclass Net{base}:\n    def {method}(self): pass\n\n"
    message = message_of(f"{write(net + 'raise SystemExit(1)')}:Net")
    assert message.startswith("class Net in mine.py is not a variant: it lacks fetch_batch, forward, loss and 5 other")
    assert f"mine.py, with --step Net.{step}" in message


def test_a_class_that_lacks_most_methods_after_its_decorator_is_not_described_at_length(write):
    path = write("def same(cls):\n    return cls\n\n\n@same\nclass Net:\n    pass\n")
    message = message_of(f"{path}:Net")
    assert message.startswith("class Net in mine.py is not a variant")


def test_a_program_is_not_run_for_a_class_that_it_does_not_have(write):
    path = write("class Net:\n    pass\n\n\nraise SystemExit('it ran')\n")
    message = message_of(f"{path}:Nett")
    assert message == "there is no class 'Nett' in mine.py; did you mean 'Net'? (it has: Net)"


@pytest.mark.parametrize("step", ["Net.fit", "train", "4"])
def test_a_step_in_place_of_a_class_is_answered_with_the_command_for_a_step(write, step):
    path = write("class Net:\n    def fit(self): pass\n\ndef train(): pass\n\nraise SystemExit('it ran')\n")
    message = message_of(f"{path}:{step}")
    assert message.startswith(f"{step} in mine.py is not a class.")
    assert message.endswith(f"mine.py --step {step}")


def test_a_class_that_a_function_makes_is_a_variant(write, plain):
    text = f"{plain}\n\ndef same(cls):\n    return type('Made', (cls,), {{}})\n\n\nMade = same(MLP)\n"
    assert load(find(f"{write(text)}:Made")).__name__ == "Made"


def test_two_candidate_classes_are_both_named(write, plain):
    text = plain.replace("class MLP", "class One") + "\n\nclass Two(One):\n    pass\n"
    message = message_of(write(text))
    assert "several classes in mine.py have the method train_step: One, Two" in message
    assert message.endswith("mine.py:One")


def test_a_class_that_is_only_imported_is_not_taken_for_the_file_s_own(write, plain):
    write(plain.replace("class MLP", "class Imported"), "helper_with_class.py")
    assert "it has no class" in message_of(write("from helper_with_class import Imported\n"))


def test_a_missing_class_is_answered_with_the_nearest(write, plain):
    message = message_of(f"{write(plain)}:MPL")
    assert message == "there is no class 'MPL' in mine.py; did you mean 'MLP'? (it has: MLP)"


def test_a_name_that_is_no_class_is_refused(write, plain):
    assert "no class 'PARENT'" in message_of(f"{write(plain + chr(10) + 'PARENT = None')}:PARENT")


@pytest.mark.parametrize("method", [name for name in ARGUMENTS if name != "__init__"])
def test_a_missing_method_is_named_with_its_signature_and_the_shortest_fix(write, plain, method):
    message = message_of(
        write(plain.replace(f"def {method}(", f"def {method}_renamed("))
        if method != "train_step"
        else f"{write(plain.replace('def train_step(', 'def step('))}:MLP"
    )
    assert message.startswith("class MLP in mine.py lacks parts of the interface of a variant: ")
    assert f"no method {method}({', '.join(('self', *ARGUMENTS[method]))})" in message
    assert SHORTEST_FIX.get(method, "") in message


def test_a_missing_constructor_is_named(write, plain):
    message = message_of(write(plain.replace("def __init__(", "def setup(")))
    assert "no method __init__(self, network, parameters)" in message


@pytest.mark.parametrize("method", list(ARGUMENTS))
def test_a_wrong_signature_is_shown_beside_the_right_one(write, plain, method):
    right = f"def {method}({', '.join(('self', *ARGUMENTS[method]))})"
    assert right in plain
    message = message_of(write(plain.replace(right, f"def {method}(self, something, entirely, different, here)")))
    wanted = f"{method}({', '.join(('self', *ARGUMENTS[method]))})"
    assert f"{method}(self, something, entirely, different, here) should be {wanted}" in message


@pytest.mark.parametrize(
    "declared",
    ["def forward(self, *, training)", "def forward(self, X)", "def forward()", "async def forward(self, X)"],
)
def test_arguments_that_the_harness_does_not_pass_are_refused(write, plain, declared):
    assert "forward(" in message_of(write(plain.replace("def forward(self)", declared)))


@pytest.mark.parametrize(
    "declared", ["def predict(self, samples)", "def predict(self, X, verbose=False)", "def predict(self, *X)"]
)
def test_other_names_and_further_arguments_with_defaults_are_welcome(write, plain, declared):
    assert load(find(str(write(plain.replace("def predict(self, X)", declared)))))


def test_a_missing_DTYPE_is_named_with_the_line_that_sets_it(write, plain):
    message = message_of(write(plain.replace("    DTYPE = np.float64\n", "")))
    assert "no DTYPE; add `DTYPE = np.float64` to the class" in message


def test_all_problems_are_shown_at_once():
    class Nothing:
        def update(self, rate):
            pass

    problems = interface_problems(Nothing)
    assert len(problems) == 1 + len(ARGUMENTS)
    assert sum(problem.startswith("no method") for problem in problems) == len(ARGUMENTS) - 1
    assert "update(self, rate) should be update(self)" in problems


def test_a_method_that_is_no_function_is_a_missing_method():
    class Odd:
        forward = 3

    assert "no method forward(self)" in interface_problems(Odd)


# What a file's own code raises


def test_a_syntax_error_is_shown_with_file_and_line(write, plain):
    path = write(plain.replace("return A\n", "return A)\n"))
    line = path.read_text().splitlines().index("        return A)") + 1
    assert message_of(path, VariantCrash) == f"mine.py:{line}: SyntaxError: unmatched ')'"


def test_a_syntax_error_in_a_neighbour_is_shown_with_the_neighbour_s_name(write, plain):
    write("ok = 1\nnot ok = 2\n", "helper_unparsable.py")
    message = message_of(write("import helper_unparsable\n" + plain), VariantCrash)
    assert message.startswith("helper_unparsable.py:2: SyntaxError")


def test_an_exception_at_import_is_shown_with_file_line_and_kind(write, plain):
    assert (
        message_of(write("\n\nLAYERS = 1 / 0  # before train_step\n"), VariantCrash)
        == "mine.py:3 in <module>: ZeroDivisionError: division by zero"
    )


def test_a_module_that_is_not_there_is_shown_with_the_line_that_imports_it(write, plain):
    message = message_of(write("import numpy\nimport no_such_library\n" + plain), VariantCrash)
    assert message == "mine.py:2 in <module>: No module named 'no_such_library'"


def test_a_name_that_a_module_lacks_is_shown_with_the_line_that_imports_it(write):
    assert message_of(write("from numpy import Arrray  # train_step\n"), VariantCrash).startswith(
        "mine.py:1 in <module>: ImportError: "
    )


def test_a_variant_whose_extra_is_missing_shows_the_line_that_installs_it(write, plain):
    path = write('EXTRA = "compiled"\nimport no_such_library\n' + plain)
    message = message_of(path, MissingExtra)
    assert message == "variant 'mine' needs no_such_library; install it with: pip install 'mlpprof[compiled]'"


def test_an_exception_in_forward_is_shown_with_the_innermost_line_of_the_file(write, plain):
    path = write(plain.replace("Z = self.A[l - 1] @ self.W[l].T", "Z = self.A[l - 1] @ self.W[l]"))
    entry = find(str(path))
    network = Network((3, 2))
    instance = load(entry)(network, network.initial_parameters(0))
    line = next(i for i, text in enumerate(plain.splitlines(), start=1) if "@ self.W[l].T" in text)
    with pytest.raises(VariantCrash) as caught, variant_code(entry):
        instance.train_step(np.ones((4, 3)), np.ones((4, 2)), np.arange(4))
    assert str(caught.value).startswith(f"mine.py:{line} in forward: ValueError: matmul")


def test_an_exception_inside_numpy_is_shown_with_the_line_of_the_file_that_called_it(write, plain):
    entry = find(str(write(plain.replace("return A\n", "return np.hstack([A, A[0]])\n"))))
    network = Network((3, 2))
    instance = load(entry)(network, network.initial_parameters(0))
    with pytest.raises(VariantCrash, match=r"^mine\.py:\d+ in predict: ValueError: "), variant_code(entry):
        instance.predict(np.ones((4, 3)))


def test_an_exception_without_a_line_in_the_file_is_shown_with_the_file(write, plain):
    entry = find(str(write(plain)))
    with pytest.raises(VariantCrash, match=r"^mine\.py: KeyError: 'x'$"), variant_code(entry):
        raise KeyError("x")


def test_a_message_of_many_lines_becomes_one(write, plain):
    entry = find(str(write(plain)))
    with pytest.raises(VariantCrash) as caught, variant_code(entry):
        raise ValueError("first\n  second\nthird")
    assert "\n" not in str(caught.value)
    assert "first" in str(caught.value)


def test_errors_of_mlpprof_pass_through_and_keep_their_kind(write, plain):
    entry = find(str(write(plain)))
    refused = UnsupportedNetwork("only one hidden layer")
    with pytest.raises(UnsupportedNetwork) as caught, variant_code(entry):
        raise refused
    assert caught.value is refused


def test_ctrl_c_is_not_taken_for_a_crash(write, plain):
    entry = find(str(write(plain)))
    with pytest.raises(KeyboardInterrupt), variant_code(entry):
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("nets", "-m nets"),
        ("nets/", "-m nets"),
        ("nets.train", "-m nets.train"),
        ("tools", "-m tools.check or -m tools.train"),
        ("data", None),
        ("nets.nothing", None),
        ("../nets", None),
    ],
)
def test_a_folder_that_python_runs_as_a_module_is_named_as_one(typed, meant, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for file in ("nets/__init__.py", "nets/__main__.py", "nets/train.py", "tools/__init__.py", "tools/train.py"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    (tmp_path / "tools" / "check.py").touch()
    (tmp_path / "data").mkdir()
    assert module_meant(typed) == meant
    with pytest.raises(UsageError, match="no variant" if meant is None else f"type {meant} in its place"):
        find(typed)


def test_the_class_of_a_file_is_known_without_running_it(tmp_path):
    file = tmp_path / "mine.py"
    step = "    def train_step(self):\n        pass\n\n\n"
    for text, name in (
        (f"class Net:\n{step}", "Net"),
        (f"class Net:\n{step}class MLP:\n{step}", "MLP"),
        ("1 +", "MLP"),
    ):
        file.write_text(f"{text}\nraise SystemExit", encoding="utf-8")
        assert class_name_in(find(str(file))) == name
    assert class_name_in(find(f"{file}:Other")) == "Other"
