# %% [markdown]
# A notebook: each of these cells becomes a cell of it.
# %%
# %matplotlib inline
import sys
import zlib

import numpy as np

rng = np.random.default_rng(4)
X = rng.standard_normal((800, 20))
Y = np.eye(3)[(X[:, :3] * X[:, 3:6]).argmax(axis=1)]


# %%
def sigmoid(z):
    return 1 / (1 + np.exp(-np.clip(z, -500, 500)))


# %%
W = [None, rng.standard_normal((20, 50)) / 4, rng.standard_normal((50, 3)) / 7]
b = [None, np.zeros(50), np.zeros(3)]


def train_on(x, y, rate=0.5):  # step
    z1 = x @ W[1] + b[1]
    a1 = sigmoid(z1)
    a2 = sigmoid(a1 @ W[2] + b[2])
    d2 = (a2 - y) / len(x)
    d1 = (d2 @ W[2].T) * sigmoid(z1) * (1 - sigmoid(z1))  # planted: recomputation
    # fast: d1 = (d2 @ W[2].T) * a1 * (1 - a1)
    for l, a, d in ((1, x, d1), (2, a1, d2)):
        W[l] -= rate * (a.T @ d)
        b[l] -= rate * d.sum(axis=0)


# %%
n_steps = 1_000_000 if len(sys.argv) < 2 or not sys.argv[1].isdecimal() else int(sys.argv[1])
for i in range(n_steps):
    first = 200 * (i % 4)
    train_on(X[first : first + 200], Y[first : first + 200])
# %%
parameters = [*W[1:], *b[1:]]
print(*(f"{abs(p).sum():.12g}:{zlib.crc32(p.tobytes()):08x}" for p in parameters))
