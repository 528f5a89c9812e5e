"""What a person reads on the terminal, from hand-made runs whose figures are known."""

import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from runs import make_run

from mlpprof.report.sentences import slowest_part
from mlpprof.report.terminal.profile import print_run, report_text
from mlpprof.report.terminal.reproduce import print_reproductions, reproductions_text
from mlpprof.results import BatchResult, CheckResult, LabelSamples, LineProfile, LineTime, PhaseSamples, StackProfile
from mlpprof.results.on_disk import load_run, save_run
from mlpprof.results.reproduction import Claim, Figure, Reproduction, Table

ESCAPE = "\x1b"


def shown(run, width=100, verbose=False, **options) -> str:
    buffer = io.StringIO()
    print_run(run, Console(file=buffer, width=width, **options), verbose=verbose)
    return buffer.getvalue()


def section(text: str, title: str) -> str:
    """From the line that begins with the title to the next line that is not indented."""
    found = re.search(rf"^{re.escape(title)}.*\n((?:  .*\n|\n)*)", text, re.MULTILINE)
    assert found is not None, f"no section {title} in\n{text}"
    return found[1]


def row(text: str, beginning: str) -> str:
    """The one line that begins so, blanks squeezed."""
    squeezed = [" ".join(line.split()) for line in text.splitlines()]
    rows = [line for line in squeezed if line.startswith(beginning)]
    assert len(rows) == 1, f"{len(rows)} rows begin with '{beginning}' in\n{text}"
    return rows[0]


def without_bars(line: str) -> str:
    return re.sub(r" [█▏▎▍▌▋▊▉]+", "", line)


def constant(seconds: float) -> np.ndarray:
    return np.full((2, 4), seconds)


def known_result(batch=100, **changes) -> BatchResult:
    """A step of 1 ms: forward 0.6, backward 0.4; labels leave 0.1 of forward and nothing of backward."""
    forward = PhaseSamples(constant(0.6e-3), 2048.0, 1024.0, 3.0)
    result = BatchResult(
        batch=batch,
        steps_per_epoch=10,
        total_s=constant(1e-3),
        phases_pass_s=constant(1e-3),
        labels_pass_s=constant(1e-3),
        phases={"forward": forward, "backward": PhaseSamples(constant(0.4e-3))},
        labels=(
            LabelSamples("backward", 2, "gradient", constant(0.3e-3), 1),
            LabelSamples("backward", 1, "derivative", constant(0.1e-3), 7),
            LabelSamples("forward", 1, "weighted sum", constant(0.49e-3), 1),
            LabelSamples("forward", 2, "tiny", constant(0.004e-3), 1),
            LabelSamples("forward", 3, "tinier", constant(0.001e-3), 1),
        ),
        losses=np.ones(8),
        warmup_steps=3,
    )
    return replace(result, **changes)


def known_run(*results: BatchResult, **changes):
    return replace(make_run(), results=results or (known_result(),), **changes)


def test_the_sections_come_in_the_order_of_reading():
    text = shown(make_run((32, 500), lines=True, stacks=True))
    titles = re.findall(r"^(\w+)", text, re.MULTILINE)
    assert titles == ["cached", "Time", "Phases", "Memory", "Statements", "Agreement", "Lines", "Calls"]


def test_the_head_shows_what_was_run_on_what():
    text = shown(make_run(), width=140)
    assert text.startswith("cached  Derivatives from what forward kept.\n")
    assert row(text, "workload") == "workload digits: digits (embedded), 4,000 samples"
    assert row(text, "network") == "network 784-70-30-10, sigmoid, sigmoid output, cross entropy loss"
    assert row(text, "training") == "training float32, rate 0.1, momentum 0.9, L2 0.0001, seed 0"
    assert row(text, "measured") == "measured 2026-11-21 00:30:05 UTC by mlpprof 0.1.0: mlpprof profile cached"
    assert row(text, "check").endswith("gradients against contiguous, layer 2, deviation 2.1e-12, tolerance 1.0e-10")
    assert row(text, "machine").startswith("machine AMD EPYC 9R14, 4 cores")
    assert row(text, "BLAS") == "BLAS NumPy 2.4.6 · OpenBLAS 0.3.31 kernel SkylakeX · 1 thread"


