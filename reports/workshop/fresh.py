"""Plants that were written after the check had been mended with those of `planted`; their figures count as fresh.

What they showed when they were examined for the first time is in README.md beside this file.
"""

from __future__ import annotations

from reports.workshop.planted import (
    AT_LINE,
    BACKWARD,
    BATCH_ERROR,
    COST,
    DESCEND,
    FETCH,
    FORWARD,
    MOMENTUM,
    NUMPY,
    SIGMOID,
    STEP,
    TAKEN,
    UPDATE,
    Plant,
    after,
    before,
    swap,
)

ACTIVATED = (f"self.A[l] = {SIGMOID}(self.Z[l])", f"self.A[l] = {SIGMOID}(Z)")
VALUES = ("self.Z[l]", "Z")

GENERIC = ("forward or loss", "gradients are wrong", "update() is wrong", "only the gradient", "second is not")
"""Messages that say in which method the mistake is, and no more. A mistake without words of its own gets one."""


def activated(text: str) -> tuple[tuple[tuple[str, str], ...], ...]:
    """Forms with another activation; text: with {A} for the activation and {Z} for its argument."""
    return tuple(
        swap(f"{whole}  #", f"self.A[l] = {text.format(A=whole.partition(' = ')[2], Z=value)}  #")
        for whole, value in zip(ACTIVATED, VALUES, strict=True)
    )


