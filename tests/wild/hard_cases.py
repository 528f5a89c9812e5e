"""Python that is easy to break when its expressions are rewritten, around a small training.

Everything that happens is written to a log or to arrays; at the end their digest is printed. Instrumented and plain,
the whole output is the same, byte by byte.
"""

import asyncio
import contextlib
import functools
import hashlib
import inspect
import io
import itertools
import operator
import sys
from collections import namedtuple
from dataclasses import dataclass, field

import numpy as np

LOG = []
COUNTER = 0
state: dict[str, np.ndarray] = {}


def note(text, value=None):
    """Logs a text, in the order of evaluation, and hands the value on."""
    LOG.append(text)
    return value


def digest():
    total = hashlib.sha256()
    for name in sorted(state):
        array = np.asarray(state[name])
        total.update(f"{name}{array.dtype}{array.shape}{array.strides}{array.flags.f_contiguous}".encode())
        total.update(np.ascontiguousarray(array).tobytes())
    total.update("\n".join(LOG).encode())
    return total.hexdigest()


# Classes: super() without arguments, mangled names, properties, slots, class bodies with arithmetic and comprehensions.


class Layer:
    scale = np.float32(2) * 3 - 5
    table = [2**k for k in range(4)]
    __hidden = scale * 4
    doubled = scale + scale
    factor = 3 // 2

    def __init_subclass__(cls, /, factor=1, **named):
        super().__init_subclass__(**named)
        cls.factor = factor + len(cls.__name__) * 0

    def __init__(self, n_in, n_out, rng):
        self.__W = (rng.standard_normal((n_in, n_out)) * 0.1).astype(np.float32)
        self.b = np.zeros(n_out, np.float32)
        self.calls = [0]

    @property
    def W(self):
        self.calls[0] += 1
        return self.__W

    @W.setter
    def W(self, value):
        note("set W")
        self.__W = value + 0

    def forward(self, x):
        self.x = x
        return x @ self.__W + self.b * self.factor

    def backward(self, grad, rate):
        back = grad @ self.__W.T
        self.__W -= rate * (self.x.T @ grad)
        self.b[...] -= rate * grad.sum(axis=0)
        return back

    @classmethod
    def hidden(cls):
        return cls.__hidden * 2

    @staticmethod
    def half(x):
        return x / 2

    def __matmul__(self, other):
        note("layer @")
        return self.forward(other)

    def __rmul__(self, other):
        return note("rmul", other * 2)


class Tanh(Layer, factor=1):
    __slots__ = ("out",)

    def __init__(self, n_in, n_out, rng, *, extra=None):
        super().__init__(n_in, n_out, rng)
        self.extra = extra if extra is not None else []

    def forward(self, x):
        self.out = np.tanh(super().forward(x))
        return self.out

    def backward(self, grad, rate):
        return super().backward(grad * (1 - self.out * self.out), rate)

    def __getattr__(self, name):
        if name.startswith("magic_"):
            return len(name) * 2
        raise AttributeError(name)


@dataclass(order=True)
class Record:
    loss: float
    batch: list = field(default_factory=lambda: [1 + 1])

    def __post_init__(self):
        self.loss = self.loss + 0.0


Point = namedtuple("Point", "x y")


# Decorators: with arguments, stacked, by expression; the order in which they are applied is part of the output.


def repeated(times, log=LOG):
    note(f"repeated {times + 0}")

    def decorate(function):
        note("decorate " + function.__name__)

        @functools.wraps(function)
        def wrapper(*args, **named):
            result = None
            for _ in range(times):
                result = function(*args, **named)
            return result

        return wrapper

    return decorate


@repeated(1 + 1)
@functools.lru_cache(maxsize=2**3)
def area(width, height=3 * 2):
    note("area")
    return width * height


registry = [repeated]


@registry[1 - 1](1)
def registered(x, /, y=2, *rest, z=LOG is not None and 1 + 2, **named):
    return x + y * z - sum(rest) + sum(named.values())


@contextlib.contextmanager
def scope(name):
    note("enter " + name)
    try:
        yield name * 2
    except ArithmeticError as error:
        note("swallowed " + type(error).__name__)
    finally:
        note("leave " + name)


# Functions: closures, nonlocal, global, recursion, generators, lambda defaults bound in a loop.


