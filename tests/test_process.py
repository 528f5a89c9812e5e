"""One worker process: its answers, its errors, its prints, its end and its parent's."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from mlpprof import errors, process
from mlpprof.allowance import Allowance, Use, allowing, use_of
from mlpprof.errors import (
    EXIT_USAGE,
    MlpprofError,
    OverAllowance,
    TimeLimit,
    UsageError,
    VariantCrash,
    WorkerDied,
    WorkerKilled,
)
from mlpprof.process import Pulse, Worker, time_limit_s, while_around

posix = pytest.mark.skipif(os.name != "posix", reason="signals and forks as POSIX has them")

MODULE = """
import json, os, signal, subprocess, sys, time
from pathlib import Path

from mlpprof import errors
from mlpprof.process import serve


def echo(report, **arguments):
    return arguments


def work(report, steps):
    for i in range(steps):
        report(f"step {i}", i / steps)
    return "done"


def fail(report, kind, message):
    raise getattr(errors, kind)(message)


def fail_privately(report):
    class OfMyOwn(errors.MlpprofError):
        pass

    raise OfMyOwn("mine")


def bug(report):
    return {}["missing key"]


def chatter(report):
    print('{"answer": "from print"}')
    sys.stdout.flush()
    os.write(1, b'{"answer": "from C"}\\n')
    print("to stderr", file=sys.stderr)
    subprocess.run([sys.executable, "-c", "print('from a child')"], check=True)
    return "the real answer"


def ask(report):
    try:
        return input("a question")
    except EOFError:
        return "nobody there"


def child_reads(report):
    return subprocess.run([sys.executable, "-c", "import sys; print(sys.stdin.read())"], capture_output=True).returncode


def environment(report):
    return dict(os.environ)


def die(report, number):
    os.kill(os.getpid(), number)
    time.sleep(60)


def leave(report, code, words):
    print(words, file=sys.stderr, flush=True)
    os._exit(code)


def start_child(report):
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]).pid


def fork(report):
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        time.sleep(60)
        os._exit(0)
    return child


def hang(report):
    report("hanging", 0.5)
    while True:
        pass


def hang_in_native_code(report):
    import re
    re.match("(a+)+$", "a" * 60 + "b")


def interrupt_itself(report):
    raise KeyboardInterrupt


def forge(report):
    for descriptor in range(3, 40):
        try:
            os.write(descriptor, b'{"answer": "forged"}\\n{"answer":')
        except OSError:
            pass
    return "the real answer"


def fork_and_die(report):
    fork(report)
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def spin(report, marker):
    try:
        report("spinning", 0.5)  # within the try: the interrupt may come while the report is still being sent
        while True:
            pass
    finally:
        Path(marker).write_text("cleaned up")


def wait(report, marker):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background ignores it
    try:
        report("waiting", 0.5)
        time.sleep(60)
    finally:
        Path(marker).write_text("cleaned up")


def stubborn(report):
    report("ignoring", 0.5)
    while True:
        try:
            time.sleep(0.01)
        except KeyboardInterrupt:
            pass




def main():
    serve({name: value for name, value in globals().items() if callable(value) and name not in ("serve", "Path")})
"""

Start = Callable[[], Worker]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "worker_of_the_test.py").write_text(MODULE, encoding="utf-8")
    return {**os.environ, "PYTHONPATH": str(tmp_path)}


@pytest.fixture
def worker(environment: dict[str, str]) -> Iterator[Worker]:
    with Worker("worker_of_the_test", environment) as worker:
        yield worker


def gone(pid: int, within_s: float = 5.0) -> bool:
    """Whether the process ends within the time; a zombie has ended."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.01)
    return False


def spinning(what: str, share: float) -> None:
    raise KeyboardInterrupt


# Answers


def test_an_answer_is_what_the_handler_returned(worker):
    values = {"n": 3, "text": "größer\n\0'\"", "none": None, "list": [1.5, [True]], "nested": {"a": {"b": []}}}
    assert worker.call("echo", **values) == values