FRESH = (
    Plant(
        "fresh: numbers", "ReLU in the hidden layers", GENERIC, activated("np.maximum({Z}, 0) if l < self.L else {A}")
    ),
    Plant(
        "fresh: numbers",
        "softmax at the output",
        GENERIC,
        activated("{A} if l < self.L else np.exp({Z}) / np.exp({Z}).sum(axis=0)"),
    ),
    Plant("fresh: numbers", "activations rounded", GENERIC, activated("np.round({A}, 3)")),
    Plant(
        "fresh: numbers",
        "random dropout",
        GENERIC,
        activated("{A} * (np.random.default_rng().random({Z}.shape) > 0.1)"),
    ),
    Plant(
        "fresh: numbers",
        "activation in half precision",
        ("single precision", *GENERIC),
        activated("{A}.astype(np.float16).astype({Z}.dtype)"),
    ),
    Plant(
        "fresh: numbers", "outputs in reverse order", GENERIC, (swap(BATCH_ERROR, "(self.A[l] - self.Y[::-1]) / m"),)
    ),
    Plant("fresh: numbers", "error squared", GENERIC, (swap(BATCH_ERROR, "(self.A[l] - self.Y) ** 2 / m"),)),
    Plant("fresh: numbers", "error halved", ("divided by",), (swap(BATCH_ERROR, "(self.A[l] - self.Y) / (2 * m)"),)),
    Plant(
        "fresh: numbers",
        "gradients clipped",
        GENERIC,
        (
            swap(
                "self.regularize(l)  # phase",
                "self.regularize(l); np.clip(self.dW[l], -0.01, 0.01, out=self.dW[l])  # phase",
            ),
        ),
    ),
    Plant(
        "fresh: numbers",
        "squared error as the loss",
        ("loss() is",),
        (swap(COST, "return ((self.A[self.L] - self.Y) ** 2).sum() / (2 * self.Y.shape[1])"),),
    ),
    Plant(
        "fresh: numbers",
        "one half of the cross-entropy",
        ("loss() is",),
        (swap(COST, "return -(self.Y * np.log(self.A[self.L])).sum() / self.Y.shape[1]"),),
    ),
    Plant(
        "fresh: numbers",
        "loss of the first sample",
        ("loss() ", "other rows"),
        (swap(COST, "return self.mean_loss(self.A[self.L][:, :1], self.Y[:, :1])"),),
    ),
    Plant(
        "fresh: numbers",
        "batch normalized",
        ("forward or loss",),
        (swap(TAKEN, "(X[index] - X[index].mean(axis=0)).T"),),
    ),
    Plant(
        "fresh: numbers",
        "predict returns classes",
        ("predict",),
        (
            swap("        return A.T\n", "        return A.T.argmax(axis=1)\n"),
            swap("        return A\n", "        return A.argmax(axis=1)\n"),
        ),
    ),
    Plant(
        "fresh: numbers",
        "predict returns the batch",
        ("predict", AT_LINE),
        (after("    def predict(self, X):", "        return self.A[-1].T"),),
    ),
    Plant(
        "fresh: numbers",
        "gradients without biases",
        ("gradient of the biases",),
        (swap("[(dW[:, 1:].copy(), dW[:, 0].copy()) for dW in", "[(dW[:, 1:].copy(), dW[:, 0].copy() * 0) for dW in"),),
    ),
    Plant(
        "fresh: update",
        "half the rate",
        ("update() is wrong",),
        (swap(DESCEND, "self.W[l] -= self.network.rate / 2 * self.velocity[l]"),),
    ),
    Plant(
        "fresh: update",
        "rate that decays",
        ("update() is wrong", "second"),
        (
            swap(f"{UPDATE}\n", f"{UPDATE}\n        self.t = getattr(self, 't', 0) + 1\n")
            + swap(DESCEND, "self.W[l] -= self.network.rate / self.t * self.velocity[l]"),
        ),
    ),
    Plant(
        "fresh: update",
        "velocity made anew",
        ("momentum is missing",),
        (after(UPDATE, "        self.velocity = [W if W is None else 0 * W for W in self.W]"),),
        last=5,
    ),
    Plant(
        "fresh: update",
        "Nesterov's momentum",
        ("update()",),
        (swap(DESCEND, "self.W[l] -= self.network.rate * (self.network.momentum * self.velocity[l] + self.dW[l])"),),
    ),
    Plant(
        "fresh: update",
        "only the last layer",
        ("update()",),
        (
            swap(
                "        for l in range(1, self.L + 1):\n            self.velocity",
                "        for l in range(self.L, self.L + 1):\n            self.velocity",
            ),
        ),
    ),
    Plant(
        "fresh: update",
        "weight decay too",
        ("update() is wrong",),
        (swap(DESCEND, f"self.W[l] *= 1 - self.network.rate * self.network.l2; {DESCEND}"),),
    ),
    Plant(
        "fresh: update",
        "gradients divided again",
        ("update() is wrong",),
        (swap(MOMENTUM, f"{MOMENTUM} / self.Y.shape[1]"),),
    ),
    Plant(
        "fresh: state",
        "backward without the first layer",
        (AT_LINE, "gradient", "layer 1"),
        (swap("for l in reversed(range(1, self.L + 1)):", "for l in reversed(range(2, self.L + 1)):"),),
    ),
    Plant(
        "fresh: state",
        "gradients kept by the index",
        ("not a third one with the samples of the first",),
        (
            after(
                BACKWARD,
                "        key = self.A[0].tobytes()",
                "        self.seen = getattr(self, 'seen', set())",
                "        if key in self.seen:",
                "            return",
                "        self.seen.add(key)",
            ),
        ),
        first=1,
    ),
    Plant(
        "fresh: state",
        "weights of its own",
        ("forward or loss", "parameters"),
        (
            swap(
                "[np.hstack((b[:, None], W)) for W, b in parameters]",
                "[np.hstack((b[:, None], W)) * 1.01 for W, b in parameters]",
            ),
        ),
    ),
    Plant(
        "fresh: state",
        "velocity of the class, shared by all objects",
        ("objects share",),
        (
            swap(
                "        self.velocity = [None] + [np.zeros_like(W) for W in self.W[1:]]\n",
                "        new = [None] + [np.zeros_like(W) for W in self.W[1:]]\n"
                "        self.velocity = self.shared.setdefault(network.layers, new)\n",
            )
            + swap("    DTYPE =", "    shared = {}\n    DTYPE ="),
        ),
        first=0,
        last=5,
    ),
    Plant(
        "fresh: loop",
        "range over the samples",
        ("loop over samples",),
        (after(FORWARD, "        for i in range(self.A[0].shape[1]):", "            self.A[0][:, i] += 0"),),
        first=1,
        last=5,
    ),
    Plant(
        "fresh: loop",
        "np.frompyfunc",
        ("loop over samples",),
        activated("np.frompyfunc(lambda z: 1 / (1 + np.exp(-z)), 1, 1)({Z}).astype({Z}.dtype)"),
        first=1,
        last=6,
    ),
    Plant(
        "fresh: loop",
        "np.fromiter",
        ("loop over samples",),
        (after(BACKWARD, "        norms = np.fromiter((float(y.sum()) for y in self.Y.T), float)"),),
        first=1,
        last=5,
    ),
    Plant(
        "fresh: loop",
        "unpacked map",
        ("loop over samples",),
        (swap(TAKEN, "np.stack([*map(X.__getitem__, index)]).T"),),
        first=1,
        last=6,
    ),
    Plant(
        "fresh: loop",
        "sum over the rows",
        ("loop over samples",),
        (swap("self.dW[l][:, 0] = delta.sum(axis=1)", "self.dW[l][:, 0] = sum(delta.T)"),),
        first=1,
        last=6,
    ),
    Plant(
        "fresh: loop",
        "recursion over the samples",
        ("loop over samples",),
        (
            after(
                BACKWARD,
                "        def norm(i):",
                "            return 0 if i == 0 else norm(i - 1) + self.Y[0, i - 1]",
                "        norm(self.Y.shape[1])",
            ),
        ),
        first=1,
        last=5,
    ),
    Plant(
        "fresh: cheat",
        "jax in place of NumPy",
        ("imports jax",),
        (swap(NUMPY, "from jax import numpy as np\n"),),
        first=1,
        last=6,
    ),
    Plant(
        "fresh: cheat",
        "cupy in place of NumPy",
        ("imports cupy",),
        (swap(NUMPY, "import cupy as np\n"),),
        first=1,
        last=6,
    ),
    Plant(
        "fresh: cheat",
        "timeit's timer changed",
        ("clock",),
        (swap(NUMPY, f"{NUMPY}import time\nimport timeit\ntimeit.default_timer = time.perf_counter = lambda: 1.0\n"),),
    ),
    Plant(
        "fresh: cheat",
        "time replaced as a module",
        ("clock",),
        (swap(NUMPY, f"{NUMPY}import sys\nimport types\nsys.modules['time'] = types.ModuleType('time')\n"),),
    ),
    Plant(
        "fresh: cheat",
        "clock changed on the network of the race",
        ("clock",),
        (
            after(
                STEP,
                "        if len(index) > 100:",
                "            import time",
                "            time.perf_counter = lambda: 1.0",
            ),
        ),
    ),
    Plant(
        "fresh: right",
        "backward twice",
        (),
        (
            swap(
                "        self.backward()\n        self.update()",
                "        self.backward()\n        self.backward()\n        self.update()",
            ),
        ),
        last=4,
    ),
    Plant(
        "fresh: right",
        "forward twice",
        (),
        (swap("        self.forward()\n        loss", "        self.forward()\n        self.forward()\n        loss"),),
    ),
    Plant(
        "fresh: right",
        "loop over layers with enumerate",
        (),
        (
            swap(
                "        for l in range(1, self.L + 1):\n            self.velocity",
                "        for l, _ in enumerate(self.W[1:], start=1):\n            self.velocity",
            ),
        ),
    ),
    Plant(
        "fresh: right",
        "rate as an attribute",
        (),
        (
            swap(DESCEND, "self.W[l] -= self.rate * self.velocity[l]")
            + swap(
                "        self.network = network\n", "        self.network = network\n        self.rate = network.rate\n"
            ),
        ),
    ),
    Plant(
        "fresh: right",
        "a helper for the product",
        (),
        (
            swap("self.W[l][:, 1:] @ self.A[l - 1]", "self.product(self.W[l][:, 1:], self.A[l - 1])")
            + before(FORWARD, "    @staticmethod", "    def product(a, b):", "        return np.matmul(a, b)", ""),
            swap("self.W[l] @ self.A_bias[l - 1]", "self.product(self.W[l], self.A_bias[l - 1])")
            + before(FORWARD, "    @staticmethod", "    def product(a, b):", "        return np.matmul(a, b)", ""),
        ),
    ),
    Plant(
        "fresh: right",
        "einsum for the weighted sum",
        (),
        (
            swap("self.W[l][:, 1:] @ self.A[l - 1]", "np.einsum('ij,jk->ik', self.W[l][:, 1:], self.A[l - 1])"),
            swap("self.W[l] @ self.A_bias[l - 1]", "np.einsum('ij,jk->ik', self.W[l], self.A_bias[l - 1])"),
        ),
    ),
    Plant(
        "fresh: right",
        "assertions",
        (),
        (after(FETCH, "        assert X.ndim == 2", "        assert len(X) == len(Y)"),),
    ),
    Plant(
        "fresh: right",
        "a small loop over blocks of samples",
        (),
        (
            after(
                BACKWARD, "        for i in range(0, self.Y.shape[1], 32):", "            self.Y[:, i : i + 32].sum()"
            ),
        ),
        first=1,
        last=4,
    ),
    Plant(
        "fresh: right",
        "a loop over blocks of samples and layers",
        (),
        (
            after(
                BACKWARD,
                "        for i in range(0, self.Y.shape[1], 32):",
                "            for l in range(1, self.L + 1):",
                "                self.A[l][:, i : i + 32].sum() + self.A[l][:, i : i + 32].max()",
            ),
        ),
        first=1,
        last=4,
    ),
    Plant(
        "fresh: right",
        "a loop over the classes",
        (),
        (after(BACKWARD, "        for k in range(self.Y.shape[0]):", "            self.Y[k].sum()"),),
        first=1,
        last=5,
    ),
    Plant(
        "fresh: right",
        "predict in blocks",
        (),
        (
            after(
                "    def predict(self, X):",
                "        if len(X) > 5:",
                "            return np.vstack([self.predict(X[i : i + 5]) for i in range(0, len(X), 5)])",
            ),
        ),
    ),
)
"""Each with the words that name it, as in `planted`."""