@pytest.mark.parametrize(
    ("check", "words"),
    [
        (None, "not checked (--no-check)"),
        (CheckResult("x", None, skipped="needs numba"), "not checked: needs numba"),
        (CheckResult("x", False, 0.5, 1e-10, 1, "gradients", None, "layer 1 is off"), "FAILED: layer 1 is off"),
    ],
)
def test_a_run_that_was_not_found_right_says_so(check, words):
    assert row(shown(known_run(check=check)), "check") == f"check {words}"


def test_a_pinned_kernel_is_warned_of_once():
    machine = {
        "cpu_simd": ["sse2", "avx", "avx2", "fma", "avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"],
        "blas": [{"vendor": "openblas", "kernel": "Haswell", "threads": 1}],
        "blas_environment": {"OPENBLAS_CORETYPE": "Haswell"},
    }
    text = shown(known_run(machine=machine, warnings=("mine.py:3: a label on no statement",)))
    assert text.count("OPENBLAS_CORETYPE=Haswell pins") == 1
    assert len(re.findall("^  warning", text, re.MULTILINE)) == 2


def test_times_are_per_step_and_per_epoch_with_their_spread():
    total_s = np.linspace(1e-3, 3e-3, 42).reshape(2, 21)
    text = section(shown(known_run(known_result(total_s=total_s))), "Time")
    assert row(text, "step, median") == "step, median 2.00 ms"
    assert row(text, "95 % of steps") == "95 % of steps 1.05–2.95 ms"
    assert row(text, "epoch") == "epoch, median 20.0 ms"
    assert row(text, "95 % of epochs") == "95 % of epochs 10.5–29.5 ms"
    assert row(text, "samples per second") == "samples per second 50,000"
    assert row(text, "steps measured") == "steps measured 42"


def test_the_sentence_names_the_slowest_phase_and_its_slowest_statement():
    assert slowest_part(known_result()) == (
        "forward takes 60 % of the step; its slowest statement is the weighted sum of layer 1 (49 % of the step)"
    )
    assert slowest_part(known_result(labels=())) == "forward takes 60 % of the step"
    fused = known_result(phases={}, separable=False)
    assert slowest_part(fused) == (
        "the phases are not separable because train_step fuses them; "
        "the slowest statement is the weighted sum of layer 1 (49 % of the step)"
    )
    assert slowest_part(replace(fused, labels=())) == "the phases are not separable because train_step fuses them"
    outside = LabelSamples("forward", None, "gather", constant(0.5e-3), 1)
    assert slowest_part(known_result(labels=(outside,))).endswith("is the gather (50 % of the step)")


def test_phases_are_shown_with_share_time_and_memory():
    text = section(shown(known_run()), "Phases at batch 100")
    assert row(text, "forward") == "forward 60.0 % ████████████████████████████████████ 600 µs 2.00 KiB 1.00 KiB 3"
    assert row(text, "backward") == "backward 40.0 % ████████████████████████ 400 µs – – –"


def test_with_several_batch_sizes_the_shift_of_the_slowest_phase_is_in_one_table():
    phases = {"forward": PhaseSamples(constant(0.1)), "backward": PhaseSamples(constant(0.3))}
    big = known_result(2000, phases=phases, phases_pass_s=constant(0.4), total_s=constant(0.4))
    text = shown(known_run(known_result(), big))
    assert row(section(text, "Phases"), "forward") == "forward 60.0 % ████████ 600 µs 25.0 % ███▍ 100 ms"
    assert row(section(text, "Phases"), "backward") == "backward 40.0 % █████▍ 400 µs 75.0 % ██████████ 300 ms"
    assert row(section(text, "Memory"), "forward") == "forward 2.00 KiB 1.00 KiB 3 – – –"


def test_statements_follow_the_phases_and_the_rest_of_each_phase_is_shown():
    text = section(shown(known_run(), verbose=True), "Statements at batch 100")
    rows = [without_bars(" ".join(line.split())) for line in text.splitlines()]
    assert rows[1:-1] == [
        "forward 1 weighted sum 1 *49.0 % 490 µs",
        "2 tiny 1 0.4 % 4.00 µs",
        "3 tinier 1 0.1 % 1.00 µs",
        "(unlabelled) 10.5 % 105 µs",
        "backward 2 gradient 1 *30.0 % 300 µs",
        "1 derivative 7 *10.0 % 100 µs",
        "(unlabelled) 0.0 % 0 s",
    ]


