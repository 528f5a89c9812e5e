"""A program that pauses at its steps: what is counted and timed, who waits where, and how it ends."""

from __future__ import annotations

import _thread
import threading

import pytest

from mlpprof.errors import UsageError, VariantCrash
from mlpprof.programs.load import Exit
from mlpprof.programs.patience import Patience
from mlpprof.programs.pause import GatedForms, StepGate, run_paused
from mlpprof.programs.record import hooks
from mlpprof.programs.record.clocks import Clocks
from mlpprof.programs.record.forms import CodeExchange, Forms
from mlpprof.programs.record.hooks import BEGIN, END
from mlpprof.programs.record.recorder import Recorder
from mlpprof.programs.record.schedule import Enough, Steps
from mlpprof.programs.step_place import StepPlace

pytestmark = pytest.mark.usefixtures("no_hooks_left")


class Texts:
    """A program of one file, which runs in this process."""

    may_be_short = True
    folder = "."
    wait_s = 5.0

    def __init__(self, text: str, **names: object) -> None:
        self.text, self.names = text, names

    @staticmethod
    def is_own(path: str) -> bool:
        return True

    def run(self, compiled):
        try:
            exec(compiled("net.py", self.text), {"__name__": "__main__", **self.names})
        except Enough:
            return None
        except ValueError as error:
            raise VariantCrash(f"net.py: {error}") from error
        return Exit()


@pytest.fixture
def started():
    """Starts a program in a thread, in place of the main one, and returns its gate; all are stopped at the end."""
    gates, ends = [], []

    def start(text: str, step: str = "step", clock=lambda: 0.0, **names: object) -> StepGate:
        gate, end = StepGate(clock), threading.Event()

        def run() -> None:
            run_paused(Texts(text, **names), StepPlace.parse(step), gate, patience=Patience(5.0, 5.0, 5.0))
            end.set()

        _thread.start_new_thread(run, ())
        gates.append(gate)
        ends.append(end)
        return gate

    yield start
    for gate, end in zip(gates, ends, strict=True):
        gate.stop()
        assert end.wait(5)


TICKING = """
def step(x):
    watch.advance(2)
for number in range(10):
    step(number)
    watch.advance(5)
"""


def test_a_turn_is_the_sum_of_its_steps_and_what_lies_between_is_noted_apart(started, clock):
    gate = started(TICKING, clock=clock, watch=clock)
    assert gate.arrived().steps == 0
    taken = gate.take(3)
    assert (taken.steps, taken.seconds, taken.between_s, taken.has_ended) == (3, 6.0, 15.0, False)
    assert gate.take(1).seconds == 2.0
    assert gate.count == 4


GENERATOR = """
def batches():
    for number in range(10):
        watch.advance(3)
        yield number
    yield None
def step(x):
    watch.advance(2)
    for layer in iter("two"):  # it calls something with the step's name, but is no loop around it
        layer and fit.step(layer)
def train(x):
    step(x)
    watch.advance(1)
for (x,) in zip(batches()):
    if x is None:
        break
    train(x)
    watch.advance(4)
"""


WHILE = GENERATOR.replace("for (x,) in zip(batches()):", "items = batches()\nwhile (x := next(items)) is not None:")


class Fit:
    """Something else that has a step."""

    @staticmethod
    def step(layer):
        """Takes no time."""


@pytest.mark.parametrize("text", [GENERATOR, WHILE])
def test_what_a_generator_does_before_a_step_belongs_to_the_step_and_the_rest_of_the_loop_does_not(
    text, started, clock
):
    gate = started(text, clock=clock, watch=clock, fit=Fit)
    gate.arrived()
    taken = gate.take(3)
    assert (taken.steps, taken.seconds, taken.between_s) == (3, 3 * (2 + 3), 3 * (1 + 4))


