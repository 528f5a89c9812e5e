"""A matrix product for narrow panels, written in the language of the compiler LLVM, so that tiles stay in registers.

    C += A . B      C has a few columns, a *panel*, and A many rows. The product is computed tile by tile:

         B  | b b b b b b |         b: one row of the panel, in a few vector registers.
         ---+-------------+
         a  | c c c c c c |         c: 4 or 8 rows of the panel, the tile, in most of the other registers.
         a  | c c c c c c |         For every k of the sum, each number a is spread over a register and multiplied
         a  | c c c c c c |         with the row of B, and the products are added to the tile. Here the processor
         a  | c c c c c c |         loads 10 numbers or registers for 24 products, and stores nothing.

While a complete tile is still in registers, it is finished. `FORWARD` has begun it with the bias and applies the
activation. `PROPAGATE` multiplies it with the derivative. `GRADIENT` changes the weights (momentum, L1 and L2), so that
no gradient is stored.

The code is the same for every processor. Only the number and the size of its vector registers (`Registers`) decide how
wide a panel is and how many rows a tile has. LLVM translates the code to AVX2, AVX-512 or NEON.

The functions that call these products from compiled code must be compiled with `EXACTLY`: with fastmath, numba would
let the compiler rearrange the exponential as well.

Source: the form of the tile is that of the BLIS library (Van Zee, van de Geijn, 2015).
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

UNIT = 8
"""The width of a panel is a multiple of this many numbers."""
WIDEST = 9
"""A panel has at most this many units. With 72 columns, one panel is enough for most of the layers that people use."""

AHEAD = 8
"""The gradient asks for a sample this many samples before it needs it, because samples at random places come late."""
INTO_SECOND_CACHE, INTO_FIRST_CACHE = 2, 3
"""The caches into which `ask_for` can load a line, by the numbers that LLVM gives them."""

FORWARD, PROPAGATE, GRADIENT = range(3)
"""What is made of a complete tile."""
EVERY_NUMBER, IN_ORDER, LISTED, OUTER = range(4)
"""How A is given (see `multiply_function`): row after row, in the order of a batch, as lists of its numbers, or as one
list."""
UNFINISHED, SMOOTH, KINKED = range(3)
"""How a tile is finished: not at all, with sigmoid or tanh, or with ReLU or the identity."""
HEAVY_BALL, PLAIN = SMOOTH, KINKED
"""How a tile of the gradient is finished: by an update that has momentum or L1, or by one that has neither."""

INT = ir.IntType(64)
SINGLE = ir.FloatType()


class Registers(NamedTuple):
    """The vector registers of a processor: how many bytes each has, and how many there are."""

    bytes: int
    number: int

    def widest(self, itemsize: int) -> int:
        """The units of the widest panel of which a tile of 4 rows, a row of B and one number of A fit."""
        fitting = [units for units in range(1, WIDEST + 1) if self._needs(4, units, itemsize) <= self.number]
        return max(fitting, default=1)

    def rows(self, units: int, itemsize: int) -> int:
        """The rows of a tile: 8 if the registers allow it. Several sums must run at once, since each has to wait."""
        return 8 if self._needs(8, units, itemsize) <= self.number else 4

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


def ask_for(builder: ir.IRBuilder, place: ir.Value, cache: int) -> None:
    """Let the processor load a line of memory into a cache, without waiting for it."""
    byte, number, name = ir.IntType(8).as_pointer(), ir.IntType(32), "llvm.prefetch.p0"
    if name not in builder.module.globals:
        ir.Function(builder.module, ir.FunctionType(ir.VoidType(), [byte, number, number, number]), name)
    how = [ir.Constant(number, value) for value in (0, cache, 1)]  # 0: it will be read; 1: it is data
    builder.call(builder.module.globals[name], [builder.bitcast(place, byte), *how])


def multiply_function(
    module: ir.Module, kind: int, units: int, itemsize: int, registers: Registers, form: int = EVERY_NUMBER
) -> ir.Function:
    """The function of a module that multiplies rows of A with a panel of B; it is made if the module lacks it.

    Its arguments: a, the numbers from one row of A to the next, and from one k to the next; order, and how many numbers
    it has; b; the length of the sum; c; the rows; whether C begins at 0 (or at the bias) instead of what it has; how it
    is finished; two more arrays, and four numbers. `FORWARD`: bias, gain; steepness, floor. `PROPAGATE`: the
    activations, which lie like C; the first two coefficients of the derivative. `GRADIENT`: weights and velocity, which
    lie like C; rate, momentum, l1, l2.

    form: how a is given. `IN_ORDER`: sample i of the product is sample order[i] of a. The order may go on after the
    samples of the product; the sample that comes next is asked for beforehand. `LISTED`: row i of A is a list of pairs
    of a number that is not 0 and its k: a[2 p] and index[2 p + 1] for p from starts[i] to ends[i] - 1. Then the
    arguments after a are starts, ends and index. `OUTER`: A is a column, one list from pair starts[0] on, with as many
    pairs as `rows` says, and b is a row. Only the rows of C that the list names are computed.
    """
    real = SINGLE if itemsize == 4 else ir.DoubleType()
    name = f"mlpprof_multiply_{('forward', 'propagate', 'gradient')[kind]}_{units}_{itemsize}_{form}"
    if name in module.globals:
        return module.globals[name]
    array = real.as_pointer()
    integers = INT.as_pointer()
    where = [integers, integers, ir.IntType(8 * itemsize).as_pointer()] if form >= LISTED else [INT, INT, integers]
    arguments = [array, *where, INT, array, INT, array, INT, INT, INT, array, array, *[real] * 4]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), arguments), name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    for place in (0, 5, 7):
        function.args[place].add_attribute("noalias")
    _Writer(function, kind, units, itemsize, registers, form).write()
    return function


class _Writer:
    """Writes the instructions of one function."""

    def __init__(
        self, function: ir.Function, kind: int, units: int, itemsize: int, registers: Registers, form: int
    ) -> None:
        self.function, self.kind, self.form = function, kind, form
        self.real = function.args[0].type.pointee
        self.width = units * UNIT
        self.tile_rows = registers.rows(units, itemsize)
        lanes = max(UNIT, registers.bytes // itemsize)
        self.vectors = [ir.VectorType(self.real, min(lanes, self.width - at)) for at in range(0, self.width, lanes)]
        self.places = list(range(0, self.width, lanes))
        self.sums_of_a_row = 4 if 8 * len(self.vectors) <= registers.number else 2
        self.itemsize = itemsize
        self.builder = ir.IRBuilder(function.append_basic_block("entry"))

    def write(self) -> None:
        """All whole tiles, then the rows that are left, one by one."""
        start, total = INT(0), self.function.args[8]
        if self.form < LISTED:
            start = self.repeat(start, total, self.tile_rows, self.tile)
        if self.kind != GRADIENT or self.form != EVERY_NUMBER:  # in panels, features come in multiples of UNIT
            self.repeat(start, total, 1, self.tile)
        self.builder.ret_void()

    def repeat(self, start: ir.Value, end: ir.Value, step: int, body: Callable[[ir.Value, int], None]) -> ir.Value:
        """A loop that calls body(place, step) while place + step <= end; returns the place after it."""

        def without_values(place: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
            body(place, step)
            return carried

        return self.loop(start, end, step, [], without_values)[0]

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
        next_place = builder.add(place, INT(step))
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
        a, a_row, a_k, order, _, b, length, c, _, fresh, finish, *_ = self.function.args
        if self.form == OUTER:
            number, place = self.pair(builder.add(builder.load(a_row), row))
            at = builder.mul(place, INT(self.width))
        else:
            at = builder.mul(row, INT(self.width))
        c = builder.gep(c, [at])
        begun = self.begin(c, rows, fresh)
        samples_are_rows = self.form == IN_ORDER and self.kind == FORWARD

        def start_of(i: int) -> ir.Value:
            place = builder.add(row, INT(i))
            if samples_are_rows:  # the rows that come next may be beyond the end
                place = builder.load(builder.gep(order, [self.at_most_last(place)]))
            return builder.gep(a, [builder.mul(place, a_row)])

        if self.form == OUTER:
            self.finish(self.add_multiple(number, self.load_row(b), begun), c, at, rows, finish)
            return
        k, end = INT(0), length
        if self.form == LISTED:
            k, end = (builder.load(builder.gep(bounds, [row])) for bounds in (a_row, a_k))
        else:
            a_rows = [start_of(i) for i in range(rows)]
        next_rows = [start_of(rows + i) for i in range(rows)] if samples_are_rows else []

        def add_products(k: ir.Value, sums: Sequence[ir.Value]) -> list[ir.Value]:
            if self.form == LISTED:
                number, place = self.pair(k)
                b_row = self.load_row(builder.gep(b, [builder.mul(place, INT(self.width))]))
                return self.add_multiple(number, b_row, sums)
            b_row = self.load_row(builder.gep(b, [builder.mul(k, INT(self.width))]))
            place = k
            if self.form == IN_ORDER and self.kind == GRADIENT:
                place = builder.load(builder.gep(order, [k]))
                later = builder.load(builder.gep(order, [self.at_most_last(builder.add(k, INT(AHEAD)))]))
                ask_for(builder, builder.gep(a_rows[0], [builder.mul(later, a_k)]), INTO_FIRST_CACHE)
            for next_row in next_rows:
                ask_for(builder, builder.gep(next_row, [k]), INTO_FIRST_CACHE)
            found = []
            for i in range(rows):
                number = builder.load(builder.gep(a_rows[i], [builder.mul(place, a_k)]))
                found += self.add_multiple(number, b_row, sums[i * len(b_row) : (i + 1) * len(b_row)])
            return found

        def add_several(k: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
            found = []
            for i in range(self.sums_of_a_row):
                part = sums[i * len(begun) : (i + 1) * len(begun)]
                found += add_products(builder.add(k, INT(i)), part)
            return found

        sums = begun
        if rows == 1:  # a sum has to wait for its last addition, so several run at once
            zeros = [self.constant(0.0, vector) for vector in self.vectors]
            sums = [*begun, *zeros * (self.sums_of_a_row - 1)]
            k, sums = self.loop(k, end, self.sums_of_a_row, sums, add_several)
            while len(sums) > len(begun):
                half = len(sums) // 2
                sums = [builder.fadd(x, y) for x, y in zip(sums[:half], sums[half:], strict=True)]
        _, sums = self.loop(k, end, 1, sums, add_products)
        self.finish(sums, c, at, rows, finish)

    def pair(self, p: ir.Value) -> tuple[ir.Value, ir.Value]:
        """The number and the place of pair p of a list."""
        builder, first = self.builder, self.builder.shl(p, INT(1))
        number = builder.load(builder.gep(self.function.args[0], [first]))
        place = builder.load(builder.gep(self.function.args[3], [builder.add(first, INT(1))]))
        return number, builder.zext(place, INT) if self.itemsize < 8 else place

    def add_multiple(self, number: ir.Value, row: Sequence[ir.Value], sums: Sequence[ir.Value]) -> list[ir.Value]:
        """The sums, plus a number times a row."""
        return [self.multiply_add(self.spread(number, x.type), x, y) for x, y in zip(row, sums, strict=True)]

    def at_most_last(self, place: ir.Value) -> ir.Value:
        """A place in the order, or its last place if this is beyond the end."""
        builder = self.builder
        last = builder.sub(self.function.args[4], INT(1))
        return builder.select(builder.icmp_signed("<", place, last), place, last)

    def begin(self, c: ir.Value, rows: int, fresh: ir.Value) -> list[ir.Value]:
        """The tile of C; or the bias, or 0, if C has nothing yet."""
        builder, here = self.builder, self.builder.block
        kept, after = builder.append_basic_block("kept"), builder.append_basic_block("begun")
        if self.kind == FORWARD:
            new = self.load_row(self.function.args[11]) * rows
        else:
            new = [self.constant(0.0, vector) for vector in self.vectors] * rows
        builder.cbranch(builder.icmp_signed("!=", fresh, INT(0)), after, kept)
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
                switch.add_case(INT(place), block)
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
        _, gain, steepness, floor, *_ = self.function.args[11:]
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
        activations, _, p, q, *_ = self.function.args[11:]
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
        weights, velocity, rate, momentum, l1, l2 = self.function.args[11:]
        weights, velocity = builder.gep(weights, [at]), builder.gep(velocity, [at])
        old = self.load_tile(weights, rows)
        changes = [self.multiply_add(w, self.spread(l2, w.type), g) for w, g in zip(old, sums, strict=True)]
        if smooth:
            for i, (w, v) in enumerate(zip(old, self.load_tile(velocity, rows), strict=True)):
                zero, penalty = self.constant(0.0, w.type), self.spread(l1, w.type)
                sign = builder.select(builder.fcmp_ordered(">", w, zero), penalty, zero)
                sign = builder.select(builder.fcmp_ordered("<", w, zero), builder.fneg(penalty), sign)
                changes[i] = builder.fadd(self.multiply_add(v, self.spread(momentum, w.type), changes[i]), sign)
            self.store_tile(changes, velocity)
        minus = builder.fneg(rate)
        new = [self.multiply_add(g, self.spread(minus, w.type), w) for w, g in zip(old, changes, strict=True)]
        self.store_tile(new, weights)

    def exponential(self, x: ir.Value) -> ir.Value:
        """2**k times the series of 2**r, where x / log 2 = k + r.

        Adding `whole` rounds to k, and leaves k in the last bits of the sum. From there it is added to the exponent of
        the series. Single precision needs 6 terms, whose error is at most 1.2e-7, one unit in the last place.
        """
        builder, kind = self.builder, x.type
        is_single = self.itemsize == 4
        bits = ir.VectorType(ir.IntType(32 if is_single else 64), kind.count)
        mantissa, terms, top = (23, 6, 87.0) if is_single else (52, 12, 700.0)
        for limit, sign in ((-top, "<"), (top, ">")):  # in this form, NaN stays
            bound = self.constant(limit, kind)
            x = builder.select(builder.fcmp_ordered(sign, x, bound), bound, x)
        whole, scale = self.constant(1.5 * 2.0**mantissa, kind), self.constant(1 / math.log(2), kind)
        shifted = self.multiply_add(x, scale, whole)
        r = self.multiply_add(x, scale, builder.fsub(whole, shifted))
        coefficients = [math.log(2) ** n / math.factorial(n) for n in range(terms + 1)]
        p = self.constant(coefficients.pop(), kind)
        while coefficients:
            p = self.multiply_add(p, r, self.constant(coefficients.pop(), kind))
        exponent = builder.shl(builder.bitcast(shifted, bits), self.constant(mantissa, bits))
        return builder.bitcast(builder.add(builder.bitcast(p, bits), exponent), kind)

    def load_row(self, place: ir.Value) -> list[ir.Value]:
        builder = self.builder
        found = []
        for at, vector in zip(self.places, self.vectors, strict=True):
            pointer = builder.bitcast(builder.gep(place, [INT(at)]), vector.as_pointer())
            found.append(builder.load(pointer, align=self.itemsize))
        return found

    def load_tile(self, place: ir.Value, rows: int) -> list[ir.Value]:
        starts = [self.builder.gep(place, [INT(i * self.width)]) for i in range(rows)]
        return [value for start in starts for value in self.load_row(start)]

    def store_tile(self, values: Sequence[ir.Value], place: ir.Value) -> None:
        builder = self.builder
        for n, value in enumerate(values):
            row, column = divmod(n, len(self.vectors))
            at = INT(row * self.width + self.places[column])
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

    @staticmethod
    def constant(value: float, kind: ir.VectorType) -> ir.Constant:
        return ir.Constant(kind, [value] * kind.count)


HERE = registers_here()


def _multiplication(kind: int) -> Any:
    """The functions of one kind, for several widths of a panel, as one function that compiled code can call.

    widths: as in `Plan`; code is made only for those that are not None. The other arguments are those of
    `multiply_function`, but a place in an array is a pair of an array and an index, and a has its two steps too. If its
    samples are to be taken in an order, this order (an array and a place) and how many numbers it has from there on
    follow in the same tuple. If a has lists, their starts, ends and index follow instead. `OUTER` has no ends.
    """

    @intrinsic
    def multiply(typing, widths, units, a, b, length, c, rows, fresh, finish, d, e, numbers):  # type: ignore[no-untyped-def]
        real = a[0].dtype
        itemsize = real.bitwidth // 8
        form = FORMS[len(a)]

        def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Sequence[ir.Value]) -> ir.Value:
            given = dict(zip(NAMES, zip(values, signature.args, strict=True), strict=True))

            def parts(name: str, into: Any = types.int64) -> list[ir.Value]:
                """The addresses and the numbers of a tuple, or the number itself, with numbers of one type."""
                value, kind = given[name]
                if not isinstance(kind, types.BaseTuple):
                    return [context.cast(builder, value, kind, into)]
                found: list[ir.Value] = []
                array = None
                for one, of in zip(cgutils.unpack_tuple(builder, value), kind, strict=True):
                    if isinstance(of, types.Array):
                        array = context.make_array(of)(context, builder, one).data
                        continue
                    number = context.cast(builder, one, of, into)
                    found.append(number if array is None else builder.gep(array, [number]))
                    array = None
                return found

            a_parts, nothing = parts("a"), ir.Constant(INT.as_pointer(), None)
            if form == OUTER:
                a_parts.insert(2, nothing)
            elif form == EVERY_NUMBER:
                a_parts.append(nothing)
            a_parts += [INT(0)] * (5 - len(a_parts))
            arguments = a_parts + [one for name in NAMES[3:-1] for one in parts(name)] + parts("numbers", real)
            after = builder.append_basic_block("multiplied")
            switch = builder.switch(parts("units")[0], after)
            for width, used in enumerate(widths, start=1):
                if used != types.none:
                    block = builder.append_basic_block(f"units_{width}")
                    switch.add_case(INT(width), block)
                    builder.position_at_end(block)
                    function = multiply_function(builder.module, kind, width, itemsize, HERE, form)
                    builder.call(function, arguments)
                    builder.branch(after)
            builder.position_at_end(after)
            return context.get_dummy_value()

        return types.void(widths, units, a, b, length, c, rows, fresh, finish, d, e, numbers), generate

    return multiply


NAMES = ("widths", "units", "a", "b", "length", "c", "rows", "fresh", "finish", "d", "e", "numbers")
FORMS = {4: EVERY_NUMBER, 7: IN_ORDER, 8: LISTED, 6: OUTER}
"""The form of `a` by the length of its tuple."""
multiply_forward, multiply_back, multiply_gradient = map(_multiplication, (FORWARD, PROPAGATE, GRADIENT))


@intrinsic
def transpose(typing, a, a_at, a_step, c, c_at, c_step):  # type: ignore[no-untyped-def]
    """Write a block of UNIT x UNIT numbers of a to c, transposed; the steps lead from row to row.

    In every round, rows that are 1, 2 and then 4 apart exchange half of their numbers, all in registers:

        a b c d          a e c g          a e i m
        e f g h    1     b f d h    2     b f j n
        i j k l   --->   i m k o   --->   c g k o
        m n o p          j n l p          d h l p
    """
    real = a.dtype

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Sequence[ir.Value]) -> ir.Value:
        places = [context.cast(builder, values[i], signature.args[i], types.int64) for i in (1, 2, 4, 5)]
        kind = ir.VectorType(context.get_data_type(real), UNIT)

        def rows_of(array: int, at: ir.Value, step: ir.Value) -> list[ir.Value]:
            data = context.make_array(signature.args[array])(context, builder, values[array]).data
            found = [builder.gep(data, [builder.add(at, builder.mul(step, INT(i)))]) for i in range(UNIT)]
            return [builder.bitcast(one, kind.as_pointer()) for one in found]

        rows = [builder.load(one, align=real.bitwidth // 8) for one in rows_of(0, *places[:2])]
        for apart in (1, 2, 4):
            for i in range(UNIT):
                if not i & apart:
                    upper, lower = rows[i], rows[i + apart]
                    for row, shift in ((i, 0), (i + apart, apart)):
                        mask = [(k & ~apart) + shift + (UNIT if k & apart else 0) for k in range(UNIT)]
                        order = ir.Constant(ir.VectorType(ir.IntType(32), UNIT), mask)
                        rows[row] = builder.shuffle_vector(upper, lower, order)
        for row, place in zip(rows, rows_of(3, *places[2:]), strict=True):
            builder.store(row, place, align=real.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(a, a_at, a_step, c, c_at, c_step), generate
