"""The frameworks behind the interface of the variants. Each is checked if it is installed, else skipped."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys

import pytest

from mlpprof.catalog import ARGUMENTS, find, ladder
from mlpprof.profile.variant import check

PEERS = {
    "peers/torch": "torch",
    "peers/torch_compile": "torch",
    "peers/jax_step": "jax",
    "peers/jax_scan": "jax",
    "peers/tensorflow": "tensorflow",
    "peers/sklearn": "sklearn",
}
"""Each variant with the package that it needs."""
CASES = 4


def test_the_six_peers_are_in_the_catalog_with_their_extra_and_their_parent():
    known = ladder()
    assert {name for name, entry in known.items() if entry.extra == "peers"} == set(PEERS)
    assert {known[name].parent for name in PEERS} == {"sliced"}


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_explains_its_threads_and_its_source_and_has_the_interface(name):
    tree = ast.parse(find(name).source())
    docstring = ast.get_docstring(tree) or ""
    assert "Threads: " in docstring
    assert "Source: " in docstring
    assert next(node.name for node in tree.body if isinstance(node, ast.FunctionDef)) == "engine"
    cls = next(node for node in tree.body if isinstance(node, ast.ClassDef))
    methods = {node.name: [a.arg for a in node.args.args] for node in cls.body if isinstance(node, ast.FunctionDef)}
    for method, arguments in ARGUMENTS.items():
        assert methods[method] == ["self", *arguments]


@pytest.mark.slow
@pytest.mark.parametrize("name", PEERS)
def test_a_peer_is_correct_or_is_skipped_with_the_line_that_installs_its_framework(name):
    if name == "peers/torch_compile" and importlib.util.find_spec("torch") is not None:
        pytest.skip("it compiles for half a minute; mlpprof check peers/torch_compile checks it")
    (result,) = check([name], CASES, 0, lambda what, share: None)
    if importlib.util.find_spec(PEERS[name]) is None:
        assert result.ok is None
        assert result.skipped is not None
        assert "pip install 'mlpprof[peers]'" in result.skipped
    else:
        assert result.ok is True, result.message


def test_the_tool_s_own_process_imports_no_framework():
    program = (
        "import sys, mlpprof.cli.compare, mlpprof.cli.list, mlpprof.cli.check\n"
        "from mlpprof.catalog import ladder; ladder()\n"
        "sys.exit(str(sorted({'torch', 'jax', 'tensorflow', 'sklearn'} & set(sys.modules)) or ''))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""