def test_small_statements_are_added_up_unless_asked_for():
    text = section(shown(known_run()), "Statements at batch 100")
    assert "tiny" not in text
    assert "tinier" not in text
    assert without_bars(row(text, "other")) == "other 3 below 0.5 % 0.5 % 5.00 µs"


def test_a_statement_that_is_small_at_one_batch_size_only_is_shown():
    grown = replace(known_result().labels[3], step_s=constant(0.105e-3))
    labels = (*known_result().labels[:3], grown, known_result().labels[4])
    text = section(shown(known_run(known_result(), known_result(2000, labels=labels)), width=80), "Statements")
    assert without_bars(row(text, "2 tiny")) == "2 tiny 1 0.4 % 4.00 µs *10.5 % 105 µs"
    assert "tinier" not in text


def test_calls_that_change_with_the_batch_size_are_shown_for_each():
    chunked = tuple(replace(label, calls=4) for label in known_result().labels)
    text = section(shown(known_run(known_result(), known_result(2000, labels=chunked))), "Statements")
    found = without_bars(row(text, "forward"))
    assert found == "forward 1 weighted sum *49.0 % 490 µs 1 *49.0 % 490 µs 4"


def test_fused_phases_are_not_guessed():
    run = known_run(known_result(phases={}, separable=False))
    text = shown(run)
    assert "not separable because train_step fuses them" in section(text, "Phases at batch 100")
    assert "(unlabelled)" not in text
    assert row(section(text, "Agreement"), "sum of the phases") == "sum of the phases (limit 3 %) –"


def test_a_file_without_labels_is_shown_how_to_get_them():
    text = shown(make_run(labelled=False))
    assert "end one with a comment '# phase: my label'" in section(text, "Statements")


def test_agreement_is_not_claimed_where_nothing_was_compared():
    text = section(shown(make_run(separable=False, labelled=False)), "Agreement")
    assert "you can trust" not in text
    assert row(text, "with clocks on labels") == "with clocks on labels (limit 5 %) –"


def test_passes_that_agree_are_calmly_confirmed():
    text = section(shown(known_run()), "Agreement")
    assert "All are within their limits" in text
    assert "!" not in text


@pytest.mark.parametrize(
    ("changes", "name", "change", "words"),
    [
        ({"phases_pass_s": constant(1.04e-3)}, "with clocks on phases", "+4.0 %", "the shares are rough"),
        (
            {"labels_pass_s": constant(1.06e-3)},
            "with clocks on labels",
            "+6.0 %",
            "short statements look",
        ),
        (
            {"labels_pass_s": constant(0.94e-3)},
            "with clocks on labels",
            "-6.0 %",
            "short statements look",
        ),
        (
            {"phases": {"forward": PhaseSamples(constant(0.96e-3))}},
            "sum of the phases",
            "-4.0 %",
            "the step does work outside its five phases",
        ),
    ],
)
def test_a_figure_beyond_its_limit_is_marked_and_explained(changes, name, change, words):
    text = section(shown(known_run(known_result(**changes), known_result(200)), width=200), "Agreement")
    assert re.search(rf"^  {name} \(limit \d %\) +! {re.escape(change)} +\+0\.0 %$", text, re.MULTILINE)
    assert re.search(rf"! batch 100  .*{words}", text)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"phases_pass_s": constant(1.029e-3)}, "with clocks on phases"),
        ({"labels_pass_s": constant(1.049e-3)}, "with clocks on labels"),
    ],
)
def test_a_figure_just_within_its_limit_is_not_marked(changes, name):
    assert "!" not in row(section(shown(known_run(known_result(**changes))), "Agreement"), name)


@pytest.mark.parametrize("width", [72, 80, 100, 120, 200])
@pytest.mark.parametrize("batches", [(1,), (32, 500), (32, 500, 20000), (1, 8, 64, 512, 4096, 60000)])
def test_every_width_holds_all_numbers_and_no_line_is_longer(width, batches):
    run = make_run(batches, lines=True, stacks=True, warnings=("word " * 60,))
    text = shown(run, width, verbose=True)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    times = {
        figure for line in shown(run, 1000, verbose=True).splitlines() for figure in re.findall(r"\S+ [mµn]?s\b", line)
    }
    assert times <= set(re.findall(r"\S+ [mµn]?s\b", text))


