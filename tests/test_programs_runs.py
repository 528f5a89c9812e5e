"""What a user reads if the program ends before it trains: its own words, and what it needs."""

from __future__ import annotations

import pytest

from mlpprof.advise import Subject, find
from mlpprof.errors import ProgramEnded

OPTIONS = """
import argparse

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=3)
parser.parse_args()
"""


@pytest.mark.parametrize(
    ("arguments", "ending", "printed"),
    [
        (
            ("--nosuch", "3"),
            "options.py:6 ended the program with exit code 2",
            "error: unrecognized arguments: --nosuch 3",
        ),
        (("--help",), "options.py:6 ended the program with exit code 0", "  --epochs EPOCHS"),
    ],
)
def test_the_message_of_argparse_is_shown_with_its_exit_code(tmp_path, arguments, ending, printed):
    (tmp_path / "options.py").write_text(OPTIONS)
    with pytest.raises(ProgramEnded) as caught:
        find(Subject(tmp_path / "options.py", arguments=arguments))
    first, *shown, last = str(caught.value).splitlines()
    assert first.startswith(ending)
    assert shown[0] == "    usage: options.py [-h] [--epochs EPOCHS]"
    assert any(printed in line for line in shown)
    assert last == "mlpprof needs a run that trains; change its arguments after --"