def test_numbers_cross_exactly(worker):
    numbers = [0.1, 1 / 3, 5e-324, 1.7976931348623157e308, -0.0, math.inf, 2**60]
    assert worker.call("echo", x=numbers)["x"] == numbers
    assert math.isnan(worker.call("echo", x=math.nan)["x"])


def test_calls_are_answered_one_after_the_other_by_the_same_process(worker):
    assert [worker.call("echo", i=i)["i"] for i in range(20)] == list(range(20))
    assert psutil.Process(worker.pid).is_running()


def test_a_long_answer_arrives_whole(worker):
    text = "x" * 3_000_000
    assert worker.call("echo", text=text)["text"] == text


def test_progress_is_passed_on_in_order_before_the_answer(worker):
    seen = []
    assert worker.call("work", lambda what, share: seen.append((what, share)), steps=3) == "done"
    assert seen == [("step 0", 0.0), ("step 1", 1 / 3), ("step 2", 2 / 3)]


def test_progress_may_be_ignored(worker):
    assert worker.call("work", steps=3) == "done"


# Errors


def test_an_error_of_mlpprof_arrives_with_its_kind_its_message_and_its_exit_code(worker):
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, MlpprofError)]
    assert {1, 2} <= {kind.exit_code for kind in kinds}
    for kind in kinds:
        with pytest.raises(kind) as caught:
            worker.call("fail", kind=kind.__name__, message="batch 0 is 'wrong'\nin two lines")
        assert type(caught.value) is kind
        assert str(caught.value) == "batch 0 is 'wrong'\nin two lines"
        assert caught.value.exit_code == kind.exit_code


def test_a_kind_that_the_parent_does_not_know_arrives_as_the_base_of_all(worker):
    with pytest.raises(MlpprofError, match="^mine$") as caught:
        worker.call("fail_privately")
    assert type(caught.value) is MlpprofError


def test_after_an_error_the_worker_goes_on(worker):
    with pytest.raises(UsageError):
        worker.call("fail", kind="UsageError", message="x")
    assert worker.call("echo", x=1) == {"x": 1}


def test_a_bug_in_a_handler_is_the_worker_s_death_with_its_last_line(worker):
    with pytest.raises(
        WorkerDied, match=r"ended with exit code 1 before it answered; its last line of output: KeyError: 'missing key'"
    ):
        worker.call("bug")


# An allowance

QUIET = Use(processor_s=1.0, memory_bytes=1 << 28, processes=1)


@pytest.mark.parametrize(
    ("used", "seconds", "printed", "said"),
    [
        (QUIET, 40.0, 1000, ""),
        (replace(QUIET, processes=33), 1.0, 0, "started 33 processes, and 32 are allowed"),
        (replace(QUIET, memory_bytes=3_000_000_000), 1.0, 0, "used 3.0 GB of memory, and 2.1 GB are allowed"),
        (QUIET, 1.0, 20_000_000, "printed 20 MB, and 10 MB are allowed"),
        (replace(QUIET, processor_s=21.0), 25.0, 0, "ran for more than 20 seconds"),
        (QUIET, 51.0, 0, "ran for more than 50 seconds"),
    ],
)
def test_code_that_uses_more_than_its_allowance_is_described(used, seconds, printed, said):
    assert Allowance().exceeded(used, seconds, printed)[0] == said


@posix
def test_the_use_of_a_session_counts_its_children_and_those_whose_parent_has_died(worker):
    worker.call("start_child")
    assert use_of(worker.pid).processes == 2
    assert use_of(worker.pid).memory_bytes > 1 << 20


@posix
def test_a_worker_that_uses_too_much_is_ended_with_the_line_and_leaves_no_process(environment):
    processes = 1
    with allowing(Allowance(use_of=lambda session: replace(QUIET, processes=processes))):
        worker = Worker("worker_of_the_test", environment)
    with worker:
        child = worker.call("start_child")
        processes = 50
        with pytest.raises(OverAllowance, match=r"started 50 processes, .* at worker_of_the_test\.py:\d+.*\. Remove"):
            worker.call("hang", lambda what, share: None)
    assert gone(child)


