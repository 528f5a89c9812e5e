"""Which files belong to a program, and how they are imported."""

from __future__ import annotations

import ast
import importlib.util
from importlib.machinery import SourceFileLoader
from pathlib import Path

import numpy as np
import pytest

import mlpprof.model
from mlpprof.catalog import ladder_folder
from mlpprof.programs.load import load_through, own_files
from mlpprof.programs.record import hooks


def test_files_of_the_program_are_those_outside_of_installed_libraries(tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text("")
    is_own = own_files((), ())
    assert is_own(str(mine))
    assert is_own(str(next(ladder_folder().glob("naive.py"))))
    assert is_own(str(Path(mlpprof.model.__file__)))
    for library in (np.__file__, ast.__file__, pytest.__file__, hooks.__file__, str(tmp_path / "no.py"), "<string>"):
        assert not is_own(library)


def test_include_and_exclude_change_which_files_are_looked_at_and_exclude_is_the_stronger(tmp_path):
    mine, other = tmp_path / "mine.py", tmp_path / "test_other.py"
    for path in (mine, other):
        path.write_text("")
    assert not own_files((), ("test_*",))(str(other))
    assert own_files((), ("test_*",))(str(mine))
    assert not own_files((), (f"{tmp_path}/*",))(str(mine))
    assert own_files(("ast.py",), ())(ast.__file__)
    assert own_files(("*/numpy/*",), ())(np.__file__)
    assert not own_files(("mine.py",), ("mine.py",))(str(mine))


def test_modules_of_the_program_get_their_code_from_the_rewriting_also_by_path(tmp_path, monkeypatch):
    monkeypatch.setattr(SourceFileLoader, "get_code", SourceFileLoader.get_code)
    path = tmp_path / "changed.py"
    path.write_text("# -*- coding: latin-1 -*-\nname = 'é'\n", encoding="latin-1")
    seen = []

    def compiled(file, source):
        seen.append((file, source.splitlines()[-1]))
        return compile("name = 'other'", file, "exec")

    load_through(lambda file: file == str(path), compiled)
    spec = importlib.util.spec_from_file_location("changed", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.name == "other"
    assert seen == [(str(path), "name = 'é'")]


def test_modules_of_another_environment_are_installed_libraries_too(tmp_path):
    library = tmp_path / "lib" / "site-packages" / "package" / "net.py"
    own = tmp_path / "net.py"
    for path in (library, own):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    assert own_files((), ())(str(own))
    assert not own_files((), ())(str(library))
    assert own_files(("*/package/*",), ())(str(library))
