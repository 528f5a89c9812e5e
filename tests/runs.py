"""Realistic runs without a clock: costs from a small model of calls, bytes and flops, noise from a seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np

from mlpprof.model import PHASES, Network
from mlpprof.results import (
    BatchResult,
    CheckResult,
    DataRecord,
    Expression,
    LabelSamples,
    LineProfile,
    LineTime,
    Operation,
    PhaseSamples,
    ProgramRecord,
    Run,
    Samples,
    StackProfile,
    VariantRecord,
)

CALL_S, BYTES_PER_S, FLOPS_PER_S, ELEMENT_S = 1.5e-6, 9e9, 9e10, 1.2e-9
UNLABELLED_SHARE = {"fetch_batch": 0.02, "forward": 0.03, "loss": 0.05, "backward": 0.04, "update": 0.06}

SOURCE = '''"""Derivatives from what forward kept.

Idea: A (1 - A) needs no second evaluation of the sigmoid.
"""

import numpy as np

from mlpprof.model import ACTIVATIONS, loss_of

PARENT = "contiguous"


class MLP:
    DTYPE = np.float32

    def fetch_batch(self, X, Y, index):
        self.A[0] = X[index].T  # phase: gather
        self.Y = Y[index].T  # phase: gather

    def forward(self):
        for l in range(1, self.L + 1):
            Z = self.W[l] @ self.A[l - 1]  # phase: weighted sum
            self.A[l] = self.activation[l].value(Z)  # phase: activation

    def backward(self):
        m = self.Y.shape[1]
        delta = (self.A[self.L] - self.Y) / m  # phase: error
        for l in reversed(range(1, self.L + 1)):
            self.dW[l] = delta @ self.A[l - 1].T  # phase: gradient
            if l > 1:
                D = self.activation[l - 1].derivative_from_A(self.A[l - 1])  # phase: derivative
                delta = (self.W[l].T @ delta) * D  # phase: propagate
'''

MACHINE: dict[str, Any] = {
    "platform": "Linux-6.1-x86_64",
    "cpu_model_name": "AMD EPYC 9R14",
    "cpu_count": 8,
    "cpu_core_count": 4,
    "cpu_simd": ["avx2", "avx512f"],
    "cpu_caches": [{"level": 2, "type": "Unified", "size_bytes": 1 << 20}],
    "mem_total_bytes": 24 << 30,
    "load_avg_1min": 0.31,
    "python_version": "3.11.7",
    "numpy_version": "2.4.6",
    "blas": [
        {"vendor": "openblas", "version": "0.3.31", "kernel": "SkylakeX", "threads": 1, "loaded_by": "numpy"},
    ],
    "blas_environment": {},
}


def make_run(
    batches: Sequence[int] = (500,),
    *,
    seed: int = 0,
    rounds: int = 6,
    steps: int = 10,
    layers: tuple[int, ...] = (784, 70, 30, 10),
    variant: str = "cached",
    workload: str = "digits",
    checked: bool = True,
    separable: bool = True,
    labelled: bool = True,
    lines: bool = False,
    stacks: bool = False,
    warnings: tuple[str, ...] = (),
) -> Run:
    """A run as `mlpprof profile` would have measured it; the same seed gives the same samples."""
    rng = np.random.default_rng(seed)
    network = Network(layers, momentum=0.9, l2=1e-4)
    results = tuple(_batch_result(rng, network, m, rounds, steps, separable, labelled) for m in batches)
    return Run(
        created="2026-11-21T00:30:05Z",
        mlpprof_version="0.1.0",
        command=f"mlpprof profile {variant}",
        variant=VariantRecord(
            name=variant,
            summary="Derivatives from what forward kept.",
            parent="contiguous",
            source=SOURCE,
            source_sha256=hashlib.sha256(SOURCE.encode()).hexdigest(),
        ),
        workload=workload,
        network=network,
        dtype="float32",
        seed=seed,
        threads=1,
        native_blas=False,
        data=DataRecord("digits (embedded)", 4000, hashlib.sha256(b"digits").hexdigest()),
        check=CheckResult(variant, True, 2.1e-12, 1e-10, 2, "gradients against contiguous") if checked else None,
        machine=json.loads(json.dumps(MACHINE)),
        results=results,
        lines=_line_profile(batches[-1], results[-1]) if lines else None,
        stacks=_stack_profile(batches[-1]) if stacks else None,
        warnings=warnings,
    )


PROGRAM_SOURCE = '''"""Digits with a network of my own."""

import numpy as np


def step(net, X, Y):
    net.forward(X)
    net.update(Y)


class Net:
    def forward(self, X):
        self.Z1 = self.W1 @ X
        self.A1 = sigmoid(self.Z1)

    def update(self, Y):
        d2 = self.A2 - Y
        for i in range(Y.shape[1]):
            self.W1 -= np.outer(d1[:, i], X[:, i])
'''

EXPRESSIONS = (
    ("Net.forward", 13, "self.W1 @ X", 1, 0.11, "product", "matmul", (30, 784, 500), 23_520_000),
    ("Net.forward", 14, "sigmoid(self.Z1)", 1, 0.055, "evaluation", "exp", (30, 500), 60_000),
    ("Net.update", 17, "self.A2 - Y", 1, 0.0005, "arithmetic", "subtract", (10, 500), 5_000),
    ("Net.update", 18, "Y.shape[1]", 1, 0.0004, "python", "", (), 0),
    ("Net.update", 19, "np.outer(d1[:, i], X[:, i])", 500, 0.6, "product", "outer", (30, 1, 784), 11_760_000),
    ("Net.update", 19, "self.W1 -= np.outer(d1[:, i], X[:, i])", 500, 0.2, "arithmetic", "subtract", (30, 784), 0),
)
"""Phase, line, text, times, share of the step, kind, name, shape, flop."""


def make_program_run(
    *, slower: float = 1.1, lines: bool = False, stacks: bool = False, limits: bool = False, **changes: Any
) -> Run:
    """The run of a program with a step of 20 ms in two phases, which takes `slower` times as long under clocks.

    limits: with those of a machine. changes: of the `ProgramRecord`.
    """
    rng = np.random.default_rng(0)
    total_s = 0.02 * np.exp(0.02 * rng.standard_normal((4, 6)))
    clocked_s = slower * np.median(total_s, axis=1, keepdims=True) * np.ones((4, 3))
    labels, expressions, operations = [], [], []
    for phase, line, text, times, share, kind, name, shape, flop in EXPRESSIONS:
        samples = share * clocked_s * np.exp(0.01 * rng.standard_normal(clocked_s.shape))
        seconds = tuple(samples.ravel().tolist())
        labels.append(LabelSamples(phase, None, text, samples, times))
        moved = 8 * flop // 10
        figures = {"dtype": "float64" if name else "", "orders": "C·C" if name else "", "flop": flop}
        figures |= {"bytes_moved": moved, "bytes_allocated": moved // 4}
        expressions.append(
            Expression(
                "net.py",
                line,
                9,
                text,
                phase,
                times,
                seconds,
                kind,
                name,
                shape=shape,
                **figures,
            )
        )
        if name:
            operations.append(
                Operation(
                    phase, None, text, line, kind, name, shape=shape, times=times, useful_flop=None, useful_bytes=None,
                    bytes_copied=0, **figures,
                )
            )  # fmt: skip
    phases = {
        phase: PhaseSamples(
            np.sum([label.step_s for label in labels if label.phase == phase], axis=0), 240_000.0, 120_000.0
        )
        for phase in ("Net.forward", "Net.update")
    }
    result = BatchResult(
        batch=0,
        steps_per_epoch=0,
        total_s=total_s,
        phases_pass_s=clocked_s,
        labels_pass_s=clocked_s,
        phases=phases,
        labels=tuple(labels),
        losses=np.empty(0),
        warmup_steps=5,
        operations=tuple(operations),
    )
    program = ProgramRecord(
        step="net.py:step",
        phases_from="calls",
        expressions=tuple(expressions),
        sources={"net.py": PROGRAM_SOURCE},
        arguments=("--epochs", "3"),
        is_found=True,
        loading_s=2.5,
        runs=2,
        measuring_s=10.0,
        page_faults=12.0,
        notes=("the step is long",),
    )
    run = make_run(batches=(500,), lines=lines, stacks=stacks)
    line_times = (LineTime(13, 50, 0.3, "net.py"), LineTime(19, 50 * 500, 0.6, "net.py"))
    ceiling = {"gemm_float64": {"value": 40.0, "unit": "GFLOP/s"}, "bandwidth_1MiB": {"value": 20.0, "unit": "GB/s"}}
    return replace(
        run,
        command="mlpprof profile net.py -- --epochs 3",
        variant=VariantRecord(
            "net.py",
            "Digits with a network of my own.",
            None,
            PROGRAM_SOURCE,
            hashlib.sha256(PROGRAM_SOURCE.encode()).hexdigest(),
        ),
        workload=None,
        network=None,
        dtype="float64",
        seed=None,
        threads=None,
        data=None,
        check=None,
        results=(result,),
        lines=LineProfile(0, 50, 1.0, line_times) if lines else None,
        stacks=replace(run.stacks, batch=0) if run.stacks is not None else None,
        warnings=program.notes,
        limits=ceiling if limits else {},
        program=replace(program, **changes),
    )


def _statements(network: Network, m: int) -> Iterator[tuple[str, int | None, str, float]]:
    """(phase, layer, label, seconds): float32, so 4 bytes an element."""
    n = network.layers
    yield "fetch_batch", None, "gather", _cost(moved=8 * m * (n[0] + n[-1]), calls=3)
    for l in range(1, network.depth + 1):
        yield "forward", l, "weighted sum", _cost(flops=2 * m * n[l] * n[l - 1])
        yield "forward", l, "activation", _cost(elements=m * n[l], moved=8 * m * n[l], calls=2)
    yield "loss", None, "cost", _cost(elements=2 * m * n[-1], calls=6)
    yield "backward", None, "error", _cost(moved=12 * m * n[-1], calls=2)
    for l in reversed(range(1, network.depth + 1)):
        yield "backward", l, "gradient", _cost(flops=2 * m * n[l] * n[l - 1])
        yield "backward", l, "regularize", _cost(moved=12 * n[l] * n[l - 1], calls=2)
        if l > 1:
            yield "backward", l - 1, "derivative", _cost(moved=16 * m * n[l - 1], calls=2)
            yield "backward", l - 1, "propagate", _cost(flops=2 * m * n[l] * n[l - 1], moved=12 * m * n[l - 1])
    for l in range(1, network.depth + 1):
        yield "update", l, "momentum", _cost(moved=16 * n[l] * n[l - 1], calls=2)
        yield "update", l, "descend", _cost(moved=12 * n[l] * n[l - 1], calls=2)


def _cost(flops: float = 0, moved: float = 0, elements: float = 0, calls: int = 1) -> float:
    return calls * CALL_S + flops / FLOPS_PER_S + moved / BYTES_PER_S + elements * ELEMENT_S


def _batch_result(
    rng: np.random.Generator, network: Network, m: int, rounds: int, steps: int, separable: bool, labelled: bool
) -> BatchResult:
    drift = np.exp(0.08 * rng.standard_normal((rounds, 1)))

    def sampled(seconds: float) -> Samples:
        """Noise of single steps, now and then an interruption, and the drift that all passes of a round share."""
        samples = seconds * drift * np.exp(0.02 * rng.standard_normal((rounds, steps)))
        return np.where(rng.random(samples.shape) < 0.01, 1.6 * samples, samples)

    statements = list(_statements(network, m))
    labels = tuple(
        LabelSamples(p, l, label, sampled(s), 2 if label == "gather" else 1) for p, l, label, s in statements
    )
    base = {p: sum(s for q, _, _, s in statements if q == p) * (1 + UNLABELLED_SHARE[p]) for p in PHASES}
    held = 4.0 * m * sum(network.layers)
    phases = {
        phase: PhaseSamples(
            sampled(seconds),
            bytes_allocated=float(round(held * seconds / base["backward"])),
            peak_bytes=float(round(0.4 * held * seconds / base["backward"])),
            page_faults=held * seconds / base["backward"] / 4096 if m >= 5000 else 0.0,
        )
        for phase, seconds in base.items()
    }
    whole_s = sum(base.values())
    labels_pass = sum(label.step_s for label in labels) + sampled(0.04 * whole_s)
    phases_pass = sum(phase.step_s for phase in phases.values()) + sampled(1e-6)
    return BatchResult(
        batch=m,
        steps_per_epoch=max(1, 4000 // m),
        total_s=sampled(whole_s),
        phases_pass_s=phases_pass if separable else np.empty((0, 0)),
        labels_pass_s=labels_pass if labelled else np.empty((0, 0)),
        phases=phases if separable else {},
        labels=labels if labelled else (),
        losses=3.2 * np.exp(-0.02 * np.arange(rounds * steps)) + 0.01 * rng.random(rounds * steps),
        warmup_steps=20,
        separable=separable,
    )


def _line_profile(batch: int, result: BatchResult) -> LineProfile:
    steps, wall_s = 50, 50 * result.step_s.median
    weights = {"# phase: gather": 3, "# phase: weighted": 25, "# phase: activation": 20, "for l in": 0.5}
    weights |= {"# phase: error": 1, "# phase: gradient": 26, "# phase: derivative": 7, "# phase: propagate": 14}
    lines = []
    for number, text in enumerate(SOURCE.splitlines(), start=1):
        weight = next((w for mark, w in weights.items() if mark in text), None)
        if weight is not None:
            lines.append(LineTime(number, 3 * steps, wall_s * weight / 100))
    return LineProfile(batch, steps, wall_s, tuple(lines))


def _stack_profile(batch: int) -> StackProfile:
    """What pyinstrument records: (stack of "function, file, line" joined by zero characters, seconds) a sample."""

    def frame(function: str, line: int, file: str = "cached.py") -> str:
        return f"{function}\0{file}\0{line}"

    root = frame("train", 1, "worker.py")
    step = frame("train_step", 40)
    forward, backward = frame("forward", 20), frame("backward", 25)
    sigmoid = frame("sigmoid", 36, "activations.py")
    stacks = [([root, step, forward], 30), ([root, step, forward, sigmoid], 25), ([root, step, backward], 45)]
    session = {
        "start_time": 1795221005.0,
        "duration": 1.0,
        "min_interval": 0.001,
        "max_interval": 0.001,
        "sample_count": 100,
        "start_call_stack": [root],
        "target_description": "Profile of cached",
        "cpu_time": 1.0,
        "sys_path": [],
        "sys_prefixes": [],
        "frame_records": [[stack, 0.001] for stack, n in stacks for _ in range(n)],
    }
    return StackProfile(batch, 50, json.dumps(session))


def assert_equal_records(a: object, b: object, where: str = "run") -> None:
    """Field by field, arrays element by element with their dtype, NaN equal to NaN; says where the two differ."""
    assert type(a) is type(b), f"{where}: {type(a)} and {type(b)}"
    if is_dataclass(a):
        for field in fields(a):
            assert_equal_records(getattr(a, field.name), getattr(b, field.name), f"{where}.{field.name}")
    elif isinstance(a, np.ndarray):
        assert isinstance(b, np.ndarray)
        assert a.dtype == b.dtype, where
        np.testing.assert_array_equal(a, b, err_msg=where, strict=True)
    elif isinstance(a, dict):
        assert isinstance(b, dict)
        assert list(a) == list(b), where
        for key in a:
            assert_equal_records(a[key], b[key], f"{where}[{key!r}]")
    elif isinstance(a, tuple | list):
        assert isinstance(b, tuple | list)
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_equal_records(x, y, f"{where}[{i}]")
    else:
        assert a == b or (a != a and b != b), f"{where}: {a!r} and {b!r}"