@posix
def test_a_loop_without_end_uses_up_its_processor_time(environment):
    with allowing(Allowance(processor_s=0.2)):
        worker = Worker("worker_of_the_test", environment)
    with worker, pytest.raises(OverAllowance, match=r"ran for more than 0\.2 seconds, so it was ended at worker_of"):
        worker.call("hang")


def test_the_loop_around_a_line_is_found_and_a_line_without_one_has_none(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("x = 1\nwhile x:\n    for y in x:\n        f(y)\n", encoding="utf-8")
    assert while_around(str(file), 4) == (str(file), 2)
    assert while_around(str(file), 1) is None
    assert while_around(str(tmp_path / "missing.py"), 1) is None


# What a variant prints and reads


def test_prints_of_a_variant_are_not_part_of_the_conversation(worker):
    assert worker.call("chatter") == "the real answer"
    assert worker.call("echo", x=1) == {"x": 1}


def test_a_variant_that_reads_the_standard_input_finds_it_empty_instead_of_hanging(worker):
    assert worker.call("ask") == "nobody there"
    assert worker.call("child_reads") == 0
    assert worker.call("echo", x=1) == {"x": 1}


def test_prints_without_end_do_not_block_the_worker(environment, tmp_path):
    (tmp_path / "loud.py").write_text(
        "from mlpprof.process import serve\n"
        "def shout(report):\n    for _ in range(20_000):\n        print('x' * 100)\n    return 1\n"
        "def main():\n    serve({'shout': shout})\n"
    )
    with Worker("loud", environment) as worker:
        assert worker.call("shout") == 1


# The environment


def test_the_worker_has_the_environment_that_it_is_given_and_no_other(environment, monkeypatch):
    monkeypatch.setenv("OF_THE_PARENT_ONLY", "1")
    with Worker("worker_of_the_test", {**environment, "OMP_NUM_THREADS": "3"}) as worker:
        found = worker.call("environment")
    assert found["OMP_NUM_THREADS"] == "3"
    assert "OF_THE_PARENT_ONLY" not in found


def test_a_file_in_the_working_folder_does_not_shadow_a_module(environment, tmp_path, monkeypatch):
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "json.py").write_text("raise RuntimeError('shadowed')")
    (folder / "psutil.py").write_text("raise RuntimeError('shadowed')")
    monkeypatch.chdir(folder)
    with Worker("worker_of_the_test", environment) as worker:
        assert worker.call("echo", x=1) == {"x": 1}


@posix
def test_ctrl_c_in_the_terminal_does_not_reach_the_worker(worker):
    worker.call("echo")
    assert os.getsid(worker.pid) == worker.pid != os.getsid(0)


# The end


@posix
@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGSEGV"])
def test_a_worker_that_is_killed_is_a_death_that_names_the_signal(worker, name):
    import signal

    with pytest.raises(WorkerDied, match=f"was killed by {name} before it answered") as caught:
        worker.call("die", number=int(getattr(signal, name)))
    assert ("memory" in str(caught.value)) == (name == "SIGKILL")
    # the others are flaws of the code, which another run does not mend
    assert (
        isinstance(caught.value, WorkerKilled) == ("run the command again" in str(caught.value)) == (name != "SIGSEGV")
    )
    assert "\n" not in str(caught.value)


def test_code_that_makes_no_progress_is_ended_with_its_line(environment, monkeypatch):
    monkeypatch.setattr(process, "ASKED_EVERY_S", 0.1)
    seen = []
    with (
        Worker("worker_of_the_test", environment, limit_s=1.0) as worker,
        pytest.raises(
            TimeLimit, match=r"for 1 seconds and was ended; it was at worker_of_the_test.py:\d+ \(`"
        ) as caught,
    ):
        worker.call("hang", lambda *progress: seen.append(progress))
    assert caught.value.exit_code == EXIT_USAGE
    assert seen[0] == ("hanging", 0.5)
    assert seen[-1][0].startswith("waiting for worker_of_the_test.py:")
    assert seen[-1][1] == 0.5


