"""Where the time of a program goes: before its steps, in them, and around them."""

from __future__ import annotations

import ast

import pytest
from timed_program import STEP_S, Run

from mlpprof.programs.record import hooks
from mlpprof.programs.record.around import reaching
from mlpprof.programs.record.forms import CLOCKED, PLAIN
from mlpprof.programs.record.program_time import sections_of, unfinished
from mlpprof.programs.record.timeline import BEGUN, FILE, FILE_END, STEP, Entry
from mlpprof.programs.step_place import StepPlace

pytestmark = pytest.mark.usefixtures("no_hooks_left")

BOOK = """
def evaluate(data):
    for x in data:
        wait(0.25)

def step(batch):
    wait(0.5)

def fit(data, epochs):
    for epoch in range(epochs):
        wait(2)
        batches = [data[k : k + 1] for k in range(10)]
        for batch in batches:
            step(batch)
        evaluate(data)
        wait(1)

wait(7)
data = list(range(12))
fit(data, 3)
wait(4)
"""


BESIDE = """
def step():
    wait(0.5)

for epoch in range(2):
    for k in range(6):
        wait(0.25)
        step()
"""

BROKEN = """
def step():
    wait(0.5)

for run in range(2):
    while True:
        for k in range(9):
            step()
        wait(1)
        break
    wait(3)
wait(8)
"""

STOPPED = BOOK.replace(
    "            step(batch)", "            step(batch)\n            stop() if batch == [6] else wait(0.25)"
)


def seconds(statements):
    return {one.text: one.seconds for one in statements if one.seconds}


def test_an_epoch_consists_of_its_steps_and_of_the_statements_around_them(clock):
    time = Run(BOOK, "step", clock).time
    assert (time.unit, time.units, time.steps, time.steps_s) == ("epoch", 3, 10, 10 * STEP_S)
    assert time.loop.text == "for epoch in range(epochs):"
    assert seconds(time.statements) == {"evaluate(data)": 3.0, "wait(2)": 2.0, "wait(1)": 1.0}
    assert time.unit_s == 11.0
    assert seconds(time.beginning) == {"wait(7)": 7.0}
    assert seconds(time.end) == {"wait(4)": 4.0}


def test_the_step_may_be_the_body_of_a_loop_at_the_top_of_a_script(clock):
    text = "wait(3)\nfor epoch in range(2):\n    wait(1)\n    for k in range(6):\n        wait(0.5)\n    wait(5)\n"
    time = Run(text, "4", clock).time
    assert (time.unit, time.units, time.steps) == ("epoch", 2, 6)
    assert seconds(time.statements) == {"wait(1)": 1.0, "wait(5)": 5.0}


def test_what_the_loop_runs_over_takes_its_time_between_the_steps(clock):
    text = """
def batches():
    for k in range(6):
        wait(0.125)
        yield k

def step(k):
    wait(0.5)

for epoch in range(2):
    for k in batches():
        wait(0.25)
        step(k)
"""
    time = Run(text, "step", clock).time
    assert seconds(time.statements) == {"for k in batches():": 0.75, "wait(0.25)": 1.5}


def test_statements_beside_a_step_count_for_the_turns_under_instruments_too(clock):
    time = Run(BESIDE, "step", clock, forms=[PLAIN, CLOCKED] * 6).time
    assert seconds(time.statements) == {"wait(0.25)": 6 * 0.25}


def test_without_a_loop_around_the_turns_the_unit_is_a_step(clock):
    text = "def step():\n    wait(0.5)\n\nfor k in range(20):\n    step()\n    if k % 10 == 0:\n        wait(2)\n"
    time = Run(text, "step", clock).time
    assert (time.unit, time.steps, time.units) == ("step", 1, 20)
    assert seconds(time.statements) == pytest.approx({"wait(2)": 0.2})


def test_a_program_that_is_stopped_within_an_epoch_shows_what_was_seen_of_it(clock):
    time = Run(STOPPED, "step", clock).time
    assert (time.units, time.steps, time.planned, time.end_s) == (0, 7, 10, None)
    assert time.steps_s == 10 * STEP_S
    shown = {"wait(2)": 2.0, "stop() if batch == [6] else wait(0.25)": 10 * 6 / 7 * 0.25}
    assert seconds(time.statements) == pytest.approx(shown)


def test_an_epoch_at_the_top_of_a_script_in_which_the_program_is_stopped_is_no_whole_one(clock):
    loop = (
        "for epoch in range(3):\n    for k in range(10):\n        step()\n        stop() if epoch + k == 5 else None\n"
    )
    time = Run(f"def step():\n    wait(0.5)\n\n{loop}", "step", clock).time
    assert (time.units, time.steps, time.planned) == (0, 6, 10)
    time = Run(f"def step():\n    wait(0.5)\n\n{loop.replace('epoch + k', 'epoch * k')}", "step", clock).time
    assert (time.units, time.steps) == (1, 10)