@pytest.mark.parametrize("text", [TICKING, GENERATOR, WHILE])
def test_the_step_of_a_race_is_the_quantity_that_advise_and_profile_report(text, started, clock):
    gate = started(text, clock=clock, watch=clock, fit=Fit)
    gate.arrived()
    raced_s = gate.take(4).seconds / 4

    forms = Forms(StepPlace.parse("step"))
    recorder = Recorder(forms.sites)
    steps = Steps(CodeExchange(forms), Clocks(clock), recorder, clock, forms=iter([0] * 10))
    for instrument in (recorder, steps):
        hooks.install(instrument.hooks)
    exec(forms.module_code("net.py", text), {"watch": clock, "fit": Fit})
    assert steps.times.plain_s == [2.0] + [raced_s] * 9  # the first item may load all data


def test_a_step_within_a_step_counts_once(started, clock):
    text = """
def step(depth):
    watch.advance(1)
    if depth:
        step(depth - 1)
while True:
    step(3)
"""
    gate = started(text, clock=clock, watch=clock)
    gate.arrived()
    taken = gate.take(2)
    assert (taken.steps, taken.seconds) == (2, 8.0)


def test_the_body_of_a_loop_is_a_step_with_continue_and_break(started, clock):
    text = """
for number in range(6):
    watch.advance(1)
    if number == 1:
        continue
    if number == 4:
        break
"""
    gate = started(text, "2", clock=clock, watch=clock)
    gate.arrived()
    assert gate.take(2).steps == 2
    rest = gate.take(100)
    assert (rest.steps, rest.has_ended) == (3, True)
    assert gate.take(1).has_ended


def test_a_step_in_a_thread_of_the_program_pauses_there_and_the_program_ends_when_it_is_stopped(started):
    text = """
import threading
def step():
    seen.append(threading.current_thread().name)
def train():
    while True:
        step()
worker = threading.Thread(target=train, name="trainer")
worker.start()
worker.join()
seen.append("after")
"""
    seen: list[str] = []
    gate = started(text, seen=seen)
    gate.arrived()
    gate.take(3)
    assert seen == ["trainer"] * 3
    gate.stop()


def test_a_program_that_catches_everything_ends_when_it_is_stopped(started):
    text = """
def step():
    pass
while True:
    try:
        step()
    except BaseException:
        caught.append(1)
        if len(caught) > 3:
            raise
"""
    caught: list[int] = []
    gate = started(text, caught=caught)
    gate.arrived()
    gate.take(2)
    gate.stop()


@pytest.mark.parametrize(
    ("text", "step", "kind", "said"),
    [
        ("def step():\n    pass\n", "step", UsageError, "the step 'step' in net.py never ran"),
        ("def step():\n    pass\n", "stepp", UsageError, "did you mean 'step'"),
        ("raise ValueError('no data')\n", "step", VariantCrash, "net.py: no data"),
    ],
)
def test_a_program_that_never_gets_to_its_step_is_an_error(text, step, kind, said, started):
    with pytest.raises(kind, match=said):
        started(text, step).arrived()


def test_an_exception_between_two_steps_is_an_error_of_the_turn(started):
    gate = started("def step():\n    pass\nstep()\nstep()\nraise ValueError('bad')\n")
    gate.arrived()
    assert gate.take(1).steps == 1
    with pytest.raises(VariantCrash, match="bad"):
        gate.take(5)


def test_the_step_gets_two_hooks_and_nothing_else():
    source = "def step(x):\n    y = x + 1\n    return y\n"
    code = GatedForms(StepPlace.parse("step")).module_code("net.py", source)
    space: dict[str, object] = {}
    seen: list[str] = []
    hooks.install({BEGIN: lambda is_turn: seen.append("begin"), END: lambda is_turn: seen.append("end")})
    exec(code, space)
    assert space["step"](2) == 3  # type: ignore[operator]
    assert seen == ["begin", "end"]
    assert {name for name in space["step"].__code__.co_names if "mlpprof" in name} == {BEGIN, END}  # type: ignore[attr-defined]
