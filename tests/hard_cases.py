"""Python that is easy to break when its operations are rewritten; `run()` returns what all of it computed."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

LOG: list[str] = []
HALF = np.float64(0.5)


def say(text, value):
    LOG.append(text)
    return value


class Base:
    factor = 2

    def scaled(self, x):
        return x * self.factor


class Derived(Base):
    __secret = 3

    def scaled(self, x, *, shift=HALF * 2):
        return super().scaled(x) + self.__secret + shift

    @property
    def twice(self):
        return self.factor * 2

    @staticmethod
    def plain(a, /, b, *rest, c=4, **named):
        return a - b + sum(rest) * c + sum(named.values())

    @classmethod
    def made(cls, x):
        return cls().scaled(x)

    def __call__(self, x):
        return -x @ x


@dataclass(frozen=True)
class Pair:
    left: float
    right: float

    def __getitem__(self, i):
        return (self.left, self.right)[i]


def cached(function):
    @functools.wraps(function)
    def inner(*args):
        return function(*args) + 1

    return inner


@cached
def decorated(x):
    return x * x


def generator(n):
    for i in range(n):
        got = yield i * i
        if got is not None:
            yield got + i


def closure(n):
    total = 0

    def add(x):
        nonlocal total
        total += x * n
        return total

    return add


def order_of_evaluation():
    items = {"k": [1.0, 2.0]}
    say("list", items["k"])[say("key", 1)] += say("value", 5.0)
    a = b = items["k"][0:1] = [say("once", 9.0)]
    first, items["k"][1] = 3.0, 4.0
    return items, a, b, first


def arrays():
    x = np.arange(12.0).reshape(3, 4)
    y = x[:, 1:].copy()
    y[0, ::-1] += x[0, :3] * 2
    x[[0, 2]] -= 1
    x[x > 5] *= 0.5
    view = x[1:]
    view /= 4
    shifted = x.copy()
    shifted[1:] = shifted[:-1]
    z = np.c_[x, x] if x.any() and not (x < 0).all() else None
    assert z is not None
    w = (x + 1) * (x + 1) - x**2 - 2 * x  # temporaries that NumPy likes to reuse
    big = np.ones((300, 300))
    reused = (big + big) * (big - 0.5) / 3 + big
    total = sum(row @ row for row in x) + [float(v) for v in x.ravel() if v > 1][-1]
    return x, y, view, shifted, z, w, reused, total, 1 < x[0, 0] + 3 < 5, -x[..., None], ~(x > 1)


def frames():
    here = 5
    names = sorted(locals())
    return names, eval("here * 2"), "frames" in globals(), vars(Pair(1.0, 2.0))["left"]


def statements(value):
    match value:
        case {"shape": [n, *rest], -1: other}:
            found = n + len(rest) + other
        case Pair(left=1.0) | Pair(left=-2.0):
            found = value[0] * 10
        case int() if value % 2 == 0:
            found = value // 2
        case _:
            found = None
    try:
        if (n := len(str(value))) > 3 and 1 / (n - n):
            found = "never"
    except ZeroDivisionError as error:
        found = (found, type(error).__name__)
    finally:
        text = f"{found!r:>12} {n + 1:{n + 2}d}"
    return text


def run():
    LOG.clear()
    add = closure(3)
    made = generator(3)
    thing = Derived()
    return (
        Derived.made(np.arange(3.0)),
        thing.twice,
        thing(np.arange(3.0)),
        Derived.plain(*[5], 3, *(1, 2), c=2, **{"d": 4}),
        decorated(3),
        [add(x) for x in (1, 2)][-1] * add(1),
        [next(made), made.send(10), *made],
        (lambda x, k=2 * 3: x[k])(list(range(9))),
        order_of_evaluation(),
        arrays(),
        frames(),
        [statements(v) for v in ({"shape": [1, 2], -1: 3}, Pair(1.0, 2.0), Pair(-2.0, 0.0), 8, 7)],
        {k: v * 2 for k, v in zip("ab", (1.0, 2.0), strict=True)},
        list(LOG),
    )