def test_a_statement_in_which_the_program_is_stopped_takes_longer_than_shown(clock):
    time = Run(BOOK.replace("wait(0.25)", "wait(0.25)\n        stop()"), "step", clock).time
    assert (time.units, time.steps) == (0, 10)
    assert [(one.text, one.seconds) for one in time.statements if one.is_open] == [("evaluate(data)", 0.25)]


def test_a_loop_that_is_left_by_break_has_ended(clock):
    time = Run(BROKEN, "step", clock).time
    assert seconds(time.statements)["wait(1)"] == 1.0
    assert time.units == 2


def test_a_function_that_only_looks_as_if_it_led_to_the_step_belongs_to_the_statement_that_calls_it(clock):
    text = """
def shown(network):
    wait(0.25)
    return network.step

class Network:
    def step(self):
        wait(0.5)

network = Network()
for epoch in range(2):
    for k in range(6):
        network.step()
    shown(network)
"""
    time = Run(text, "Network.step", clock).time
    assert seconds(time.statements) == {"shown(network)": 0.25}


def test_a_function_that_runs_within_the_step_gets_its_plain_code_again(clock):
    text = """
def helper(step):
    wait(0.25)
    return step

def step():
    helper(step)

for k in range(6):
    step()
"""
    run = Run(text, "step", clock, forms=[PLAIN, PLAIN, CLOCKED, PLAIN, PLAIN, PLAIN])
    assert hooks.ENTERED not in run.space["helper"].__code__.co_names
    assert run.time.around_s == 0


def test_steps_in_another_thread_leave_the_rest_unknown(clock):
    text = "import threading\n\ndef step():\n    wait(0.5)\n\ndef train():\n    for k in range(6):\n        step()\n\n"
    text += "thread = threading.Thread(target=train)\nthread.start()\nthread.join()\n"
    assert Run(text, "step", clock).time is None


def test_the_program_goes_on_to_the_end_of_an_epoch_and_to_expensive_statements(clock):
    run = Run(STOPPED, "step", clock)
    wait = unfinished(run.timeline, run.forms.sites, frozenset())
    assert [run.forms.sites[site].line for site in wait.loops] == [10]
    around_s = (2 + 6 * 0.25) / 7  # what comes once is divided among the steps
    assert wait.seconds == pytest.approx(3 * (STEP_S + around_s))
    whole = Run(BOOK, "step", clock)
    lines = {number: whole.forms.sites[number].line for number in range(len(whole.forms.sites))}
    recordable = frozenset(number for number, line in lines.items() if line in (11, 12))
    wait = unfinished(whole.timeline, whole.forms.sites, recordable)
    assert ([lines[site] for site in wait.statements], wait.loops) == ([11], frozenset())


def test_a_statement_is_recorded_when_it_runs_again(clock):
    run = Run(BOOK, "step", clock)
    found = {run.forms.sites[one.site].line: one for one in run.around.found.values()}
    assert found.keys() == {11, 15, 16}, "the list of batches takes no time by this clock"
    assert found[15].seconds == 3.0
    (loop,) = found[15].recorder.loops
    assert (loop.turns, loop.recorded, loop.length) == (12, 12, 12)


def test_a_statement_that_is_recorded_while_the_steps_have_instruments_counts_once(clock):
    time = Run(BOOK, "step", clock, forms=[PLAIN] * 12 + [CLOCKED] * 18).time
    assert {one.text: one.times for one in time.statements if one.seconds} == {
        "evaluate(data)": 1,
        "wait(2)": 1,
        "wait(1)": 1,
    }


def test_a_function_of_another_file_leads_to_the_step(clock):
    trees = {"main.py": ast.parse("import net\n\ndef main():\n    net.fit()\n"), "net.py": ast.parse(BOOK)}
    assert reaching(StepPlace.parse("net.py:step"), trees) == {"step", "fit", "main"}


def test_after_a_file_that_a_statement_imports_the_time_is_that_of_the_statement_again():
    kinds = [(0, BEGUN, 0), (0, FILE, 0), (0, BEGUN, 1), (1, FILE_END, 0), (8, BEGUN, 2), (8, STEP, 0)]
    walked = [(Entry(*one), ()) for one in kinds]
    before = sections_of(walked, None, 0.0)[0]
    assert [before.statements[number].seconds for number in (0, 1)] == [7, 1]


def test_a_file_reports_its_beginning_and_its_end_around_its_statements(clock):
    run = Run(f'"""Text."""\nfrom __future__ import annotations\n{BOOK}', "step", clock)
    assert run.space["__doc__"] == "Text."
    kinds = [entry.kind for entry in run.timeline.entries()]
    assert (kinds.count(FILE), kinds.count(FILE_END), kinds.index(FILE) < kinds.index(BEGUN)) == (1, 1, True)
