"""Lists of the numbers of a batch that are not 0.

Most pixels of a picture such as a handwritten digit are 0. They change no sum, so both products of layer 1 need only
the others: by sample for the forward product, and by feature for the gradient.

             features                 by sample: values, features       by feature: values, samples
    X   0 5 0 2                       0:  5 2   1 3                     0:
        0 0 0 4                       1:  4     3                       1:  5 1   0 2
        0 1 0 3                       2:  1 3   1 3                     2:
                                                                        3:  2 4 3   0 1 2

The lists are made anew for every batch, since this takes less time than the products with the zeros would. So X may
change between two batches. AVX-512 has an instruction that moves the chosen numbers of a register together; elsewhere
the numbers are written one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from mlpprof.engines.numba_passes import COMPILE
from mlpprof.engines.panels import Plan, aligned
from mlpprof.engines.tiles import AVX512, HERE, INT, INTO_SECOND_CACHE, LINE, ask_for
from mlpprof.model.interface import Array

AHEAD = 2
"""The samples that come next are asked for this many samples before they are read."""
PART = 2**16
"""A part of the features has about so many bytes of weights. They are twice as many as the first cache has, but only
those of features that are not 0 are read."""


class Lists(NamedTuple):
    """The numbers of a matrix that are not 0, row by row, as pairs of a number and its column.

    A row is listed in parts: part p has the columns cuts[p] to cuts[p + 1] - 1. The list of part p of row i, among m
    rows, is list p * m + i. Its pairs are those from starts[p * m + i] to ends[p * m + i] - 1. values: number and
    column in turn. places: the same memory, read as unsigned integers.
    """

    values: Array
    places: Array
    starts: Array
    ends: Array
    cuts: Array


def room_by_sample(plan: Plan, m: int, dtype: np.dtype[Any]) -> Lists:
    """Room for m samples, one after another, in parts whose weights fit into the cache."""
    n, width = int(plan.n[0]), int(np.diff(plan.cuts[plan.first[1] : plan.first[2]]).max())
    parts = -(-n * width * dtype.itemsize // PART)
    cuts = np.arange(parts + 1) * n // parts
    cuts[:-1] -= cuts[:-1] % (LINE // dtype.itemsize)
    return lists_of(m * n + LINE // dtype.itemsize, np.zeros(m * parts, np.int64), cuts, dtype)


def room_by_feature(plan: Plan, m: int, dtype: np.dtype[Any]) -> Lists:
    """Room for all features, each with a list that has room for all of m samples.

    This room is an odd number of lines of the cache, so that the lists do not push each other out of it.
    """
    n, in_line = int(plan.n[0]), LINE // (2 * dtype.itemsize)
    room = in_line * (m // in_line + 1 | 1)
    return lists_of(n * room, np.arange(n, dtype=np.int64) * room, np.array([0, m]), dtype)


def lists_of(pairs: int, starts: Array, cuts: Array, dtype: np.dtype[Any]) -> Lists:
    """Empty lists that begin at `starts`, with room for so many pairs."""
    values = aligned(2 * pairs, dtype)
    return Lists(values, values.view(f"u{dtype.itemsize}"), starts, starts.copy(), cuts)


def as_wide(builder: ir.IRBuilder, place: ir.Value, bits: int) -> ir.Value:
    """A place as an integer of so many bits, as wide as the number beside it."""
    return builder.trunc(place, ir.IntType(bits)) if bits < place.type.width else place


@intrinsic
def append_numbers(typing, X, row, later, first, last, values, at):  # type: ignore[no-untyped-def]
    """Write what is not 0 in X[row, first:last], and its columns, as pairs from `at` on; returns the place after them.

    The row `later` of X is asked for meanwhile.
    """
    bits = X.dtype.bitwidth

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, given: Sequence[ir.Value]) -> ir.Value:
        matrix, pairs = (context.make_array(signature.args[n])(context, builder, given[n]) for n in (0, 5))
        row, later, first, last, at = (
            context.cast(builder, given[n], signature.args[n], types.int64) for n in (1, 2, 3, 4, 6)
        )
        columns = cgutils.unpack_tuple(builder, matrix.shape)[1]
        lanes, real, integer = 8 * LINE // bits, pairs.data.type.pointee, ir.IntType(bits)
        vector, numbers = ir.VectorType(real, lanes), ir.VectorType(integer, lanes)
        here, next_row = (builder.gep(matrix.data, [builder.mul(one, columns)]) for one in (row, later))
        end = cgutils.alloca_once_value(builder, at)

        def place() -> ir.Value:
            return builder.gep(pairs.data, [builder.shl(builder.load(end), INT(1))])

        def append_one(number: ir.Value, column: ir.Value, chosen: ir.Value) -> None:
            builder.store(number, place())
            builder.store(builder.bitcast(column, real), builder.gep(place(), [INT(1)]))
            builder.store(builder.add(builder.load(end), builder.zext(chosen, INT)), end)

        def append_together(found: ir.Value, column: ir.Value, chosen: ir.Value, mask: ir.Value) -> None:
            moved = []  # the chosen numbers, and their columns, at the front of a register
            for whole, name in ((found, f"f{bits}"), (column, f"i{bits}")):
                kind = ir.FunctionType(whole.type, [whole.type, whole.type, chosen.type])
                name = f"llvm.x86.avx512.mask.compress.v{lanes}{name}"
                move = cgutils.get_or_insert_function(builder.module, kind, name)
                moved.append(
                    builder.bitcast(builder.call(move, [whole, ir.Constant(whole.type, None), chosen]), vector)
                )
            for half in range(2):  # number, column, number, column, ...
                order = [lane + half * lanes // 2 + which * lanes for lane in range(lanes // 2) for which in range(2)]
                both = builder.shuffle_vector(*moved, ir.Constant(ir.VectorType(ir.IntType(32), lanes), order))
                to = builder.bitcast(builder.gep(place(), [INT(half * lanes)]), vector.as_pointer())
                builder.store(both, to, align=bits // 8)
            builder.store(builder.add(builder.load(end), builder.zext(builder.ctpop(mask), INT)), end)

        rest = builder.sub(last, builder.srem(builder.sub(last, first), INT(lanes)))
        with cgutils.for_range_slice(builder, first, rest, INT(lanes)) as (k, _):
            ask_for(builder, builder.gep(next_row, [k]), INTO_SECOND_CACHE)
            found = builder.load(builder.bitcast(builder.gep(here, [k]), vector.as_pointer()), align=bits // 8)
            chosen = builder.fcmp_unordered("!=", found, ir.Constant(vector, None))
            mask = builder.bitcast(chosen, ir.IntType(lanes))
            start = as_wide(builder, k, bits)
            column = builder.insert_element(ir.Constant(numbers, ir.Undefined), start, ir.IntType(32)(0))
            column = builder.shuffle_vector(column, column, ir.Constant(ir.VectorType(ir.IntType(32), lanes), None))
            column = builder.add(column, ir.Constant(numbers, list(range(lanes))))
            if HERE == AVX512:
                append_together(found, column, chosen, mask)
            else:
                with builder.if_then(builder.icmp_unsigned("!=", mask, ir.Constant(mask.type, 0))):
                    for lane in range(lanes):
                        append_one(*(builder.extract_element(v, ir.IntType(32)(lane)) for v in (found, column, chosen)))
        with cgutils.for_range_slice(builder, rest, last, INT(1)) as (k, _):
            number = builder.load(builder.gep(here, [k]))
            chosen = builder.fcmp_unordered("!=", number, ir.Constant(real, 0.0))
            append_one(number, as_wide(builder, k, bits), chosen)
        return builder.load(end)

    return types.int64(X, row, later, first, last, values, at), generate


@intrinsic
def copy_pair(typing, values, pair, to, at, place):  # type: ignore[no-untyped-def]
    """Write the number of a pair of `values`, with another place, to pair `at` of `to`. Both are stored at once."""
    bits = values.dtype.bitwidth

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, given: Sequence[ir.Value]) -> ir.Value:
        source, target = (context.make_array(signature.args[n])(context, builder, given[n]).data for n in (0, 2))
        pair, at = (context.cast(builder, given[n], signature.args[n], types.int64) for n in (1, 3))
        place = context.cast(builder, given[4], signature.args[4], types.int64)
        both = ir.VectorType(source.type.pointee, 2)
        number = builder.load(builder.gep(source, [builder.shl(pair, INT(1))]))
        place = builder.bitcast(as_wide(builder, place, bits), number.type)
        found = builder.insert_element(ir.Constant(both, ir.Undefined), number, ir.IntType(32)(0))
        found = builder.insert_element(found, place, ir.IntType(32)(1))
        builder.store(
            found, builder.bitcast(builder.gep(target, [builder.shl(at, INT(1))]), both.as_pointer()), align=bits // 8
        )
        return context.get_dummy_value()

    return types.void(values, pair, to, at, place), generate


@COMPILE
def list_by_sample(X: Array, order: Array, first: int, m: int, lists: Lists) -> None:
    """List the samples order[first : first + m] of X."""
    at, last, cuts = 0, order.size - 1, lists.cuts
    for i in range(m):
        later = order[min(first + i + AHEAD, last)]
        for p in range(cuts.size - 1):
            lists.starts[p * m + i] = at
            at = append_numbers(X, order[first + i], later, cuts[p], cuts[p + 1], lists.values, at)
            lists.ends[p * m + i] = at


@COMPILE
def list_by_feature(by_sample: Lists, m: int, lists: Lists) -> None:
    """List the same numbers by feature."""
    ends = lists.ends
    ends[:] = lists.starts
    parts = by_sample.cuts.size - 1
    for i in range(m):
        for k in range(by_sample.starts[i], by_sample.ends[(parts - 1) * m + i]):
            feature = by_sample.places[2 * k + 1]
            at = ends[feature]
            copy_pair(by_sample.values, k, lists.values, at, i)
            ends[feature] = at + 1
