"""Whether a variant computes what it should: the verdict, its message, and what is compared with what."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlpprof.catalog import Entry, find, ladder, load
from mlpprof.errors import VariantCrash
from mlpprof.model import Network
from mlpprof.model.gradcheck import Case, random_case
from mlpprof.profile.check import QUICK_CASES, check_variant, load_pair, parent_of

pytestmark = pytest.mark.usefixtures("fresh_imports")


def quiet(what: str, share: float) -> None:
    pass


@pytest.fixture
def mine(tmp_path: Path, plain: str) -> Any:
    """The entry of a user's file, made of the right one with pieces replaced."""

    def mine(*replacements: tuple[str, str]) -> Entry:
        text = plain
        for old, new in replacements:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        path = tmp_path / "mine.py"
        path.write_text(text, encoding="utf-8")
        return find(str(path))

    return mine


def checked(entry: Entry, cases: int = QUICK_CASES, seed: int = 0, own_case: Case | None = None) -> Any:
    cls, parent = load_pair(entry, ladder())
    return check_variant(entry, cls, parent, cases, seed, quiet, own_case)


@pytest.mark.parametrize("name", ["per_sample", "naive", "float32", "no_input_delta", "contiguous", "cached", "sliced"])
def test_every_rung_is_right_by_the_quick_check(name):
    result = checked(find(name))
    assert result.ok is True
    assert result.variant == name
    assert 0 <= result.deviation < result.tolerance
    assert result.what.endswith(f", {QUICK_CASES} networks")
    assert result.message == ""


@pytest.mark.parametrize("seed", range(5))
def test_a_user_s_right_variant_is_right_for_every_seed(mine, seed):
    assert checked(mine(), 12, seed).ok is True


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("delta.sum(axis=0))", "0 * delta.sum(axis=0))", "gradients against the parent"),
        ("(self.A[-1] - self.Y) / len(self.Y)", "(self.A[-1] - self.Y)", "gradients against the parent"),
        ("n.l1 * np.sign(self.W[l]) + ", "", "gradients against the parent"),
        (" + n.l2 * self.W[l]", "", "gradients against the parent"),
        ("self.W[l] -= self.network.rate", "self.W[l] += self.network.rate", "parameters after 20 steps"),
        ("self.network.momentum * v + g", "self.network.momentum * (v + g)", "parameters after 20 steps"),
        ("self.network.momentum * v + g", "v + self.network.momentum * g", "parameters after 20 steps"),
        ("self.f[l].value((A @ self.W[l].T + self.b[l]).T).T", "self.f[l].value((A @ self.W[l].T).T).T", "predict"),
        ("return loss_of(self.network)(", "return 2 * loss_of(self.network)(", "loss"),
        (
            "[W.copy() for W, _ in parameters]",
            "[W for W, _ in parameters]",
            "X, Y or parameters, overwritten in place,",
        ),
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_defect_in_a_user_s_variant_is_found_by_the_quick_check_whatever_the_seed(mine, old, new, what, seed):
    result = checked(mine((old, new)), seed=seed)
    assert result.ok is False
    assert result.what.startswith((what, "losses over 20 steps"))
    assert not result.deviation <= result.tolerance


def test_the_message_shows_variant_layer_size_tolerance_and_network_in_one_line(mine):
    result = checked(mine(("delta.sum(axis=0))", "0 * delta.sum(axis=0))")))
    assert result.message.startswith(
        f"mine: layer {result.layer}: {result.what} deviate by {result.deviation:.1e}, at most "
    )
    assert "batch" in result.message
    assert "\n" not in result.message


def test_a_figure_of_the_whole_network_has_no_layer(mine):
    result = checked(mine(("return loss_of(self.network)(", "return 2 * loss_of(self.network)(")))
    assert result.layer is None
    assert "layer" not in result.message


def test_the_check_stops_at_the_first_network_that_fails(mine):
    shown: list[float] = []
    entry = mine(("delta.sum(axis=0))", "0 * delta.sum(axis=0))"))
    cls, parent = load_pair(entry, ladder())
    check_variant(entry, cls, parent, 100, 0, lambda what, share: shown.append(share))
    assert shown == [0.0]


