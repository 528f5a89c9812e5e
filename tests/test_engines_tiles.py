"""The products of `blocked`: their machine code for AVX2, AVX-512 and NEON, and the panels of the weights."""

from __future__ import annotations

import re

import numpy as np
import pytest

from mlpprof.model import Network

pytest.importorskip("numba")
import llvmlite.binding as llvm
from llvmlite import ir

from mlpprof.engines.panels import pack, plan_of, unpack
from mlpprof.engines.tiles import (
    AVX2,
    AVX512,
    EVERY_NUMBER,
    FORWARD,
    GRADIENT,
    IN_ORDER,
    LISTED,
    NEON,
    PROPAGATE,
    Registers,
    multiply_function,
)


def machine_code(triple: str, cpu: str, registers: Registers, kind: int, units: int, itemsize: int, form: int) -> str:
    """The assembly of one function for a processor, which need not be the one of this machine."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    module = ir.Module()
    module.triple = triple
    multiply_function(module, kind, units, itemsize, registers, form).linkage = "external"
    parsed = llvm.parse_assembly(str(module))
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu=cpu, opt=3)
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(3))
    builder.getModulePassManager().run(parsed, builder)
    return machine.emit_assembly(parsed)


def innermost_loops(code: str, product: str) -> list[list[str]]:
    """The loops without a branch within them that have a product: from a label to the first jump back to it."""
    blocks = re.split(r"^(\.L\w+):.*$", code, flags=re.MULTILINE)
    found = []
    for label, body in zip(blocks[1::2], blocks[2::2], strict=True):
        lines = [line.strip() for line in body.splitlines()]
        back = [i for i, line in enumerate(lines) if line.endswith(label)]
        if back and any(product in line for line in lines[: back[0]]):
            found.append(lines[: back[0]])
    return found


X86, ARM = "x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"


@pytest.mark.parametrize(
    ("kind", "form"),
    [
        pytest.param(FORWARD, EVERY_NUMBER, id="forward"),
        pytest.param(FORWARD, IN_ORDER, id="forward, samples in an order"),
        pytest.param(FORWARD, LISTED, id="forward, lists of numbers"),
        pytest.param(PROPAGATE, EVERY_NUMBER, id="propagate"),
        pytest.param(GRADIENT, EVERY_NUMBER, id="gradient"),
        pytest.param(GRADIENT, IN_ORDER, id="gradient, samples in an order"),
    ],
)
@pytest.mark.parametrize(
    ("triple", "cpu", "registers", "itemsize", "product", "register", "stack"),
    [
        pytest.param(X86, "haswell", AVX2, 4, "vfmadd231ps", "%ymm", "(%rsp)", id="AVX2"),
        pytest.param(X86, "skylake-avx512", AVX512, 4, "vfmadd231ps", "%zmm", "(%rsp)", id="AVX-512"),
        pytest.param(X86, "skylake-avx512", AVX512, 8, "vfmadd231pd", "%zmm", "(%rsp)", id="AVX-512, float64"),
        pytest.param(ARM, "neoverse-n1", NEON, 4, "fmla", ".4s", "[sp", id="NEON"),
    ],
)
def test_the_sum_of_a_tile_stays_in_full_vector_registers(
    kind, form, triple, cpu, registers, itemsize, product, register, stack
):
    units = registers.widest(itemsize)
    code = machine_code(triple, cpu, registers, kind, units, itemsize, form)
    rows = registers.rows(units, itemsize)
    if form == LISTED:  # several numbers of one row at once
        rows = 4 if registers == NEON else 2
    vectors = -(-units * 8 * itemsize // registers.bytes)
    full_vectors = units * 8 * itemsize // registers.bytes
    memory = re.compile(rf"{re.escape(stack)}|vmov\w+\s+%[xyz]mm\d+, .*\(|st[rp]\s")

    def is_the_tile(loop: list[str]) -> bool:
        products = [line for line in loop if line.startswith(product)]
        full = sum(register in line for line in products)
        return len(products) == rows * vectors and full >= rows * full_vectors and not any(map(memory.search, loop))

    assert any(map(is_the_tile, innermost_loops(code, product)))


def test_a_processor_with_more_registers_gets_wider_panels_and_no_tile_has_more_sums_than_registers():
    assert [registers.widest(4) for registers in (AVX512, AVX2, NEON)] == [9, 3, 3]
    assert [registers.widest(8) for registers in (AVX512, AVX2, NEON)] == [6, 1, 1]
    assert [AVX512.rows(units, 4) for units in range(1, 10)] == [8, 8, 8, 8, 8, 8, 4, 4, 4]


@pytest.mark.parametrize("layers", [(1, 1), (784, 70, 30, 10), (13, 200, 7, 73), (1000, 9)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_weights_come_out_of_their_panels_as_they_went_in(layers, dtype):
    network = Network(layers)
    parameters = [(W, b + 1) for W, b in network.initial_parameters(0, dtype)]
    plan = plan_of(network, np.dtype(dtype).itemsize)
    block = pack(plan, parameters)
    assert np.count_nonzero(block) == network.parameter_count  # the padding is 0
    for ours, theirs in zip(unpack(plan, block), parameters, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))
