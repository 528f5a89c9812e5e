"""A matrix product for narrow panels, written in the language of the compiler LLVM, so that its tile stays in registers.

    C += A . B      C has a few columns, a *panel*, and A many rows. The product goes from tile to tile of C:

         B  | b b b b b b |         one row of the panel, in a few vector registers
         ---+-------------+
         a  | c c c c c c |         4 or 8 rows of the panel: the tile, in most of the other registers.
         a  | c c c c c c |         For every number k of the sum, each a is spread over a register and multiplied
         a  | c c c c c c |         with the row of B; the products are added to the tile. So the processor loads
         a  | c c c c c c |         10 numbers or registers for 24 multiplications, and stores none.

A tile that is complete is still in registers when it is finished: `FORWARD` has begun it with the bias and applies the
activation, `PROPAGATE` multiplies it with the derivative, and `GRADIENT` changes the weights (momentum, L1 and L2) and
stores no gradient. A sum that is longer than a block of A goes through C in memory, once for every block.

The code is the same for every processor: only the number and the size of its vector registers (`Registers`) decide how
wide a panel is and how many rows a tile has. LLVM translates it to AVX2, AVX-512 or NEON.

Source: the form of the tile is that of the BLIS library (Van Zee, van de Geijn, 2015). The exponential is that of
`numba_passes`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from mlpprof.engines.numba_passes import EXACTLY

UNIT = 8
"""The width of a panel is a multiple of this many numbers."""
WIDEST = 9
"""A panel has at most this many units. With 72 columns, one panel is enough for most of the layers that people use."""

FORWARD, PROPAGATE, GRADIENT = range(3)
"""What is made of a complete tile."""
UNFINISHED, SMOOTH, KINKED = range(3)
"""How a tile is finished. SMOOTH: by sigmoid or tanh, or in `GRADIENT` by an update that has momentum or L1. KINKED: by
ReLU or the identity, or by an update that has neither. An UNFINISHED tile is stored as it is."""

INT = ir.IntType(64)
SINGLE = ir.FloatType()


class Registers(NamedTuple):
    """The vector registers of a processor: how many bytes each has, and how many there are."""

    bytes: int
    count: int

    def widest(self, itemsize: int) -> int:
        """The units of the widest panel of which a tile of 4 rows, a row of B and one number of A fit."""
        fitting = [units for units in range(1, WIDEST + 1) if self._needs(4, units, itemsize) <= self.count]
        return max(fitting, default=1)

    def rows(self, units: int, itemsize: int) -> int:
        """The rows of a tile: 8 if the registers allow it. Several sums must run at once, since each has to wait."""
        return 8 if self._needs(8, units, itemsize) <= self.count else 4

    def _needs(self, rows: int, units: int, itemsize: int) -> int:
        vectors = -(-units * UNIT * itemsize // self.bytes)
        return rows * vectors + vectors + 1


AVX512, AVX2, NEON, SSE = Registers(64, 32), Registers(32, 16), Registers(16, 32), Registers(16, 16)


def registers_here() -> Registers:
    """The registers of this machine."""
    if llvm.get_default_triple().startswith(("aarch64", "arm64")):
        return NEON
    features = llvm.get_host_cpu_features()
    if features.get("avx512f"):
        return AVX512
    return AVX2 if features.get("avx2") and features.get("fma") else SSE


def multiply_function(module: ir.Module, kind: int, units: int, itemsize: int, registers: Registers) -> ir.Function:
    """The function of a module that multiplies rows of A with a panel of B; it is made if the module lacks it.

    Its arguments: a, the numbers from one row of A to the next, and from one k to the next; b; the length of the sum;
    c; the rows; whether C begins at 0 (or at the bias) instead of what it has; how it is finished; two more arrays, and
    four numbers. `FORWARD`: bias, gain; steepness, floor. `PROPAGATE`: the activations, which lie like C; the first two
    coefficients of the derivative. `GRADIENT`: weights and velocity, which lie like C; rate, momentum, l1, l2.
    """
    real = SINGLE if itemsize == 4 else ir.DoubleType()
    name = f"mlpprof_multiply_{('forward', 'propagate', 'gradient')[kind]}_{units}_{itemsize}"
    if name in module.globals:
        return module.globals[name]
    array = real.as_pointer()
    arguments = [array, INT, INT, array, INT, array, INT, INT, INT, array, array, real, real, real, real]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), arguments), name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    for place in (0, 3, 5):
        function.args[place].add_attribute("noalias")
    _Writer(function, kind, units, itemsize, registers).write()
    return function


class _Writer:
    """Writes the instructions of one function."""

    def __init__(self, function: ir.Function, kind: int, units: int, itemsize: int, registers: Registers) -> None:
        self.function, self.kind = function, kind
        self.real = function.args[0].type.pointee
        self.width = units * UNIT
        self.tile_rows = registers.rows(units, itemsize)
        lanes = max(UNIT, registers.bytes // itemsize)
        self.vectors = [ir.VectorType(self.real, min(lanes, self.width - at)) for at in range(0, self.width, lanes)]
        self.places = list(range(0, self.width, lanes))
        self.itemsize = itemsize
        self.builder = ir.IRBuilder(function.append_basic_block("entry"))

    def write(self) -> None:
        """All whole tiles, then the rows that are left, one by one."""
        total = self.function.args[6]
        start = self.repeat(ir.Constant(INT, 0), total, self.tile_rows, self.tile)
        if self.kind != GRADIENT:  # features come in multiples of UNIT
            self.repeat(start, total, 1, self.tile)
        self.builder.ret_void()

    def repeat(self, start: ir.Value, end: ir.Value, step: int, body: Callable[[ir.Value, int], None]) -> ir.Value:
        """A loop that calls body(place, step) while place + step <= end; returns the place after it."""
        place, [] = self.loop(start, end, step, [], lambda place, carried: body(place, step) or [])
        return place

    def loop(
        self,
        start: ir.Value,
        end: ir.Value,
        step: int,
        first: Sequence[ir.Value],
        body: Callable[[ir.Value, list[ir.Value]], Sequence[ir.Value]],
    ) -> tuple[ir.Value, list[ir.Value]]:
        """A loop while place + step <= end that carries values in registers; returns the last place and values."""
        builder = self.builder
        before = builder.block
        head, inside, after = (builder.append_basic_block(name) for name in ("head", "inside", "after"))
        builder.branch(head)
        builder.position_at_end(head)
        place = builder.phi(INT)
        place.add_incoming(start, before)
        carried = []
        for value in first:
            carried.append(builder.phi(value.type))
            carried[-1].add_incoming(value, before)
        next_place = builder.add(place, ir.Constant(INT, step))
        builder.cbranch(builder.icmp_signed("<=", next_place, end), inside, after)
        builder.position_at_end(inside)
        for phi, value in zip(carried, body(place, list(carried)), strict=True):
            phi.add_incoming(value, builder.block)
        place.add_incoming(next_place, builder.block)
        builder.branch(head)
        builder.position_at_end(after)
        return place, carried

    def tile(self, row: ir.Value, rows: int) -> None:
        """`rows` rows of C from `row` on."""
        builder = self.builder
        a, a_row, a_k, b, length, c, _, fresh, finish, *_ = self.function.args
        a = builder.gep(a, [builder.mul(row, a_row)])
        at = builder.mul(row, ir.Constant(INT, self.width))
        c = builder.gep(c, [at])
        begun = self.begin(c, rows, fresh)
        a_rows = [builder.gep(a, [builder.mul(a_row, ir.Constant(INT, i))]) for i in range(rows)]

        def add_products(k: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
            b_row = self.load_row(builder.gep(b, [builder.mul(k, ir.Constant(INT, self.width))]))
            found = []
            for i in range(rows):
                number = builder.load(builder.gep(a_rows[i], [builder.mul(k, a_k)]))
                for j, vector in enumerate(b_row):
                    found.append(self.multiply_add(self.spread(number, vector.type), vector, sums[i * len(b_row) + j]))
            return found

        _, sums = self.loop(ir.Constant(INT, 0), length, 1, begun, add_products)
        self.finish(sums, c, at, rows, finish)

    def begin(self, c: ir.Value, rows: int, fresh: ir.Value) -> list[ir.Value]:
        """The tile of C; or the bias, or 0, if C has nothing yet."""
        builder, here = self.builder, self.builder.block
        kept, after = builder.append_basic_block("kept"), builder.append_basic_block("begun")
        if self.kind == FORWARD:
            new = self.load_row(self.function.args[9]) * rows
        else:
            new = [self.constant(0.0, vector) for vector in self.vectors] * rows
        builder.cbranch(builder.icmp_signed("!=", fresh, ir.Constant(INT, 0)), after, kept)
        builder.position_at_end(kept)
        old = self.load_tile(c, rows)
        builder.branch(after)
        builder.position_at_end(after)
        begun = []
        for new_value, old_value in zip(new, old, strict=True):
            phi = builder.phi(new_value.type)
            phi.add_incoming(new_value, here)
            phi.add_incoming(old_value, kept)
            begun.append(phi)
        return begun

    def finish(self, sums: list[ir.Value], c: ir.Value, at: ir.Value, rows: int, finish: ir.Value) -> None:
        """Store the tile as `finish` says."""
        builder = self.builder
        blocks = [builder.append_basic_block(name) for name in ("unfinished", "smooth", "kinked")]
        after = builder.append_basic_block("stored")
        switch = builder.switch(finish, blocks[UNFINISHED])
        how = (self.activate, self.derive, self.update)[self.kind]
        for place, block in enumerate(blocks):
            if place != UNFINISHED:
                switch.add_case(ir.Constant(INT, place), block)
            builder.position_at_end(block)
            if place == UNFINISHED:
                self.store_tile(sums, c)
            else:
                how(sums, c, at, rows, place == SMOOTH)
            builder.branch(after)
        builder.position_at_end(after)

    def activate(self, sums: list[ir.Value], c: ir.Value, at: ir.Value, rows: int, smooth: bool) -> None:
        """max(z, floor), or gain * sigmoid(steepness * z) + 1 - steepness: the sigmoid, or tanh with steepness 2.

        The gain is the steepness, and 0 in columns that are no neuron.
        """
        builder = self.builder
        _, gain, steepness, floor, *_ = self.function.args[9:]
        if not smooth:
            floors = [self.spread(floor, vector) for vector in self.vectors] * rows
            found = [
                builder.select(builder.fcmp_ordered("<", z, low), low, z) for z, low in zip(sums, floors, strict=True)
            ]
            self.store_tile(found, c)
            return
        one = ir.Constant(self.real, 1.0)
        shift = builder.fsub(one, steepness)
        minus = builder.fneg(steepness)
        gains, found = self.load_row(gain) * rows, []
        for z, gain_row in zip(sums, gains, strict=True):
            kind = z.type
            power = self.exponential(builder.fmul(z, self.spread(minus, kind)))
            share = builder.fdiv(gain_row, builder.fadd(power, self.constant(1.0, kind)))
            found.append(builder.fadd(share, self.spread(shift, kind)))
        self.store_tile(found, c)

    def derive(self, sums: list[ir.Value], c: ir.Value, at: ir.Value, rows: int, smooth: bool) -> None:
        """Multiply with p + q a - a**2 of the activations a, or keep what has a > 0."""
        builder = self.builder
        activations, _, p, q, *_ = self.function.args[9:]
        found = []
        for d, a in zip(sums, self.load_tile(builder.gep(activations, [at]), rows), strict=True):
            if smooth:
                slope = self.multiply_add(a, builder.fsub(self.spread(q, a.type), a), self.spread(p, a.type))
                found.append(builder.fmul(d, slope))
            else:
                zero = self.constant(0.0, a.type)
                found.append(builder.select(builder.fcmp_ordered(">", a, zero), d, zero))
        self.store_tile(found, c)

    def update(self, sums: list[ir.Value], c: ir.Value, at: ir.Value, rows: int, smooth: bool) -> None:
        """Change weights and velocity as `descend` does; C is not stored."""
        builder = self.builder
        weights, velocity, rate, momentum, l1, l2 = self.function.args[9:]
        weights, velocity = builder.gep(weights, [at]), builder.gep(velocity, [at])
        old = self.load_tile(weights, rows)
        changes = [self.multiply_add(w, self.spread(l2, w.type), g) for w, g in zip(old, sums, strict=True)]
        if smooth:
            for i, (w, v) in enumerate(zip(old, self.load_tile(velocity, rows), strict=True)):
                zero, penalty = self.constant(0.0, w.type), self.spread(l1, w.type)
                sign = builder.select(builder.fcmp_ordered(">", w, zero), penalty, zero)
                sign = builder.select(builder.fcmp_ordered("<", w, zero), builder.fneg(penalty), sign)
                changes[i] = builder.fadd(
                    self.multiply_add(v, self.spread(momentum, w.type), changes[i]), sign
                )
            self.store_tile(changes, velocity)
        minus = builder.fneg(rate)
        new = [self.multiply_add(g, self.spread(minus, w.type), w) for w, g in zip(old, changes, strict=True)]
        self.store_tile(new, weights)

    def exponential(self, x: ir.Value) -> ir.Value:
        """2**k times the series of exp(r), where x = k log 2 + r, as in `exp_single` and `exp_double`."""
        builder, kind = self.builder, x.type
        is_single = self.itemsize == 4
        bits = ir.VectorType(ir.IntType(32 if is_single else 64), kind.count)
        mantissa, terms, top = (23, 7, 87.0) if is_single else (52, 12, 700.0)
        high, low = (0.693359375, -2.12194440e-4) if is_single else (0.6931471803691238, 1.9082149292705877e-10)
        for limit, sign in ((-top, "<"), (top, ">")):  # in this form, NaN stays
            bound = self.constant(limit, kind)
            x = builder.select(builder.fcmp_ordered(sign, x, bound), bound, x)
        whole = self.constant(1.5 * 2.0**mantissa, kind)
        shifted = builder.fadd(builder.fmul(x, self.constant(1 / math.log(2), kind)), whole)
        k = builder.fsub(shifted, whole)
        r = builder.fsub(builder.fsub(x, builder.fmul(k, self.constant(high, kind))), builder.fmul(k, self.constant(low, kind)))
        p = self.constant(1 / math.factorial(terms), kind)
        for n in reversed(range(terms)):
            p = self.multiply_add(p, r, self.constant(1 / math.factorial(n), kind))
        bias = ir.Constant(bits, [127 if is_single else 1023] * kind.count)
        exponent = builder.shl(builder.add(builder.bitcast(shifted, bits), bias), ir.Constant(bits, [mantissa] * kind.count))
        return builder.fmul(p, builder.bitcast(exponent, kind))

    def load_row(self, place: ir.Value) -> list[ir.Value]:
        builder = self.builder
        found = []
        for at, vector in zip(self.places, self.vectors, strict=True):
            pointer = builder.bitcast(builder.gep(place, [ir.Constant(INT, at)]), vector.as_pointer())
            found.append(builder.load(pointer, align=self.itemsize))
        return found

    def load_tile(self, place: ir.Value, rows: int) -> list[ir.Value]:
        starts = [self.builder.gep(place, [ir.Constant(INT, i * self.width)]) for i in range(rows)]
        return [value for start in starts for value in self.load_row(start)]

    def store_tile(self, values: Sequence[ir.Value], place: ir.Value) -> None:
        builder = self.builder
        for n, value in enumerate(values):
            row, column = divmod(n, len(self.vectors))
            at = ir.Constant(INT, row * self.width + self.places[column])
            pointer = builder.bitcast(builder.gep(place, [at]), value.type.as_pointer())
            builder.store(value, pointer, align=self.itemsize)

    def multiply_add(self, x: ir.Value, y: ir.Value, z: ir.Value) -> ir.Value:
        """x y + z, in one instruction where the processor has one."""
        module, kind = self.function.module, x.type
        name = f"llvm.fmuladd.v{kind.count}f{8 * self.itemsize}"
        if name not in module.globals:
            ir.Function(module, ir.FunctionType(kind, [kind] * 3), name)
        return self.builder.call(module.globals[name], [x, y, z])

    def spread(self, number: ir.Value, kind: ir.VectorType) -> ir.Value:
        """A vector of the same number."""
        builder = self.builder
        single = builder.insert_element(ir.Constant(kind, ir.Undefined), number, ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), kind.count), [0] * kind.count)
        return builder.shuffle_vector(single, ir.Constant(kind, ir.Undefined), zeros)

    def constant(self, value: float, kind: ir.VectorType) -> ir.Constant:
        return ir.Constant(kind, [value] * kind.count)


HERE = registers_here()


def _multiplication(kind: int) -> Any:
    """The functions of one kind, for several widths of a panel, as one function that compiled code can call."""

    @intrinsic  # type: ignore[untyped-decorator]
    def multiply(typing, widths, units, a, a_at, a_row, a_k, b, b_at, length, c, c_at, rows, fresh, finish, d, d_at, e, e_at, numbers):  # type: ignore[no-untyped-def]  # fmt: skip # noqa: E501
        itemsize = a.dtype.bitwidth // 8
        taken = widths, units, a, a_at, a_row, a_k, b, b_at, length, c, c_at, rows, fresh, finish, d, d_at, e, e_at, numbers

        def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Sequence[ir.Value]) -> ir.Value:
            kinds = signature.args

            def whole(place: int) -> ir.Value:
                return context.cast(builder, values[place], kinds[place], types.int64)

            def address(place: int) -> ir.Value:
                data = context.make_array(kinds[place])(context, builder, values[place]).data
                return builder.gep(data, [whole(place + 1)])

            arguments = [address(2), whole(4), whole(5), address(6), whole(8), address(9), *map(whole, (11, 12, 13))]
            arguments += [address(14), address(16)]
            numbers = zip(cgutils.unpack_tuple(builder, values[18]), kinds[18], strict=True)
            arguments += [context.cast(builder, number, kind, a.dtype) for number, kind in numbers]
            after = builder.append_basic_block("multiplied")
            switch = builder.switch(whole(1), after)
            for width, used in enumerate(kinds[0], start=1):
                if used == types.none:
                    continue
                block = builder.append_basic_block(f"units_{width}")
                switch.add_case(ir.Constant(INT, width), block)
                builder.position_at_end(block)
                builder.call(multiply_function(builder.module, kind, width, itemsize, HERE), arguments)
                builder.branch(after)
            builder.position_at_end(after)
            return context.get_dummy_value()

        return types.void(*taken), generate

    return multiply


multiply_forward, multiply_back, multiply_gradient = map(_multiplication, (FORWARD, PROPAGATE, GRADIENT))