def test_progress_names_the_variant_and_rises(mine):
    shown: list[tuple[str, float]] = []
    entry = mine()
    cls, parent = load_pair(entry, ladder())
    check_variant(entry, cls, parent, 4, 0, lambda what, share: shown.append((what, share)))
    assert shown == [("checking mine", i / 4) for i in range(4)]


def refusing(condition: str) -> tuple[str, str]:
    line = "self.L = network.depth"
    return line, (
        f"{line}\n        if {condition}:\n            from mlpprof.model import UnsupportedNetwork\n"
        "            raise UnsupportedNetwork(f'it does no {network.text}')"
    )


def test_a_variant_that_does_none_of_the_networks_is_skipped_with_its_own_reason(mine):
    result = checked(mine(refusing("True")))
    assert result.ok is None
    assert result.skipped.startswith(f"it does none of the {12 * QUICK_CASES} networks tried: it does no ")


def test_a_variant_that_does_some_of_the_networks_is_held_to_as_many(mine):
    result = checked(mine(refusing("network.depth > 2")), 12)
    assert result.ok is True
    assert result.what.endswith(", 12 networks")


IS_OTHER = '(network.hidden, network.output, network.loss) != ("sigmoid", "sigmoid", "cross_entropy")'
OF_ONE_KIND = (
    "self.network = network",
    "from dataclasses import replace\n        self.network = network = replace("
    'network, hidden="sigmoid", output="sigmoid", loss="cross_entropy")',
)


def test_momentum_ignored_by_a_variant_that_does_one_kind_of_network_is_found_by_the_quick_check(mine):
    forgets = ("self.network.momentum * v + g", "g")
    assert checked(mine(refusing(IS_OTHER))).ok is True
    result = checked(mine(refusing(IS_OTHER), forgets))
    assert result.ok is False
    assert "over 20 steps" in result.what or "after 20 steps" in result.what
    assert "momentum 0.9" in result.message


def test_a_class_of_one_kind_of_network_that_refuses_no_other_is_shown_which_it_does_right_and_what_to_raise(mine):
    result = checked(mine(OF_ONE_KIND))
    assert result.ok is False
    assert "The class is right for sigmoid/sigmoid with cross_entropy; for " in result.message
    assert "other kinds of network it computes the loss or gradients of another network" in result.message
    assert "raise UnsupportedNetwork for the networks that your class does not support" in result.message
    assert "from mlpprof.model import UnsupportedNetwork" in result.message


def test_a_class_that_crashes_on_other_kinds_of_network_is_shown_what_to_raise_and_where_it_crashed(mine):
    line = "self.L = network.depth"
    result = checked(mine((line, f"{line}\n        assert network.loss == 'cross_entropy'")))
    assert result.ok is False
    assert result.message.startswith("mine: mine.py:")
    assert "in __init__: AssertionError" in result.message
    assert "raise UnsupportedNetwork" in result.message


def test_a_defect_in_every_kind_of_network_is_not_taken_for_another_network(mine):
    result = checked(mine(("self.W[l] -= self.network.rate", "self.W[l] += self.network.rate")))
    assert "UnsupportedNetwork" not in result.message


def test_an_exception_of_the_variant_is_its_crash_with_file_and_line(mine, plain):
    entry = mine(("delta = (self.A[-1] - self.Y) / len(self.Y)", "delta = self.A[-1] - self.nothing"))
    line = next(i for i, text in enumerate(plain.splitlines(), start=1) if "delta = (self.A[-1]" in text)
    with pytest.raises(VariantCrash, match=rf"^mine\.py:{line} in backward: AttributeError: .*'nothing'"):
        checked(entry)


# The user's own network and data


def own_case() -> Case:
    return random_case(Network((7, 5, 3), hidden="tanh"), 6, seed=0)


