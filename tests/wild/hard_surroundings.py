"""What else an instrument can break: dtypes, generators left open, recursion, threads, closures that outlive a step.

Run plain and instrumented, the whole output is the same; nothing is computed that only a rounding could change.
"""

import concurrent.futures
import functools
import threading

import numpy as np


def deep(n, x):
    return x if n == 0 else deep(n - 1, x) + 1


class Asked:
    """Tells who asks it."""

    def __len__(self):
        print("len asked")
        return 3

    def __iter__(self):
        print("iter asked")
        return iter([1, 2, 3])


def numbers(n):
    try:
        for i in range(n):
            yield i + 0
    finally:
        print("closed", n)


class Kept:
    def __init__(self):
        self.closures, self.generator, self.total = [], None, 0

    def __call__(self, x, *rest, scale=1, **named):
        self.total += x * scale + sum(rest) + sum(named.values())
        return self.total


kept = Kept()


def running():
    total = np.zeros(2)
    while True:
        got = yield total
        for i in range(3):
            total = total + i * (got or 1)


def memory():
    count = 0

    def more(by):
        nonlocal count
        count += by
        return [count * k for k in range(2)]

    return more


@functools.singledispatch
def kind(x):
    return "thing", x


@kind.register
def _(x: int):
    return "number", x + 1


def endless(n):
    return endless(n + 1) + 1


def surroundings(k):
    """What outlives a step: closures, a generator, threads, partial functions; and steps that fail."""
    if kept.generator is None:
        kept.generator = running()
        next(kept.generator)
    kept.closures.append(memory())
    print([more(k + 1) for more in kept.closures], kept.generator.send(k))
    print(functools.partial(kept, 2, scale=3)(1, q=4), kind(3), kind("x"))
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        print(list(pool.map(lambda i: sum(x * i for x in range(20)) + np.full(3, i) * 2, range(6)))[-1])
    results = []
    thread = threading.Thread(target=lambda: results.extend([row @ row for row in np.eye(4)[1:]]))
    thread.start()
    for i in range(30):
        if i == 17:
            break
        for j in range(20):
            if j == 15:
                continue
            kept.total += i * j
    else:
        print("never")
    thread.join()
    print(len(results), kept.total, i, j)
    try:
        endless(0)
    except RecursionError:
        print("too deep")
    try:
        for i in range(40):
            kept(1 / (20 - i))
    except ZeroDivisionError as error:
        print(error, i, round(kept.total, 6))
    if k % 3 == 1:
        raise KeyError(k)


def step(k):
    z = np.ones(3, complex) * (1 + 2j)
    t = np.array(["2020-01-01"], "datetime64[D]") + np.timedelta64(1, "D")
    u = np.array(["ab", "c"]) == np.array(["ab", "d"])
    s = np.zeros(2, [("a", "f4"), ("b", "i2")])
    s["a"] += 1
    g = np.ones(3, np.longdouble) + 1
    h = np.ones(3, np.float16) * 2
    o = np.array([1, None, "x"], object)
    m = np.ma.masked_array([1.0, 2.0], [True, False]) * 2
    print(z.sum(), t, u, s, g, h, o[1], m)
    print(deep(450, np.zeros(2)))
    it = numbers(5)
    print(next(x * 2 for x in it if x > 0), next(it))
    try:
        (x + 1 for x in 5)
    except TypeError:
        print("not iterable")
    lazy = (x + 1 for x in Asked())
    print("made")
    print(list(lazy), [c + 0 for c in Asked()])
    big = np.full((2000, 600), np.inf)
    big[0] = -np.inf
    with np.errstate(all="raise"):
        print((big * 1.0)[0, 0])
    print(sum(x * x for x in numbers(30)), max((i, x) for i, x in enumerate(np.arange(20.0))))
    d = {**{"a": 1}, "k": k}
    print("{a} {k}".format(**d), f"{z[0]:.2f}")
    print(any(x > 3 for x in it), list(it), np.float64(3) ** 2, 10**30 + 1)
    gen = (v for v in [1, 2, 3])
    first, *rest = gen
    print(first, rest)
    empty = np.zeros((0, 3))
    print((empty + 1).shape, (empty.T @ empty).shape, np.array(3.0) + np.array(4))
    with np.errstate(all="ignore"):
        print(np.log(np.zeros(1)))
    f = np.frompyfunc(lambda a, b: a + b, 2, 1)
    print(f(np.arange(2), 1))
    print(sorted([3, 1, 2], key=lambda v: -v), list(map(str, [v * 2 for v in range(3)])))
    a = np.arange(6.0)
    a[::2], a[1] = a[1::2] * 2, 7
    a[a > 3] += a[0]
    print(a)
    b = a
    b += 1
    print(b is a, a)
    L = [1]
    M = L
    L += [2]
    print(M)
    print(np.add.at(a, [0, 0], 1), a[0], np.random.default_rng(0).permutation(4))
    surroundings(k)
    return k


for i in range(9):
    try:
        print("result", step(i))
    except KeyError as error:
        print("failed", error)
print("end")