def counter():
    count = 0

    def increase(by=1):
        nonlocal count
        count += by * 1
        return count

    return increase


def bump(amount):
    global COUNTER
    COUNTER += amount + 0
    return COUNTER


def factorial(n):
    return 1 if n < 2 else n * factorial(n - 1)


def halves(x):
    """A generator that is sent values, closed early and delegated to."""
    try:
        while x > 1:
            got = yield x / 2
            x = x / 2 if got is None else got * 1
    finally:
        note("generator closed")


def delegated(n):
    result = yield from halves(n)
    return note("delegated", result)


async def produced(n):
    for i in range(n):
        await asyncio.sleep(0)
        yield i * i


async def asynchronous(n):
    total = 0
    async for value in produced(n):
        total += value * 2
    pairs = [a + b async for a in produced(2) for b in (10, 20) if a + b > 10]
    async with asyncio.Lock():
        total -= await asyncio.sleep(0, 1 + 1)
    return total, pairs


def order_of_evaluation():
    """Which operand is evaluated first, in every kind of target and call."""
    items = {"a": np.arange(6.0), "b": [1, 2, 3]}
    items[note("key", "a")][note("index", 1)] += note("right", 2) * note("factor", 3)
    items["b"][note("i", 0)], items["b"][note("j", 1)] = note("first", 4) + 1, note("second", 5) - 1
    first = second = items["a"][note("slice", 2) : note("stop", 5) : note("step", 2)] = note("value", 7) * 1.0
    result = note("left", 2) ** note("power", 3) - note("minus", 1) // (note("floor", 2) or note("never"))
    called = registered(note("x", 1), *note("star", [2, 3]), **note("named", {"q": 4}), z=note("z", 5))
    choice = note("then", 1) if note("test", 0) or note("again", 2) > 1 else note("else", 3)
    (head, *middle), tail = note("unpack", ([1, 2, 3, 4], 5))
    del items["b"][note("delete", 0)], middle[0]
    return [items["a"], items["b"], first, second, result, called, choice, head, middle, tail]


def short_circuits(x):
    """Right sides with side effects that must not happen, and arrays whose truth must not be asked."""
    seen = []
    none = None
    ok = none is None or none.missing + 1
    both = (len(x) > 100 and note("not reached")) or (seen.append(1) or len(seen) * 10)
    inside = 0 < len(x) + note("once", 0) < 100 < 10**3
    outside = 0 < note("middle", -1) < note("not evaluated", 5)
    equal = x is x is not None and "a" in "abc" not in ("x",)
    if (n := len(x)) > 2 and (m := n * 2) > n:
        seen.append(n + m)
    while (n := n - 1) and n > 2:
        seen.append(n)
    filtered = [y * 2 for v in x if v > 0 if (y := v + 1) < 2.5]
    return ok, both, inside, outside, bool(equal), seen, filtered, not x.any()