@posix
def test_native_code_that_lets_nothing_else_run_is_ended_with_its_line(environment, monkeypatch):
    monkeypatch.setattr(process, "ANSWER_S", 0.5)
    with (
        Worker("worker_of_the_test", environment, limit_s=3.0) as worker,
        pytest.raises(TimeLimit, match=r"it was at worker_of_the_test.py:\d+\. If"),
    ):
        worker.call("echo")
        worker.call("hang_in_native_code")


def test_code_that_moves_on_says_so_now_and_then():
    now_s, sent = [100.0], []
    pulse = Pulse(lambda: now_s[0])
    pulse.beat()
    pulse.connect(sent.append)
    for seconds, sign, beats in ((0, 1, 1), (1, 2, 1), (9, 2, 2), (9, 2, 2), (9, 3, 3), (9, None, 4), (9, None, 5)):
        now_s[0] += seconds
        pulse.beat(sign)
        assert len(sent) == beats


@pytest.mark.parametrize(("text", "limit_s"), [("7", 7.0), ("inf", math.inf), ("0", None), ("nan", None), ("x", None)])
def test_the_time_limit_is_a_positive_number_of_seconds(monkeypatch, text, limit_s):
    monkeypatch.setenv(process.TIME_LIMIT_VARIABLE, text)
    if limit_s is None:
        with pytest.raises(UsageError, match=f"MLPPROF_TIME_LIMIT={text}: expected a number of seconds"):
            time_limit_s()
    else:
        assert time_limit_s() == limit_s


def test_an_interrupt_that_the_code_raises_is_an_error_with_its_line(worker):
    with pytest.raises(
        VariantCrash, match=r"^worker_of_the_test.py:\d+ raised KeyboardInterrupt; change that, or, if another"
    ):
        worker.call("interrupt_itself")


def test_what_a_variant_writes_into_the_pipe_of_answers_is_no_answer(worker):
    assert worker.call("forge") == "the real answer"
    assert worker.call("echo", x=1) == {"x": 1}


def test_a_worker_that_leaves_is_a_death_with_its_exit_code_and_its_last_line(worker):
    called = r"\(worker_of_the_test.py:\d+ called os._exit\(7\)\)"
    with pytest.raises(WorkerDied, match=rf"exit code 7 {called} before it answered; its last .*: out of luck$"):
        worker.call("leave", code=7, words="a first line\nout of luck\n\n")


def test_a_worker_that_printed_nothing_has_no_last_line(worker):
    with pytest.raises(WorkerDied, match=r"ended with exit code 0 \(\S+ called os._exit\(0\)\) before it answered$"):
        worker.call("leave", code=0, words="")


def test_a_dead_worker_s_next_call_is_a_death_too(worker):
    for _ in range(3):
        with pytest.raises(WorkerDied, match="exit code 7"):
            worker.call("leave", code=7, words="")


def test_a_module_that_is_not_there_is_a_death_that_names_it(environment):
    with Worker("no_such_worker", environment) as worker, pytest.raises(WorkerDied, match="no_such_worker"):
        worker.call("echo")


def test_close_leaves_no_process_and_may_be_repeated(environment):
    worker = Worker("worker_of_the_test", environment)
    worker.call("echo")
    worker.close()
    assert not psutil.pid_exists(worker.pid)
    worker.close()


def test_close_before_the_first_call_leaves_no_process(environment):
    worker = Worker("worker_of_the_test", environment)
    worker.close()
    assert not psutil.pid_exists(worker.pid)


def test_an_idle_worker_ends_at_once_and_need_not_be_killed(environment):
    worker = Worker("worker_of_the_test", environment)
    worker.call("echo")
    start = time.monotonic()
    worker.close()
    assert time.monotonic() - start < process.STOP_TIMEOUT_S


