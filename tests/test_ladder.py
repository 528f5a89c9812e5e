"""The variants are teaching files: one idea per rung, one skeleton, and one vocabulary of labels."""

from __future__ import annotations

import ast
import difflib

import pytest

from mlpprof.catalog import ARGUMENTS, CLASS_NAME, interface_problems, ladder, ladder_folder, load, typed_name
from mlpprof.instrument.clocks import labels_of, stray_labels
from mlpprof.model import PHASES

LADDER = {name: entry for name, entry in ladder().items() if entry.extra != "peers"}  # see test_variants_peers.py

RUNGS = ("per_sample", "naive", "float32", "no_input_delta", "contiguous", "cached", "sliced")
"""The rungs that share one skeleton, in their order."""

CHANGED_LINES = {"float32": 4, "no_input_delta": 12, "contiguous": 6, "cached": 14, "sliced": 32}
CHANGED_LINES_FURTHER_UP = {
    **{"tanh_sigmoid": 24, "chunked": 34, "fused_update": 64, "gram": 88, "delayed": 130},
    **{"processes": 150, "threaded": 150, "mpi": 70, "feature_shards": 222, "neuron_shards": 230},
    **{"compiled_processes": 190, "compiled_feature_shards": 235, "fused_neuron_shards": 70},
    **{"blocked_team": 100, "sparse_team": 75},
}
"""A rung may differ from its parent in so many lines, removed and added, without the docstring."""
CHANGED_LINES_OF_A_BRANCH = 60
CHANGES_THE_FORM_OF_EVERYTHING = {
    "per_sample",
    "naive",
    "dense_layers",
    "buffered",  # every result is written to another place
    "compiled",
    "blocked",  # all matrices lie in panels
}

IMPORTS = {
    "math",
    "numpy",
    "scipy",
    "mlpprof.model",
    "mlpprof.engines.in_place",
    "mlpprof.engines.team",
}
ENGINES = {
    "compiled": {
        f"mlpprof.engines.{name}"
        for name in (
            *("numba_passes", "panels", "blocked_passes", "nonzeros", "sparse_passes"),
            *("meeting", "pace", "blocked_team", "sparse_team"),
        )
    },
    "mpi": {"mlpprof.engines.mpi"},
}
"""A variant may also import what its extra installs."""
LABELS = {
    *("gather", "bias row", "weighted sum", "bias", "activation", "cost", "error", "derivative"),
    *("propagate", "multiply", "gradient", "regularize", "momentum", "descend"),
    "slope",  # of a finite difference
    "steps",  # the steps that `delayed` makes one by one
    "wait",  # of a worker for the others
    "all-reduce",  # of the ranks
    "exchange",  # of parts of a sum
}
PHASE_OF_LABEL = {
    "fetch_batch": {"gather"},
    "forward": {"bias row", "weighted sum", "bias", "activation"},
    "loss": {"cost"},
    "backward": {"bias row", "error", "derivative", "propagate", "multiply", "gradient", "regularize"},
    "update": {"momentum", "descend"},
}

each_variant = pytest.mark.parametrize("name", LADDER)
each_rung = pytest.mark.parametrize("name", RUNGS)


def code(name: str) -> list[str]:
    """The lines below the docstring."""
    source = LADDER[name].source()
    tree = ast.parse(source)
    return source.splitlines()[tree.body[0].end_lineno :]


def variant_class(name: str) -> ast.ClassDef:
    tree = ast.parse(LADDER[name].source())
    return next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == CLASS_NAME)


def methods(name: str) -> dict[str, ast.FunctionDef]:
    return {node.name: node for node in variant_class(name).body if isinstance(node, ast.FunctionDef)}


def test_the_ladder_holds_the_rungs_in_the_order_in_which_they_are_climbed():
    assert [name for name in LADDER if name in RUNGS] == list(RUNGS)
    assert [LADDER[name].parent for name in RUNGS[1:]] == list(RUNGS[:-1])


def test_every_file_in_the_folder_is_on_the_ladder_and_has_a_parent_that_exists():
    files = {typed_name(p.relative_to(ladder_folder())) for p in ladder_folder().rglob("*.py")}
    assert files == set(ladder())
    for name, entry in ladder().items():
        assert entry.parent in {None, *LADDER}, name


@pytest.mark.parametrize("name", [n for n, e in LADDER.items() if e.parent and n not in CHANGES_THE_FORM_OF_EVERYTHING])
def test_a_variant_differs_from_its_parent_by_few_lines(name):
    parent = LADDER[name].parent
    assert parent is not None
    difference = difflib.unified_diff(code(parent), code(name), n=0, lineterm="")
    changed = [line for line in difference if line[0] in "+-" and not line.startswith(("---", "+++"))]
    most = (CHANGED_LINES | CHANGED_LINES_FURTHER_UP).get(name, CHANGED_LINES_OF_A_BRANCH)
    assert len(changed) <= most, "\n".join(changed)