def test_a_terminal_too_narrow_for_the_tables_loses_nothing():
    run = make_run((32, 500))
    assert shown(run, 30) == shown(run, 72)


def test_long_names_are_folded_beside_whole_numbers():
    long = replace(known_result().labels[2], label="a label that goes on and on " * 4)
    text = section(shown(known_run(known_result(labels=(long, *known_result().labels[:2]))), 80), "Statements")
    assert max(map(len, text.splitlines())) <= 80
    assert "*49.0 %" in text
    assert text.count("goes") == 4


def test_text_of_users_is_never_taken_for_markup():
    trap = "[bold red]x[/bold red] [/] :smile:"
    run = known_run(
        known_result(
            labels=(LabelSamples("forward", 1, trap, constant(0.5e-3), 1),), phases={trap: PhaseSamples(constant(1e-3))}
        ),
        lines=LineProfile(100, 2, 1.0, (LineTime(1, 4, 0.5),)),
        warnings=(trap,),
        workload=trap,
        command=trap,
        check=CheckResult(trap, False, message=trap),
        machine={"cpu_model_name": trap},
    )
    run = replace(run, variant=replace(run.variant, name=trap, summary=trap, source=trap + "\n"))
    text = " ".join(shown(run, 200, force_terminal=False).split())
    assert text.count(trap) >= 11


def test_escape_sequences_in_a_stored_run_do_not_reach_the_terminal():
    trap = "\x1b]0;title\x07\x1b[2J\x9b31m"
    session = json.loads(make_run(stacks=True).stacks.session_json)
    session["frame_records"] = [[[f"{trap}\0{trap}.py\0001"], 1.0]]
    run = known_run(
        known_result(
            labels=(LabelSamples("forward", 1, trap, constant(0.5e-3), 1),), phases={trap: PhaseSamples(constant(1e-3))}
        ),
        lines=LineProfile(100, 2, 1.0, (LineTime(1, 4, 0.5),)),
        stacks=StackProfile(100, 2, json.dumps(session)),
        warnings=(trap,),
        machine={"cpu_model_name": trap, "numpy_version": trap},
    )
    run = replace(run, variant=replace(run.variant, name=trap, summary=trap, source=trap + "\n"))
    text = shown(run)
    assert not set(text) & set("\x1b\x07\x9b")
    assert "�[2J" in text


def test_a_pipe_gets_plain_text_without_blanks_at_the_ends_of_lines():
    text = shown(make_run((32, 500), lines=True, stacks=True))
    assert ESCAPE not in text
    assert not re.search(r" $", text, re.MULTILINE)


def test_a_terminal_gets_colours_and_no_color_takes_them_away(monkeypatch):
    colour = re.compile(r"\x1b\[[\d;]*3[0-7]m")
    run = make_run(checked=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    coloured = shown(run, force_terminal=True)
    assert colour.search(coloured)
    monkeypatch.setenv("NO_COLOR", "1")
    quiet = shown(run, force_terminal=True)
    assert not colour.search(quiet)
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == re.sub(r"\x1b\[[\d;]*m", "", quiet) == shown(run)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_a_console_without_block_characters_gets_stand_ins_in_the_same_columns(encoding):
    run = make_run((32, 500), lines=True, stacks=True)
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, newline="\n")
    print_run(run, Console(file=file, width=100))
    file.flush()
    text = raw.getvalue().decode(encoding)
    assert "###" in text
    assert "?" not in text
    assert list(map(len, text.splitlines())) == list(map(len, shown(run).splitlines()))


def test_lines_show_time_a_step_and_leave_out_what_ran_once():
    source = "\n\n\ndef __init__(self):\n    self.n = 1\n\n\ndef forward(self):\n    a = 1\n    b = 2\n    return a\n"
    lines = (LineTime(5, 1, 1e-6), LineTime(9, 10, 0.4), LineTime(10, 20, 0.05), LineTime(11, 10, 0.01))
    run = known_run(lines=LineProfile(100, 10, 1.0, lines))
    text = section(shown(replace(run, variant=replace(run.variant, source=source))), "Lines at batch 100")
    rows = [" ".join(line.split()) for line in text.splitlines()]
    assert rows == [
        "line calls time share source",
        "8 def forward(self):",
        "9 1 40.0 ms 40.0 % a = 1",
        "10 2 5.00 ms 5.0 % b = 2",
        "11 1 1.00 ms 1.0 % return a",
    ]