@posix
@pytest.mark.parametrize("starter", ["start_child", "fork"])
def test_close_ends_the_worker_s_children_too(environment, monkeypatch, starter):
    monkeypatch.setattr(process, "STOP_TIMEOUT_S", 0.3)
    with Worker("worker_of_the_test", environment) as worker:
        child = worker.call(starter)
        assert psutil.pid_exists(child)
    assert gone(child)


@posix
@pytest.mark.parametrize("starter", ["start_child", "fork"])
def test_close_ends_the_children_of_a_worker_that_was_killed(environment, starter):
    with Worker("worker_of_the_test", environment) as worker:
        child = worker.call(starter)
        psutil.Process(worker.pid).kill()
        with pytest.raises(WorkerDied, match="SIGKILL"):
            worker.call("echo")
    assert gone(child)


@posix
def test_a_forked_child_that_outlives_the_worker_does_not_keep_the_parent_waiting(worker):
    with pytest.raises(WorkerDied, match="SIGKILL"):
        worker.call("fork_and_die")


@pytest.mark.parametrize("call", ["spin", pytest.param("wait", marks=posix)])
def test_an_interrupted_call_ends_the_worker_and_its_finally_blocks_run(environment, tmp_path, monkeypatch, call):
    monkeypatch.setattr(process, "STOP_TIMEOUT_S", 30.0)  # a busy machine may be slow to wake the worker
    marker = tmp_path / "marker"
    with pytest.raises(KeyboardInterrupt), Worker("worker_of_the_test", environment) as worker:
        worker.call(call, spinning, marker=str(marker))
    assert not psutil.pid_exists(worker.pid)
    assert marker.read_text() == "cleaned up"


@posix
def test_a_worker_that_will_not_end_is_killed(environment, monkeypatch):
    monkeypatch.setattr(process, "STOP_TIMEOUT_S", 0.3)
    with pytest.raises(KeyboardInterrupt), Worker("worker_of_the_test", environment) as worker:
        worker.call("stubborn", spinning)
    assert not psutil.pid_exists(worker.pid)


KILLED = "lambda *_: os.kill(os.getpid(), 9)"


@posix
@pytest.mark.parametrize(
    "call",
    [
        pytest.param("os.kill(os.getpid(), 9)", id="idle"),
        pytest.param(f"worker.call('spin', {KILLED}, marker='marker')", id="busy"),
        pytest.param(f"worker.call('stubborn', {KILLED})", id="catches everything", marks=pytest.mark.slow),
    ],
)
def test_a_worker_ends_when_its_parent_is_killed(environment, tmp_path, call):
    program = (
        "import os, sys\n"
        f"sys.path.append({process.PACKAGE_PARENT!r})\n"
        "from mlpprof.process import Worker\n"
        "worker = Worker('worker_of_the_test', dict(os.environ))\n"
        "worker.call('echo')\n"
        "print(worker.pid, flush=True)\n"
        f"{call}\n"
    )
    parent = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, cwd=tmp_path, timeout=30
    )
    assert parent.returncode == -9
    assert gone(int(parent.stdout), process.ORPHAN_S + 10)


def test_a_worker_leaves_no_file_open_and_no_process(environment):
    before = psutil.Process().open_files()
    for _ in range(3):
        with Worker("worker_of_the_test", environment) as worker:
            worker.call("chatter")
    assert len(psutil.Process().open_files()) == len(before)


def test_machine_code_is_kept_apart_for_every_version_of_the_functions_that_variants_share(tmp_path, monkeypatch):
    shared = tmp_path / "numba_passes.py"
    monkeypatch.setattr(process, "SHARED_BY_COMPILED", tmp_path)
    folders = set()
    for text in ("a = 1", "a = 2", "a = 1"):
        shared.write_text(text)
        folders.add(process.compiled_code_folder())
    assert len(folders) == 2