def test_the_network_to_be_measured_is_compared_too(mine):
    result = checked(mine(), own_case=own_case())
    assert result.ok is True
    assert result.what.endswith(f"{QUICK_CASES + 1} networks")


def test_a_defect_that_shows_on_the_network_to_be_measured_alone_is_found(mine):
    entry = mine(("delta.sum(axis=0))", "delta.sum(axis=0) * (self.network.layers[0] != 7))"))
    assert checked(entry).ok is True
    result = checked(entry, own_case=own_case())
    assert result.ok is False
    assert result.what == "gradients against the parent"
    assert "7-5-3 tanh/sigmoid" in result.message


def test_a_class_that_is_right_on_the_network_to_be_measured_passes_with_a_note_about_the_others(mine):
    own = random_case(Network((7, 5, 3), momentum=0.9), 6, seed=0)
    result = checked(mine(OF_ONE_KIND), own_case=own)
    assert result.ok is True
    assert result.message.startswith("mine is right on the network of this run, but not on every other: ")
    assert "The class is right for sigmoid/sigmoid with cross_entropy; for " in result.message
    assert "raise UnsupportedNetwork" in result.message


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("return loss_of(self.network)(", "return 2 * loss_of(self.network)(", "loss"),
        ("self.network.momentum * v + g", "g", "parameters after 3 steps"),
        ("self.W[l] -= self.network.rate", "self.W[l] -= 2 * self.network.rate", "parameters after 3 steps"),
        ("self.f[l].value((A @ self.W[l].T + self.b[l]).T).T", "self.f[l].value((A @ self.W[l].T).T).T", "predict"),
        ("[W.copy() for W, _ in parameters]", "[W for W, _ in parameters]", "X, Y or parameters, overwritten"),
    ],
)
def test_a_defect_on_the_network_to_be_measured_fails_whatever_the_class_does_elsewhere(mine, old, new, what):
    own = random_case(Network((7, 5, 3), momentum=0.9), 6, seed=0)
    result = checked(mine(OF_ONE_KIND, (old, new)), own_case=own)
    assert result.ok is False
    assert result.what.startswith((what, "losses over 3 steps"))


def test_a_rung_of_the_catalog_must_be_right_on_other_networks_too(mine):
    entry = replace(mine(OF_ONE_KIND), own=True)
    cls, parent = load_pair(mine(OF_ONE_KIND), ladder())
    own = random_case(Network((7, 5, 3)), 6, seed=0)
    assert check_variant(entry, cls, parent, QUICK_CASES, 0, quiet, own).ok is False


def test_a_network_that_cannot_be_done_is_left_to_the_constructor_to_refuse(mine):
    result = checked(mine(refusing("network.layers[0] == 7")), own_case=own_case())
    assert result.ok is True
    assert result.what.endswith(f"{QUICK_CASES} networks")


def test_the_root_of_the_ladder_has_nobody_to_be_compared_with_on_the_own_network(rungs):
    root = next(entry for entry in ladder().values() if entry.parent is None)
    result = check_variant(root, load(root), None, 2, 0, quiet, own_case())
    assert result.ok is True
    assert result.what.endswith("2 networks")


# What is compared with what


def test_a_rung_is_compared_with_its_parent_and_the_root_with_nobody():
    known = ladder()
    for name, entry in known.items():
        parent = parent_of(entry, known)
        assert (None if parent is None else parent.name) == entry.parent, name


def test_a_user_s_file_is_compared_with_its_PARENT_or_else_with_naive(mine):
    known = ladder()
    entry = mine()
    assert parent_of(entry, known) == known["naive"]
    assert parent_of(replace(entry, parent="cached"), known) == known["cached"]
    assert parent_of(replace(entry, parent="of my own"), known) == known["naive"]


def test_load_pair_gives_both_classes(mine):
    cls, parent = load_pair(mine(), ladder())
    assert cls.__module__ != parent.__module__
    network = Network((2, 2))
    assert np.array_equal(
        cls(network, network.initial_parameters(0)).predict(np.ones((1, 2))),
        parent(network, network.initial_parameters(0)).predict(np.ones((1, 2))),
    )
