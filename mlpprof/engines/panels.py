"""Matrices cut into panels: the memory order in which `tiles` reads and writes all matrices of a training step.

A matrix with a row for each sample (X, A[l], delta[l]) or for each input of a layer (the transposed weights) is cut
into panels of some columns. A panel lies in memory as a whole, row after row:

    columns 0..23       24..47            memory:  panel 0: row 0, row 1, ... row m - 1;  panel 1: row 0, row 1, ...
    +---------------+---------------+
    | row 0         | row 0         |     A product walks along one panel of each of its matrices. So the numbers
    | row 1         | row 1         |     that it needs next are always beside each other, in a few pages of memory,
    | ...           | ...           |     and rows that are a power of two apart do not push each other out of the
    +---------------+---------------+     cache.

Nothing is ever packed for a product: the products write panels, and the weights stay in panels from step to step. The
samples of a batch can be gathered into panels, but a product with the samples may also read them where they are.
Columns are added up to a multiple of UNIT. Their weights, activations and deltas stay 0.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from mlpprof.engines.numba_passes import COMPILE, SIGMOID, TANH
from mlpprof.engines.tiles import HERE, INTO_SECOND_CACHE, UNIT, ask_for, transpose
from mlpprof.model.interface import Array, Parameters
from mlpprof.model.network import Network

INPUT_UNITS = 50
"""A panel of the input has at most this many units. It is only read, so registers do not limit it."""
AHEAD = 2
"""The gather asks for a row this many rows before it copies it, because rows at random places in memory come late."""
LINE = 64
"""The bytes in a line of the cache."""


class Plan(NamedTuple):
    """How the layers 0..L of a network are cut into panels.

    n: neurons. cuts: the columns at which the panels of all layers begin and end; those of layer l are cuts[first[l]]
    to cuts[first[l + 1] - 1]. W, b: where W[l] and b[l] begin in a flat block of parameters. columns: where A[l] begins
    in a flat block of activations of one sample. rows: the rows of W[l], which are the columns of layer l - 1.
    """

    n: Array
    cuts: Array
    first: Array
    W: Array
    b: Array
    columns: Array
    rows: Array


def plan_of(network: Network, itemsize: int) -> Plan:
    """The panels that suit the registers of this machine; a layer's panels are equally wide, as far as possible."""
    n = np.array(network.layers)
    units = -(-n // UNIT)
    cuts: list[int] = []
    first = [0]
    for l, total in enumerate(units.tolist()):
        panels = -(-total // (INPUT_UNITS if l == 0 else HERE.widest(itemsize)))
        bounds = [total * p // panels for p in range(panels + 1)]
        cuts += [UNIT * bound for bound in bounds]
        first.append(len(cuts))
    padded = UNIT * units
    weights = np.concatenate([[0, 0], np.cumsum(padded[1:] * padded[:-1])])
    biases = np.concatenate([[0, 0], np.cumsum(padded[1:])])
    return Plan(
        n,
        np.array(cuts),
        np.array(first),
        weights[:-1],
        weights[-1] + biases[:-1],
        np.concatenate([[0], np.cumsum(padded)]),
        np.concatenate([[0], padded[:-1]]),
    )


def widths_of(plan: Plan, itemsize: int) -> tuple[Any, ...]:
    """For each number of units that a panel may have, None if no panel of layers 1..L has it.

    None is a type of its own for numba, so that products are compiled only for the widths that a network has.
    """
    used = {int(width) // UNIT for width in np.diff(plan.cuts[plan.first[1] :])}
    return tuple(True if width in used else None for width in range(1, HERE.widest(itemsize) + 1))


def aligned(size: int, dtype: np.dtype[Any]) -> Array:
    """An array (size,) of zeros that begins at a line of the cache, so that few registers are read from two lines."""
    block = np.zeros(size * dtype.itemsize + LINE, np.uint8)
    start = -block.ctypes.data % LINE
    return block[start : start + size * dtype.itemsize].view(dtype)


def scratch_of(plan: Plan, dtype: np.dtype[Any]) -> Array:
    """Room for the largest panel that `turn` writes."""
    return aligned(UNIT * HERE.widest(dtype.itemsize) * int(np.diff(plan.columns).max()), dtype)


def pack(plan: Plan, parameters: Parameters) -> Array:
    """A flat block with all weights, transposed and in panels, and then all biases."""
    block = aligned(int(plan.b[-1] + plan.columns[-1] - plan.columns[-2]), parameters[0][0].dtype)
    for l, (W, b) in enumerate(parameters, start=1):
        for panel, start, end in weight_panels(plan, block, l):
            panel[: W.shape[1], : end - start] = W[start:end].T
        block[plan.b[l] : plan.b[l] + b.size] = b
    return block


def unpack(plan: Plan, block: Array) -> Parameters:
    """W (n_l, n_{l-1}) and b (n_l,) of layers 1..L, as copies."""
    found = []
    for l in range(1, len(plan.n)):
        n, k = plan.n[l], plan.n[l - 1]
        W = np.empty((n, k), block.dtype)
        for panel, start, end in weight_panels(plan, block, l):
            W[start:end] = panel[:k, : end - start].T
        found.append((W, block[plan.b[l] : plan.b[l] + n].copy()))
    return found


def weight_panels(plan: Plan, block: Array, l: int) -> list[tuple[Array, int, int]]:
    """The panels of W[l] as views (inputs, neurons), each with its first neuron and the one after its last."""
    found = []
    rows = plan.rows[l]
    for start, end in itertools.pairwise(plan.cuts[plan.first[l] : plan.first[l + 1]].tolist()):
        at = plan.W[l] + rows * start
        panel = block[at : at + rows * (end - start)].reshape(rows, end - start)
        found.append((panel, start, min(end, int(plan.n[l]))))
    return found


def gains_of(plan: Plan, codes: Array, dtype: np.dtype[Any]) -> Array:
    """The gain of every column of A (see `tiles`): without it, a column that is no neuron would become sigmoid(0)."""
    gains = np.zeros(plan.columns[-1], dtype)
    for l in range(1, len(plan.n)):
        if codes[l] in (SIGMOID, TANH):
            width = plan.n[l] if codes[l] == SIGMOID else plan.columns[l + 1] - plan.columns[l]
            gains[plan.columns[l] : plan.columns[l] + width] = 1 if codes[l] == SIGMOID else 2
    return gains


@intrinsic
def fetch_ahead(typing, values, row, left, right):  # type: ignore[no-untyped-def]
    """Ask for some columns in a row of a matrix (N, n), so that they are in the cache when they are needed."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        matrix = context.make_array(signature.args[0])(context, builder, arguments[0])
        _, columns = cgutils.unpack_tuple(builder, matrix.shape)
        byte = ir.IntType(8).as_pointer()
        size = ir.Constant(columns.type, values.dtype.bitwidth // 8)
        row, left, right = (context.cast(builder, arguments[i], signature.args[i], types.intp) for i in (1, 2, 3))
        bytes_in_part = builder.mul(builder.sub(right, left), size)
        place = builder.mul(builder.add(builder.mul(row, columns), left), size)
        start = builder.gep(builder.bitcast(matrix.data, byte), [place])
        with cgutils.for_range_slice(builder, size.type(0), bytes_in_part, size.type(LINE)) as (at, _):
            ask_for(builder, builder.gep(start, [at]), INTO_SECOND_CACHE)
        return context.get_dummy_value()

    return types.void(values, row, left, right), generate


@COMPILE
def gather(plan: Plan, X: Array, index: Array, A: Array, first: int, last: int) -> None:
    """Write the columns first..last of the rows `index` of X into panels at the beginning of A."""
    m = len(index)
    for i in range(m):
        if i + AHEAD < m:
            fetch_ahead(X, index[i + AHEAD], first, last)
        x = X[index[i]]
        for p in range(plan.first[0], plan.first[1] - 1):
            start, end = plan.cuts[p], plan.cuts[p + 1]
            left, right = max(start, first), min(end, last)
            if left < right:
                at = m * start + i * (end - start) - start
                row, here = A[at + left : at + right], x[left:right]
                for k in range(here.size):
                    row[k] = here[k]
                if right == x.size:
                    A[at + right : at + end] = 0


@COMPILE
def take_targets(Y: Array, index: Array, T: Array) -> None:
    """Write the rows `index` of Y into T (m, n_L)."""
    for i in range(len(index)):
        y, t = Y[index[i]], T[i]
        for j in range(y.size):
            t[j] = y[j]


@COMPILE
def turn(plan: Plan, theta: Array, l: int, start: int, end: int, turned: Array) -> None:
    """Write the columns start..end of W[l] (n_l, n_{l-1}) into one panel: its rows are neurons of layer l."""
    width = end - start
    for p in range(plan.first[l], plan.first[l + 1] - 1):
        left, right = plan.cuts[p], plan.cuts[p + 1]
        at = plan.W[l] + plan.rows[l] * left + start * (right - left)
        for k in range(0, width, UNIT):
            for j in range(left, right, UNIT):
                block = at + k * (right - left) + j - left
                transpose(theta, block, right - left, turned, j * width + k, width)