def test_every_rung_has_a_cap_of_its_own_on_what_it_changes():
    assert set(RUNGS) - CHANGES_THE_FORM_OF_EVERYTHING == set(CHANGED_LINES)


@each_variant
def test_a_file_imports_only_numpy_scipy_and_the_model_and_no_private_name(name):
    for node in ast.walk(ast.parse(LADDER[name].source())):
        if isinstance(node, ast.Import):
            imported = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported = [node.module or ""]
            assert not [alias.name for alias in node.names if alias.name.startswith("_")]
        else:
            continue
        for module in imported:
            allowed = IMPORTS | ENGINES.get(LADDER[name].extra or "", set())
            assert module in allowed or module.split(".")[0] in allowed, f"{name} imports {module}"


@each_variant
def test_a_file_is_a_docstring_imports_constants_functions_and_classes_of_which_the_last_is_MLP(name):
    docstring, *rest = ast.parse(LADDER[name].source()).body
    assert isinstance(docstring, ast.Expr)
    assert isinstance(docstring.value, ast.Constant)
    assert [node.name for node in rest if isinstance(node, ast.ClassDef)][-1] == CLASS_NAME
    assigned = [ast.unparse(target) for node in rest if isinstance(node, ast.Assign) for target in node.targets]
    assert assigned[0] == "PARENT"
    assert all(constant.isupper() for constant in assigned)
    kinds = ast.Import | ast.ImportFrom | ast.Assign | ast.FunctionDef | ast.ClassDef
    assert all(isinstance(node, kinds) for node in rest)


@each_variant
def test_the_docstring_begins_with_a_line_that_fits_the_list_and_names_the_source(name):
    docstring = ast.get_docstring(ast.parse(LADDER[name].source())) or ""
    first, blank, *more = docstring.splitlines()
    assert first.endswith(".")
    assert len(first) <= 80
    assert blank == ""
    assert any(line.startswith("Source:") for line in more)
    assert LADDER[name].summary == first


@each_variant
def test_the_docstring_explains_the_idea_and_what_changes_against_the_parent(name):
    lines = (ast.get_docstring(ast.parse(LADDER[name].source())) or "").splitlines()
    assert any(line.startswith(("Idea:", "Why it is slow:")) for line in lines)
    parent = LADDER[name].parent
    assert parent is None or any(line.startswith(f"What changes against `{parent}`:") for line in lines)


@each_variant
def test_the_class_has_the_interface(name):
    assert interface_problems(load(LADDER[name])) == []


@each_rung
def test_the_methods_of_a_rung_take_the_arguments_by_their_names(name):
    for method, arguments in ARGUMENTS.items():
        declared = tuple(argument.arg for argument in methods(name)[method].args.args)
        assert declared == ("self", *arguments)


@each_variant
def test_every_label_is_on_a_statement_and_in_the_vocabulary(name):
    source = LADDER[name].source()
    assert stray_labels(source) == []
    assert set(labels_of(source).values()) <= LABELS


@each_rung
def test_every_label_of_a_rung_is_in_its_phase_and_every_phase_has_one(name):
    labels = labels_of(LADDER[name].source())
    inside = {
        phase: {labels[line] for line in labels if method.lineno <= line <= (method.end_lineno or 0)}
        for phase, method in methods(name).items()
    }
    for phase in PHASES:
        assert inside[phase], f"{name}.{phase} has no label"
        assert inside[phase] <= PHASE_OF_LABEL[phase]
    assert sum(len(inside[phase]) for phase in PHASES) >= len(set(labels.values()))
    for method in set(inside) - set(PHASES):
        assert inside[method] == set(), f"{name}.{method} is no phase but has labels"


@each_rung
def test_every_matrix_product_in_a_phase_of_a_rung_is_labelled(name):
    labelled = labels_of(LADDER[name].source())
    for phase in PHASES:
        for node in ast.walk(methods(name)[phase]):
            if isinstance(node, ast.Assign | ast.AugAssign) and node.end_lineno not in labelled:
                assert "@" not in ast.unparse(node), f"{name}:{node.lineno}: {ast.unparse(node)}"


@each_rung
def test_the_train_step_of_a_rung_is_the_five_phases_in_order(name):
    body = "\n".join(ast.unparse(statement) for statement in methods(name)["train_step"].body)
    assert body.splitlines() == [
        "self.fetch_batch(X, Y, index)",
        "self.forward()",
        "loss = self.loss()",
        "self.backward()",
        "self.update()",
        "return loss",
    ]


@each_rung
def test_all_rungs_share_one_order_of_methods(name):
    shared = [method for method in methods(name) if method in methods("naive")]
    assert shared == list(methods("naive"))


def test_per_sample_says_that_the_defect_of_its_source_is_not_copied():
    assert "added twice" in LADDER["per_sample"].source()
    assert "not copied" in LADDER["per_sample"].source()