def test_hot_lines_stand_out_and_lines_that_were_skipped_are_hinted_at():
    run = make_run(lines=True)
    text = shown(run, force_terminal=True, color_system="standard")
    hot = [line for line in text.splitlines() if "# phase: gradient" in line]
    cold = [line for line in text.splitlines() if "# phase: error" in line]
    assert all("\x1b[1m" in line for line in hot)
    assert not any("\x1b[1m" in line for line in cold)
    assert "⋮" in section(shown(run), "Lines")


def test_long_lines_of_code_go_on_further_in_and_keep_their_comment_whole():
    source = (
        "    value = first(argument) + second(argument) + third(argument) + fourth(argument)  # phase: weighted sum\n"
    )
    run = known_run(lines=LineProfile(100, 1, 1.0, (LineTime(1, 1, 1.0),)))
    text = section(shown(replace(run, variant=replace(run.variant, source=source)), 80), "Lines at batch 100")
    start = text.index("source")
    code = [line[start:] for line in text.splitlines()[1:] if line.strip()]
    assert " ".join(" ".join(code).split()) == " ".join(source.split())
    assert all(line.startswith("    ") for line in code[1:])
    assert any("# phase: weighted sum" in line for line in code)


def test_the_call_view_is_pyinstruments_tree_with_shares():
    text = section(shown(make_run(stacks=True)), "Calls at batch 500")
    assert "└─ 100.0% train_step  cached.py:40" in text
    assert "55.0% forward  cached.py:20" in text
    assert "Recorded" not in text


@pytest.mark.parametrize("session", ["", "[]", "{}", "null", '{"frame_records": [[["a"], 1]]}'])
def test_a_call_view_of_another_pyinstrument_is_named_and_the_report_goes_on(session):
    text = shown(known_run(stacks=StackProfile(100, 1, session)))
    assert "the call view of this run cannot be drawn" in section(text, "Calls at batch 100")


def test_a_stored_run_prints_the_same_report(tmp_path):
    run = make_run((32, 500), lines=True, stacks=True, warnings=("one",))
    assert shown(load_run(save_run(run, tmp_path / "run.h5"))) == shown(run)


def test_a_run_of_a_machine_that_is_not_described_prints():
    assert "CPU not known" in shown(known_run(machine={}))


def test_the_text_report_ignores_the_terminal_around_it(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("FORCE_COLOR", "1")
    run = make_run((32, 500))
    assert report_text(run) == shown(run, 100, force_terminal=False)


def claim(holds: bool | None, claimed: float | None = 2.0) -> Claim:
    return Claim(
        "speedup of a step", claimed, "2 x", 1.5, "1.50 x (1.40 to 1.60)", "at least 2", holds, "A note. " * 20
    )


def test_a_claim_of_a_source_is_a_block_that_fits_a_terminal():
    source = Reproduction(
        "stepiii",
        "A title",
        (("data", "digits"),),
        ("The seed is ours.",),
        ("5 epochs",),
        (claim(False), claim(None, claimed=None)),
        (Table("Steps", "medians", ("form", "step"), (("a", "1 ms"),)),),
        (Figure("loss", "Loss by epoch.", ()),),
        make_run().machine,
    )
    buffer = io.StringIO()
    print_reproductions([source, source], Console(file=buffer, width=80))
    text = buffer.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    assert "  measured  1.50 x (1.40 to 1.60) (0.750 times the claim)\n" in text
    assert "  verdict   does not hold; rule: at least 2\n" in text
    assert "  verdict   not settled" in text
    assert "Steps  medians\n  form  step\n  a     1 ms\n" in text
    assert "Figure loss  Loss by epoch." in text
    assert text.count("shortened  5 epochs") == 2
    assert text.count("AMD EPYC 9R14") == 1
    assert reproductions_text([source]).startswith("stepiii  A title\n")
