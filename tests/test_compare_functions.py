"""Which functions a fresh process can find again, and how."""

from __future__ import annotations

import os.path

import pytest

from mlpprof.compare.functions import FunctionReference, reference_to
from mlpprof.errors import UsageError


def by_path() -> int:
    return 3


def test_a_function_of_a_module_is_found_again():
    reference = reference_to(os.path.join)
    assert reference is not None
    again = FunctionReference.from_json(reference.to_json())
    assert again == reference
    assert again.resolve() is os.path.join


def test_a_function_of_a_test_file_is_found_again():
    reference = reference_to(by_path)
    assert reference is not None
    assert reference.resolve()() == 3


def test_closures_lambdas_and_bound_methods_have_no_reference():
    def closure() -> None: ...

    for function in (closure, lambda: None, [].append, len):
        assert reference_to(function) is None


def test_a_function_that_was_replaced_since_has_no_reference(monkeypatch):
    original = by_path
    monkeypatch.setitem(globals(), "by_path", lambda: 4)
    assert reference_to(original) is None


def test_a_name_that_is_gone_is_refused_with_its_path():
    with pytest.raises(UsageError, match=r"cannot import os\.path\.gone in a fresh process"):
        FunctionReference("os.path", "gone", None, ()).resolve()
