"""What a program's source says about its training step, where watching it has found none."""

from __future__ import annotations

import ast

from mlpprof.programs.find_step.candidates import candidates

SOURCE = """
def load(path):
    for line in open(path):
        yield line.split()


class Net:
    def forward(self, X):
        return self.W @ X

    def fit(self, X, Y):
        delta = self.forward(X) - Y
        return delta @ X.T


net = Net()
for epoch in range(3):
    net.fit(X, Y)
"""


def test_functions_that_multiply_and_are_named_like_training_come_first_then_loops_that_call_them():
    assert candidates({"/home/me/train.py": ast.parse(SOURCE)}) == ["Net.fit", "Net.forward", "train.py:17"]


def test_functions_of_several_files_are_named_with_their_file():
    files = {"/a/train.py": ast.parse("x = 3"), "/a/net.py": ast.parse(SOURCE)}
    assert candidates(files)[0] == "net.py:Net.fit"


def test_a_program_that_computes_nothing_has_no_candidates():
    assert candidates({"a.py": ast.parse("for i in range(3):\n    print(i)")}) == []