def comprehensions():
    """Nested, with conditions, in every flavour; the loop variable must not leak, and closures keep their own."""
    x = 99
    matrix = [[i * j for j in range(3) if j != i] for i in range(3)]
    mapping = {k: v**2 for k, v in zip("abc", range(3)) if v % 2 == 0}
    unique = {i // 2 for i in range(6)}
    lazy = (x * 2 for x in itertools.chain([1, 2], [3]) if x - 2)
    functions = [lambda k=i * 2: k + 1 for i in range(3)]
    late = [lambda: i + 0 for i in range(3)]  # noqa: B023  the late binding is the case
    total = sum(a * b for a, b in zip([1, 2], [3, 4]))
    arrays = sum(row * 2 for row in np.eye(3))
    return matrix, mapping, sorted(unique), list(lazy), [f() for f in functions], [f() for f in late], total, arrays, x


def indexing():
    """Slices with steps, ellipsis, new axes, masks, and augmented assignment through all of them."""
    a = np.arange(24.0).reshape(2, 3, 4)
    a[..., ::-1][0, 1] *= 2
    a[:, None, 1, ...][1] -= 1
    a[a > 20] = -a[a > 20]
    a[[0, 1], [2, 0], 1:3] += np.array([[0.5, 1.5]])
    a[:, :, -1:] //= 3
    b = a.T[1:, ::2, np.newaxis]
    b **= 2
    a[0, 0, 0], a[1, 1, 1] = a[1, 1, 1], a[0, 0, 0]
    rolled = a.copy()
    rolled[:, 1:] = rolled[:, :-1]  # overlapping
    a[0] @= np.eye(4)
    c = np.arange(5)
    c <<= 1
    c ^= c >> 1 | 1
    d = ~c & -2
    return a, b, rolled, c, d, +a[..., 0], a[()] is a, a[1:0].sum()


def scopes():
    """locals(), eval, exec, vars, dir and frames see the names that the source has."""
    here, there = 2, 3
    names = sorted(locals())
    evaluated = eval("here * there + 1")
    space = {"n": 4}
    exec("n = n * n\nm = [k + 1 for k in range(n - 13)]", space)
    frame = inspect.currentframe().f_code.co_name
    line = sys._getframe().f_lineno - order_of_evaluation.__code__.co_firstlineno
    return names, evaluated, space["n"], space["m"], frame, line > 0, sorted(vars(Record(1.0))), "here" in dir()


def matched(value):
    match value:
        case {"shape": [rows, *others], **rest} if rows * 2 > 2:
            return rows + len(others) * 10 + len(rest)
        case np.ndarray(ndim=2 as dimensions):
            return dimensions + 1
        case [x, y] | Point(x=x, y=y) if x != y:
            return x - y
        case Record(loss=float() as loss):
            return loss * 3
        case -1 | 1.5 | "text":
            return "literal"
        case _:
            return None


def exceptions():
    """Raised inside of expressions, caught, chained, raised again; finally overrides; else runs."""
    found = []
    for divisor in (0, 1, "a", None):
        try:
            note("try", found).append(1 / note("divisor", divisor) + [10][divisor - 1])
        except ZeroDivisionError:
            found.append("zero")
        except (TypeError, IndexError) as error:
            found.append(type(error).__name__)
        else:
            found.append("fine")
        finally:
            found.append(len(found) * 2)
    try:
        try:
            np.ones(2) @ np.ones(3)
        except ValueError as error:
            raise RuntimeError("outer" + "!") from error
    except RuntimeError as error:
        found.append((str(error), type(error.__cause__).__name__))
    with scope("a") as twice, scope("b" + twice):
        found.append(1 // 0)
    try:
        raise ExceptionGroup("many", [ValueError(1 + 1), TypeError("t")])
    except* ValueError as group:
        found.append(len(group.exceptions) + 1)
    except* TypeError:
        found.append("t")

    def overridden():
        for i in range(5):
            try:
                if i * 2 > 2:
                    return i + 100
                continue
            finally:
                note("finally")
        return None

    try:
        assert len(found) < 0, f"length {len(found) - len(found):d}" + "!"
    except AssertionError as error:
        found.append(str(error))
    return found, overridden()


def texts(x):
    width = 4
    return [
        f"{x + 1:>{width * 2}.{width - 2}f}|{x!r}|{'nested ' + f'{x * 2}'}|{x=}",
        "%d of %s" % (3 + 4, "many"),  # noqa: UP031  the operator is the case
        "ab" * 2 + "c",
        b"x" + b"y",
        "=" * 3 in "====",
        [0] * 3 + [1],
        (1,) + (2,) * 2,
    ]


class Odd:
    """Operators that answer what arrays never would."""

    def __init__(self):
        self.value = 1
        self.items = {}

    def __add__(self, other):
        return NotImplemented

    def __iadd__(self, other):
        self.value += other
        return self

    def __eq__(self, other):
        return [self.value, other]

    def __bool__(self):
        raise TypeError("no truth")

    def __getitem__(self, key):
        return note(f"get {key}", self.items.get(str(key), 0))

    def __setitem__(self, key, value):
        self.items[note(f"set {key}", str(key))] = value

    def __contains__(self, key):
        return note("contains", 1)

    __hash__ = None


def operators():
    odd = same = Odd()
    odd += 4
    odd.value += note("attribute", 2)
    odd[1 + 1] += 5
    odd[2] **= 2
    odd[1:2, ..., None] = "slices"
    try:
        odd + 1
    except TypeError:
        note("not implemented")
    compared = odd == 3
    calls = functools.reduce(operator.mul, [2, 3, 4]) + operator.matmul(np.ones(2), np.ones(2))
    layer = Tanh(2, 2, np.random.default_rng(0))
    product = 3 * layer
    layer.W = layer.W * 2
    layer.W += 1
    return same is odd, odd.value, sorted(odd.items), compared, 9 in odd, calls, product, layer.magic_name


def targets():
    """Chained and starred targets, attributes and subscripts in loops, with and for; names deleted and bound again."""
    box = Point([0, 0], {})
    for box.x[0], box.y["k"] in zip(range(3), "abc"):
        pass
    for i, (a, *b) in enumerate([(1, 2, 3), (4, 5)]):
        box.y[i] = a * sum(b)
    else:
        box.y["else"] = i + 1
    with io.StringIO() as box.y["stream"]:
        box.y["stream"].write("text" * 2)
        text = box.y.pop("stream").getvalue()
    a, b = b, a
    a = b = c = [a] * 2
    c[0] = 7
    del a
    (d,) = (e := [1 + 1])
    x: int = 3
    y: "list[int]" = [x * 2]
    return box.x, box.y, text, b, d, e, x, y


def identities():
    """What must stay the very object: views, in-place results, aliases, interned and shared things."""
    a = np.zeros(4)
    view, alias = a[:2], a
    view += 1
    alias *= 2
    row = np.matmul(np.eye(4), a, out=a)
    big = np.ones((400, 400))
    big_result = (big + big) * (big - 0.5) / 3 + big  # NumPy takes the memory of temporaries over
    shared = np.add(big[0], big[1], where=big[2] > 5, out=np.zeros(400))
    return row is a, view.base is a, alias is a, big_result.sum(), shared.sum(), sys.getrefcount(view) < 10


def train():
    """A small training whose every parameter goes into the state."""
    rng = np.random.default_rng(12)
    x = rng.standard_normal((120, 20)).astype(np.float32)
    t = np.sign(x[:, :2])
    net = [Tanh(20, 16, rng), Tanh(16, 16, rng, extra=[1]), Layer(16, 2, rng)]
    losses = []

    def step(xb, tb, rate=np.float32(0.2) / 2):
        out = functools.reduce(lambda value, layer: layer.forward(value), net, xb)
        error = out - tb
        grad = error / len(xb)
        for layer in net[::-1]:
            grad = layer.backward(grad, rate)
        losses.append(float((error * error).mean()))
        return grad

    for epoch in range(3):
        order = rng.permutation(len(x))
        for k in range(0, len(x), 24):
            last = step(x[order[k : k + 24]], t[order[k : k + 24]])
        note(f"epoch {epoch + 1}: {losses[-1]:.6f}")
    for l, layer in enumerate(net):
        state[f"W{l + 1}"], state[f"b{l + 1}"] = layer.W, layer.b
    state["input gradient"] = last
    return losses[0] > losses[-1], [layer.calls[0] for layer in net]


def main(argv):
    results = {}
    print("start", end=" ")
    for case in (order_of_evaluation, comprehensions, indexing, scopes, exceptions, operators, targets, identities):
        results[case.__name__] = case()
        print(case.__name__, end="; ", flush=True)
    print()
    results["short circuits"] = short_circuits(np.linspace(-1, 3, 5))
    results["texts"] = texts(1.5)
    increase = counter()
    results["functions"] = [increase(), increase(2 + 3), bump(2), bump(-1), factorial(6), area(2), area(2, 4)]
    generator = halves(40)
    results["generators"] = [next(generator), generator.send(9), next(generator), generator.close(), *delegated(8)]
    results["asynchronous"] = asyncio.run(asynchronous(4))
    cases = ({"shape": [2, 3], "k": 1}, [1, 2], Point(5, 3), Record(2.5), -1, np.ones((2, 2)), [1, 1], {"shape": [1]})
    results["matched"] = [matched(case) for case in cases]
    results["classes"] = [Layer.table, float(Layer.hidden()), Layer.half(3), float(Tanh.doubled), Tanh.factor]
    results["sorted"] = sorted([Record(2.0), Record(1.0)], key=lambda record: -record.loss)
    results["trained"] = train()
    results["argv"] = len(argv) - len(argv) + (__name__ == "__main__") + 1
    for name, value in results.items():
        print(f"{name}: {value!r}")
        if isinstance(value, tuple | list):
            state.update((f"{name} {i}", v) for i, v in enumerate(value) if isinstance(v, np.ndarray))
    print(len(LOG), "notes; the last:", LOG[-1])
    print(digest())


if __name__ == "__main__":
    main(sys.argv)
