"""The roofline: limit times and the bound by hand, the reason in words, the table, the JSON and the picture."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from rich.console import Console
from runs import make_run

from mlpprof.instrument.needed_work import mark_useful
from mlpprof.machine.limits import Limits
from mlpprof.machine.roofline import Ceiling, bound_s, label_points, phase_points, run_bounds
from mlpprof.model import Network
from mlpprof.report.distance import distance
from mlpprof.report.figures.gallery import write_figure
from mlpprof.report.figures.roofline import has_roofline, roofline_text
from mlpprof.report.json_documents import profile_json
from mlpprof.report.story import Story
from mlpprof.report.terminal.profile import print_run, report_text
from mlpprof.results import Operation, Run
from mlpprof.results.on_disk import load_run, save_run

GFLOPS, GB, GELEM = "GFLOP/s", "GB/s", "Gelem/s"
LIMITS: Limits = {
    "gemm_float32": {"value": 100.0, "unit": GFLOPS},
    "product_float32_70x784x500": {"value": 50.0, "unit": GFLOPS},
    "bandwidth_64KiB": {"value": 40.0, "unit": GB},
    "bandwidth_1MiB": {"value": 80.0, "unit": GB},
    "bandwidth_8MiB": {"value": 60.0, "unit": GB},
    "bandwidth_64MiB": {"value": 20.0, "unit": GB},
    "bandwidth_256MiB": {"value": 10.0, "unit": GB},
    "exp_float32": {"value": 0.5, "unit": GELEM},
    "tanh_float32": {"value": 1.0, "unit": GELEM},
    "log_float32": {"value": 0.5, "unit": GELEM},
    "expit_float32": {"value": 0.25, "unit": GELEM},
    "ufunc_call": {"value": 0.5, "unit": "us"},
    "page_fault": {"value": 1.0, "unit": "us"},
}
SMALL_DATA = Ceiling(LIMITS, data_bytes=1 << 16)


def operation(kind: str, name: str, shape: tuple[int, ...], flop: int, moved: int, **others: object) -> Operation:
    plain = Operation(
        "forward", 1, "weighted sum", 1, kind, name, "float32", shape, "", 1, flop, flop, moved, moved, 0, 0
    )
    return replace(plain, **others)


def run_with(operations: list[Operation], limits: Limits = LIMITS, variant: str = "cached") -> Run:
    run = make_run(variant=variant)
    result = replace(run.results[0], operations=tuple(operations))
    return replace(run, results=(result,), limits=dict(limits))


def statements() -> list[Operation]:
    """What the labels of `make_run` could have done."""
    network, m = Network((784, 70, 30, 10), momentum=0.9, l2=1e-4), 500
    n = network.layers
    found = [operation("copy", "gather", (m, 784), 0, 8 * m * 784, phase="fetch_batch", layer=None, label="gather")]
    for l in (1, 2, 3):
        flop = 2 * m * n[l] * n[l - 1]
        found += [
            operation("product", "matmul", (n[l], n[l - 1], m), flop, 4 * flop // 100, layer=l),
            operation("evaluation", "expit", (n[l], m), m * n[l], 8 * m * n[l], layer=l, label="activation"),
            operation("product", "matmul", (n[l], m, n[l - 1]), flop, 9, phase="backward", layer=l, label="gradient"),
        ]
    return list(mark_useful(found, network, m))


def test_a_product_takes_its_flop_at_the_rate_of_its_shape_and_else_at_the_peak():
    known = operation("product", "matmul", (70, 784, 500), 54_880_000, 1)
    assert SMALL_DATA.operation_s(known) == pytest.approx(54_880_000 / 50e9)
    transposed = replace(known, shape=(500, 784, 70))
    assert SMALL_DATA.operation_s(transposed) == SMALL_DATA.operation_s(known)
    assert SMALL_DATA.operation_s(replace(known, shape=(1, 2, 3))) == pytest.approx(54_880_000 / 100e9)


def test_an_evaluation_takes_its_elements_at_the_rate_of_its_function_or_its_bytes():
    slow = operation("evaluation", "expit", (1000,), 1000, 8000)
    assert SMALL_DATA.operation_s(slow) == pytest.approx(1000 / 0.25e9)
    unknown = replace(slow, name="erf")
    assert SMALL_DATA.operation_s(unknown) == pytest.approx(1000 / 1e9)  # the fastest that was measured
    wide = replace(slow, bytes_moved=1 << 30)
    assert SMALL_DATA.operation_s(wide) == pytest.approx((1 << 30) / 10e9)


@pytest.mark.parametrize(
    ("moved", "rate"), [(100, 40), (1 << 17, 80), (3 << 20, 80), (32 << 20, 60), (100 << 20, 20), (1 << 30, 10)]
)
def test_bytes_take_the_better_bandwidth_of_the_two_sizes_around_them(moved, rate):
    added = operation("arithmetic", "add", (9,), 9, moved)
    assert SMALL_DATA.operation_s(added) == pytest.approx(moved / (rate * 1e9))
    repeated = replace(added, times=4, bytes_moved=4 * moved)
    assert SMALL_DATA.operation_s(repeated) == pytest.approx(4 * moved / (rate * 1e9))


def test_a_gather_reads_from_where_the_data_set_lies():
    gather = operation("copy", "gather", (500, 784), 0, 2 << 20)
    half = 1 << 20
    from_memory = Ceiling(LIMITS, data_bytes=188e6)
    assert SMALL_DATA.operation_s(gather) == pytest.approx(2 * half / 80e9)
    assert from_memory.operation_s(gather) == pytest.approx(half / 20e9 + half / 80e9)


def test_the_bound_is_the_sum_of_what_the_mathematics_needs():
    network, m = Network((784, 70)), 500
    products = 2 * m * 784 * 70 / 50e9 + 2 * m * 784 * 70 / 100e9  # forward's shape is known, gradient's is not
    sigmoids = m * 70 / 1e9  # by the fastest form, tanh
    logarithms = 2 * m * 70 / 0.5e9
    half = m * (784 + 70) * 4
    gather = 2 * half / 80e9
    assert bound_s(network, m, "float32", SMALL_DATA) == pytest.approx(products + sigmoids + logarithms + gather)


def test_the_bounds_differ_in_the_rate_of_the_products_alone():
    run = run_with([], LIMITS | {"tiles_float32_70x784x500": {"value": 80.0, "unit": GFLOPS}})
    network, result = replace(run.network, layers=(784, 70)), run.results[0]
    bounds = run_bounds(replace(run, network=network), result)
    forward = 2 * result.batch * 784 * 70
    assert bounds.blas_s - bounds.best_kernel_s == pytest.approx(forward / 50e9 - forward / 80e9)
    assert bounds.blas_s - bounds.large_squares_s == pytest.approx(forward / 50e9 - forward / 100e9)


def test_the_minimum_says_whose_products_it_counts_with():
    run = run_with(statements())
    assert "with the best products measured at these shapes, and" in distance(run, run.results[0]).minimum
    tiles = run_with(statements(), LIMITS | {"tiles_float32_70x784x500": {"value": 80.0, "unit": GFLOPS}})
    assert "with the products of NumPy's BLAS," in distance(tiles, tiles.results[0]).minimum
    assert "(NumPy's BLAS or blocked), and" in " ".join(report_text(tiles).split())


def test_a_network_of_relu_and_identity_needs_no_evaluations():
    plain = Network((20, 10, 5), hidden="relu", output="identity", loss="squared_error")
    with_tanh = Network((20, 10, 5), hidden="tanh", output="identity", loss="squared_error")
    difference = bound_s(with_tanh, 100, "float32", SMALL_DATA) - bound_s(plain, 100, "float32", SMALL_DATA)
    assert difference == pytest.approx(100 * 10 / 1e9)


def test_points_add_up_the_operations_of_their_phase_or_label():
    run = run_with(statements())
    result, ceiling = run.results[0], Ceiling.of(run)
    forward = next(p for p in phase_points(result, ceiling) if p.phase == "forward")
    assert forward.flop == sum(o.flop for o in statements() if o.phase == "forward")
    sums = [p for p in label_points(result, ceiling) if p.label == "weighted sum"]
    assert [p.flop for p in sums] == [54_880_000, 2_100_000, 300_000]
    assert sums[0].limit_s == pytest.approx(54_880_000 / 50e9)
    assert sums[0].share_of_limit == pytest.approx(sums[0].limit_s / sums[0].time_s)
    assert sums[0].gflops == pytest.approx(54_880_000 / sums[0].time_s / 1e9)
    uncounted = next(p for p in label_points(result, ceiling) if p.label == "momentum")
    assert (uncounted.limit_s, uncounted.gflops, uncounted.share_of_limit) == (None, None, None)


def test_without_limits_there_is_no_bound_and_no_share():
    run = run_with(statements(), limits={})
    assert run_bounds(run, run.results[0]) is None
    assert distance(run, run.results[0]) is None
    assert all(p.share_of_limit is None for p in label_points(run.results[0], Ceiling.of(run)))
    assert "not measured" in report_text(run)


def test_limits_of_another_precision_do_not_hold():
    assert Ceiling.of(replace(run_with(statements()), dtype="float64")) is None


def sentence(run: Run) -> str:
    far = distance(run, run.results[0])
    assert far is not None
    assert far.times == pytest.approx(run.results[0].step_s.median / far.bounds.blas_s)
    return far.sentence


def slowed(run: Run, label: str, factor: float) -> Run:
    """The run with the time under a label multiplied, and the step longer by as much."""
    result = run.results[0]
    labels = tuple(replace(x, step_s=x.step_s * factor) if x.label == label else x for x in result.labels)
    return replace(run, results=(replace(result, labels=labels),))


def only(run: Run, **figures: object) -> Run:
    """The run with its first operation alone, changed."""
    result = run.results[0]
    return replace(run, results=(replace(result, operations=(replace(result.operations[0], **figures),)),))


def test_the_reason_names_the_statement_and_what_is_wrong_with_it():
    assert "times the theoretical minimum on this machine; main reasons: the" in sentence(run_with(statements()))
    wasted = run_with([operation("evaluation", "expit", (70, 500), 35_000, 8, label="activation", useful_flop=0)])
    assert "the activation of layer 1" in sentence(wasted)
    assert "computes values that nothing uses" in sentence(wasted)
    moving = run_with([operation("copy", "store", (70, 500), 0, 560_000, label="activation", useful_bytes=0)])
    assert "only moves data" in sentence(moving)
    many = run_with([operation("arithmetic", "add", (70,), 70_000, 560_000, label="activation", times=1_000)])
    assert "makes 1,000 calls of NumPy" in sentence(many)
    product = run_with([operation("product", "matmul", (70, 784, 500), 54_880_000, 1)])
    assert "of 50.0 GFLOP/s (a product of 70 x 784 by 784 x 500)" in sentence(product)


def test_the_report_shows_the_roofline_and_the_reason():
    text = report_text(run_with(statements()))
    assert "Roofline" in text
    assert "times the theoretical minimum" in text
    assert "54.9" in text  # Mflop of the weighted sum


def test_operations_that_could_not_be_counted_are_named():
    run = run_with(statements())
    result = replace(run.results[0], uncounted=("svd", "[bold]odd"))
    buffer = io.StringIO()
    print_run(replace(run, results=(result,)), Console(file=buffer, width=100))
    assert "not counted: svd, [bold]odd" in buffer.getvalue()


def test_the_json_has_figures_and_null_where_there_are_none():
    document = profile_json(run_with(statements()))
    result = document["results"][0]
    assert result["bound_best_kernel_s"] == result["bound_s"] > result["bound_large_squares_s"] > 0
    forward = result["phases"]["forward"]
    assert forward["flop"] == 57_280_000 + 55_000
    assert forward["gflops"] == pytest.approx(1e-9 * forward["flop"] / forward["median_s"])
    assert forward["share_of_limit"] > 0
    assert forward["bytes"] > 0
    label = next(x for x in result["labels"] if x["label"] == "momentum")
    assert [label[key] for key in ("flop", "bytes", "gflops", "share_of_limit")] == [None] * 4
    bare = profile_json(make_run())["results"][0]
    assert bare["bound_s"] is None
    assert {phase["flop"] for phase in bare["phases"].values()} == {None}


def test_counts_and_limits_survive_the_store(tmp_path):
    run = run_with(statements())
    run = replace(run, results=(replace(run.results[0], uncounted=("svd",)),))
    loaded = load_run(save_run(run, tmp_path / "run.h5"))
    assert loaded.results[0].operations == run.results[0].operations
    assert loaded.results[0].uncounted == ("svd",)
    assert loaded.limits == run.limits


def test_the_picture_is_drawn_as_svg_with_its_names_and_roofs(tmp_path):
    story = Story.of(runs=[run_with(statements())])
    svg = write_figure(tmp_path / "roof.svg", story, "roofline")
    text = "".join(ElementTree.parse(svg).getroot().itertext())
    assert "weighted sum of layer 1" in text
    assert "largest products: 100" in text


def test_the_picture_is_described_in_words():
    run = run_with(statements())
    assert "weighted sum of layer 1 in forward at" in roofline_text(run, run.results[0])


def test_a_run_without_counts_or_limits_has_no_picture():
    run = run_with(statements())
    assert has_roofline(run, run.results[0])
    assert not has_roofline(replace(run, limits={}), run.results[0])
    assert not has_roofline(make_run(), make_run().results[0])


@pytest.mark.parametrize("width", [72, 80, 100, 120])
def test_the_table_keeps_every_statement_and_every_figure_in_a_narrow_terminal(width):
    run = run_with(statements())

    def printed(columns: int) -> str:
        buffer = io.StringIO()
        print_run(run, Console(file=buffer, width=columns))
        return buffer.getvalue().partition("Roofline")[2].partition("Agreement")[0]

    text = printed(width)
    assert max(map(len, text.splitlines())) <= width
    figures = {figure for line in printed(300).splitlines() for figure in re.findall(r"[\d.]+ (?:[mµ]?s|KiB|%)", line)}
    assert figures <= set(re.findall(r"[\d.]+ (?:[mµ]?s|KiB|%)", " ".join(text.split())))
    assert "whole phase" in text
    assert "weighted sum" in text
