"""What is planted into the solutions of the workshop: mistakes, and changes that leave the code right.

A plant has several forms, because the solutions are written differently. A form is a list of replacements that all have
to fit. The label of a plant is known by how it is made: no check was asked for it.
"""

from __future__ import annotations

from dataclasses import dataclass

Swap = tuple[str, str]
Form = tuple[Swap, ...]

AT_LINE = "{line}"
"""In place of words of a message: the message has to name a line that planting has changed."""


@dataclass(frozen=True)
class Plant:
    """A change of a solution.

    kind: for the table. says: the mistake is named if the message contains one of these; empty if the code stays right.
    first, last: the exercises whose solutions it is planted into.
    """

    kind: str
    name: str
    says: tuple[str, ...]
    forms: tuple[Form, ...]
    first: int = 0
    last: int = 7

    @property
    def is_right(self) -> bool:
        """Whether the code is still right and built as required."""
        return not self.says


def swap(old: str, new: str) -> Form:
    """A form that is one replacement."""
    return ((old, new),)


def before(line: str, *lines: str) -> Form:
    """A form that puts lines before another one, which is the beginning of a line with its indentation."""
    return ((f"\n{line}", "\n" + "".join(f"{one}\n" for one in lines) + line),)


def after(line: str, *lines: str) -> Form:
    """A form that puts lines after a whole one."""
    return ((f"\n{line}\n", f"\n{line}\n" + "".join(f"{one}\n" for one in lines)),)


BATCH_ERROR, SAMPLE_ERROR = "(self.A[l] - self.Y) / m", "(a[l] - y) / m"
BUFFER_ERROR = "            delta *= 1 / self.m  # phase: error\n"
NUMPY = "import numpy as np\n"
FETCH = "    def fetch_batch(self, X, Y, index):"
FORWARD = "    def forward(self):"
LOSS = "    def loss(self):"
BACKWARD = "    def backward(self):"
UPDATE = "    def update(self):"
STEP = "    def train_step(self, X, Y, index):"
INIT = "        self.network = network"
TAKEN = "X[index].T"
BUFFER_TAKEN = "X.take(index, axis=0, out=self.A[0]"
MOMENTUM = "self.velocity[l] = self.network.momentum * self.velocity[l] + self.dW[l]"
DESCEND = "self.W[l] -= self.network.rate * self.velocity[l]"
BUFFER_DESCEND = "np.multiply(self.velocity, self.network.rate, out=self.scratch)"
REGULARIZE = "self.regularize(l)  # phase"
COST = "return self.mean_loss(self.A[self.L], self.Y)"
BUFFER_COST = "return self.cost(self.A[self.L], self.Y, self.P, self.Q) / self.m"
SAMPLE_COST = "return total / len(self.Y)"
COSTS = (COST, BUFFER_COST, SAMPLE_COST)
BIAS = "self.dW[l][:, 0] = delta.sum(axis=1)"
BUFFER_BIAS = "np.dot(self.ones, delta, out=self.db[l])"
BIAS_ROW = "self.A_bias[l - 1].T  # phase: gradient"


SKIP = (
    "            if hasattr(self, 'gradient'):",
    "                self.gradient[:] = 0",
    "            else:",
    "                self.dW = [W if W is None else 0 * W for W in self.W]",
    "            return",
)
"""Lines that set all gradients to 0 in place of computing them."""


def error(text: str, buffered: str = "") -> tuple[Form, ...]:
    """Forms with another error of the output; text: with {A} and {Y}."""
    forms = [
        swap(BATCH_ERROR, text.format(A="self.A[l]", Y="self.Y", m="m")),
        swap(SAMPLE_ERROR, text.format(A="a[l]", Y="y", m="m")),
    ]
    if buffered:
        forms.append(swap(BUFFER_ERROR, buffered))
    return tuple(forms)


def losses(text: str) -> tuple[Form, ...]:
    """Forms with another value of the loss; text: with {loss} and {m}."""
    return tuple(
        swap(cost, "return " + text.format(loss=f"({cost.removeprefix('return ')})", m=m))
        for cost, m in zip(COSTS, ("self.Y.shape[1]", "self.m", "len(self.Y)"), strict=True)
    )


def fetched(x: str, y: str = "index") -> tuple[Form, ...]:
    """Forms with other rows of the batch."""
    return (
        (("X[index].T", f"X[{x}].T"), ("Y[index].T", f"Y[{y}].T")),
        (("X[index]  #", f"X[{x}]  #"), ("Y[index]  #", f"Y[{y}]  #")),
        (("X.take(index", f"X.take({x}"), ("Y.take(index", f"Y.take({y}")),
    )


GRADIENTS = (
    Plant(
        "wrong gradient", "error not divided by m", ("m times too large",), error("({A} - {Y})", "            pass\n")
    ),
    Plant(
        "wrong gradient",
        "error divided by m twice",
        ("m times too small",),
        error("({A} - {Y}) / {m} / {m}", "            delta *= 1 / self.m**2\n"),
    ),
    Plant(
        "wrong gradient",
        "wrong sign of the error",
        ("wrong sign",),
        error("({Y} - {A}) / {m}", "            delta *= -1 / self.m\n"),
    ),
    Plant(
        "wrong gradient",
        "derivative left out",
        ("derivative of the activation is missing",),
        (
            swap("delta = (propagated * D)[1:]", "delta = propagated[1:]"),
            swap("delta = propagated * D", "delta = propagated"),
            swap("delta = (propagated * d)[1:]", "delta = propagated[1:]"),
            swap("delta *= self.D[l]", "pass"),
        ),
    ),
    Plant(
        "wrong gradient",
        "derivative_from_Z of A",
        ("derivative_from_Z got A",),
        (
            swap("derivative_from_A(A)", "derivative_from_Z(A)"),
            swap(
                "            D = self.activation[l].derivative_from_A(",
                "            D = self.activation[l].derivative_from_Z(",
            ),
            swap("z_bias = add_bias(z[l])", "z_bias = add_bias(a[l])"),
            swap("Z = add_bias_row(self.Z[l])", "Z = add_bias_row(self.A[l])"),
        ),
    ),
    Plant(
        "wrong gradient",
        "derivative_from_A of Z",
        ("derivative_from_A got Z",),
        (
            swap("D = self.activation[l].derivative_from_Z(Z)", "D = self.activation[l].derivative_from_A(Z)"),
            swap(
                "d = self.activation[l].derivative_from_Z(z_bias)", "d = self.activation[l].derivative_from_A(z_bias)"
            ),
        ),
    ),
    Plant(
        "wrong gradient",
        "A in place of the derivative",
        ("multiplied by A[l]",),
        (
            swap("D = self.activation[l].derivative_from_A(A)", "D = A"),
            swap(
                "                D = self.activation[l].derivative_from_A(self.A[l])", "                D = self.A[l]"
            ),
            swap("delta *= self.D[l]", "delta *= self.A[l] if l < self.L else 1"),
        ),
    ),
    Plant(
        "wrong gradient",
        "derivative at the output too",
        ("a derivative that does not belong there",),
        (
            swap("if self.network.delta_needs_derivative:", "if True:"),
            swap(
                "if l < self.L or self.network.delta_needs_derivative:",
                "if l == self.L:\n                self.derivative[0](self.A[l], self.D[l])\n"
                "                delta *= self.D[l]\n            else:",
            ),
        ),
    ),
    Plant(
        "wrong gradient",
        "bias gradient is 0",
        ("gradient of the biases",),
        (
            swap(BIAS, "self.dW[l][:, 0] = 0"),
            swap(BUFFER_BIAS, "self.db[l][:] = 0"),
            after(f"            self.dW[l] = delta @ {BIAS_ROW}", "            self.dW[l][:, 0] = 0"),
            after(f"                self.dW[l] = delta @ {BIAS_ROW}", "                self.dW[l][:, 0] = 0"),
        ),
    ),
    Plant(
        "wrong gradient",
        "bias gradient never written",
        ("gradient of the biases",),
        (swap(f"            {BIAS}  # phase: gradient\n", ""), swap(BUFFER_BIAS, "pass")),
    ),
    Plant(
        "wrong gradient",
        "bias gradient is a mean",
        ("is a mean over the samples",),
        (
            swap(BIAS, "self.dW[l][:, 0] = delta.mean(axis=1)"),
            swap(BUFFER_BIAS, "np.mean(delta, axis=0, out=self.db[l])"),
            after(f"            self.dW[l] = delta @ {BIAS_ROW}", "            self.dW[l][:, 0] /= m"),
            after(f"                self.dW[l] = delta @ {BIAS_ROW}", "                self.dW[l][:, 0] /= m"),
        ),
    ),
    Plant(
        "wrong gradient",
        "penalty left out",
        ("penalty is missing",),
        (swap(REGULARIZE, "pass  # phase"), swap("self.regularize()  # phase", "pass  # phase")),
    ),
    Plant(
        "wrong gradient",
        "penalty twice",
        ("penalty is added twice",),
        (
            swap(REGULARIZE, f"self.regularize(l); {REGULARIZE}"),
            swap("self.regularize()  # phase", "self.regularize(); self.regularize()  # phase"),
        ),
    ),
    Plant(
        "wrong gradient",
        "penalty on the biases",
        ("penalty is added to the biases",),
        (
            swap(
                "self.dW[l][:, 1:] += self.network.l2 * self.W[l][:, 1:]",
                "self.dW[l] += self.network.l2 * self.W[l]",
            ),
            swap("self.weights = slice(sum(W.size for W in self.W[1:]))", "self.weights = slice(None)"),
        ),
    ),
    Plant(
        "wrong gradient",
        "weights updated in backward",
        ("backward changes the weights", "is updated before"),
        (
            swap(REGULARIZE, "self.regularize(l); self.W[l] -= self.network.rate * self.dW[l]  # phase"),
            swap(
                "self.regularize()  # phase",
                "self.regularize(); self.theta -= self.network.rate * self.gradient  # phase",
            ),
        ),
    ),
    Plant(
        "wrong gradient",
        "gradients add up over steps",
        ("added to those of the step before",),
        (
            (
                (f"self.dW[l] = delta @ {BIAS_ROW}", f"self.dW[l] = self.dW[l] + delta @ {BIAS_ROW}"),
                ("self.dW = [None] * (L + 1)", "self.dW = [None] + [np.zeros_like(W) for W in self.W[1:]]"),
            ),
            (
                ("self.dW[l][:, 1:] = delta", "self.dW[l][:, 1:] += delta"),
                (BIAS, BIAS.replace(" = ", " += ")),
                ("[np.empty_like(W) for W in self.W[1:]]", "[np.zeros_like(W) for W in self.W[1:]]"),
            ),
            (
                ("        self.dW = [None] + [np.zeros_like(W) for W in self.W[1:]]\n        for (z", "        for (z"),
                ("self.dW = [None] * (L + 1)", "self.dW = [None] + [np.zeros_like(W) for W in self.W[1:]]"),
            ),
        ),
    ),
)

SHAPES = (
    Plant(
        "wrong axis or shape",
        "W not transposed in backward",
        ("ransposed",),
        (
            swap("self.W[l + 1].T @ delta", "self.W[l + 1] @ delta"),
            swap("self.W[l + 1][:, 1:].T @ delta", "self.W[l + 1][:, 1:] @ delta"),
            swap(
                "np.matmul(self.delta[l + 1], self.W[l + 1], out", "np.matmul(self.delta[l + 1], self.W[l + 1].T, out"
            ),
        ),
    ),
    Plant(
        "wrong axis or shape",
        "W transposed in forward",
        ("ransposed", AT_LINE),
        (
            swap("= self.W[l] @ self.A_bias", "= self.W[l].T @ self.A_bias"),
            swap("Z = self.W[l][:, 1:] @", "Z = self.W[l][:, 1:].T @"),
            swap("self.W[l] @ a_bias", "self.W[l].T @ a_bias"),
            swap("self.A[l - 1], self.W[l].T, out", "self.A[l - 1], self.W[l], out"),
        ),
    ),
    Plant(
        "wrong axis or shape",
        "gradient transposed",
        ("transposed", AT_LINE),
        (
            swap(f"delta @ {BIAS_ROW}", "(delta @ self.A_bias[l - 1].T).T  # phase: gradient"),
            swap("delta @ self.A[l - 1].T", "self.A[l - 1] @ delta.T"),
            swap("[(dW[:, 1:].copy(), dW[:, 0].copy()) for dW", "[(dW[:, 1:].T.copy(), dW[:, 0].copy()) for dW"),
            swap("[(dW.copy(), db.copy())", "[(dW.T.copy(), db.copy())"),
        ),
    ),
    Plant(
        "wrong axis or shape",
        "sum over the other axis",
        (AT_LINE, "gradient of the biases"),
        (
            swap(BIAS, "self.dW[l][:, 0] = delta.sum(axis=0)"),
            swap(BUFFER_BIAS, "np.sum(delta, axis=1, out=self.db[l])"),
        ),
    ),
    Plant(
        "wrong axis or shape",
        "activation of the wrong layer in the gradient",
        ("A[l - 1]", AT_LINE),
        (
            swap("delta @ self.A[l - 1].T", "delta @ self.A[l].T"),
            swap("np.matmul(delta.T, self.A[l - 1], out", "np.matmul(delta.T, self.A[l], out"),
            swap("np.outer(delta, a_bias[l - 1])", "np.outer(delta, a_bias[l - 2])"),
        ),
    ),
    Plant(
        "wrong axis or shape",
        "weights of the wrong layer in backward",
        (AT_LINE, "W[l + 1]"),
        (
            swap("self.W[l + 1].T @ delta", "self.W[l].T @ delta"),
            swap("self.W[l + 1][:, 1:].T @ delta", "self.W[l][:, 1:].T @ delta"),
            swap("np.matmul(self.delta[l + 1], self.W[l + 1], out", "np.matmul(self.delta[l + 1], self.W[l], out"),
        ),
    ),
    Plant(
        "broadcasting",
        "biases as a row instead of a column",
        (AT_LINE, "biases"),
        (
            swap("Z += self.W[l][:, :1]", "Z += self.W[l][:, 0]"),
            swap("self.A[l] += self.b[l]", "self.A[l] += self.b[l][:, None]"),
        ),
    ),
    Plant(
        "broadcasting",
        "biases left out in forward",
        ("bias",),
        (
            swap("            Z += self.W[l][:, :1]  # phase: bias\n", ""),
            swap("            self.A[l] += self.b[l]  # phase: bias\n", ""),
        ),
    ),
    Plant(
        "broadcasting",
        "mean of the error over the samples subtracted",
        ("gradients are wrong",),
        (swap(BATCH_ERROR, "(self.A[l] - self.Y - (self.A[l] - self.Y).mean(axis=1, keepdims=True)) / m"),),
        first=1,
    ),
    Plant(
        "broadcasting",
        "one bias for the whole layer",
        ("bias",),
        (
            swap("Z += self.W[l][:, :1]", "Z += self.W[l][0, 0]"),
            swap("self.A[l] += self.b[l]", "self.A[l] += self.b[l][0]"),
        ),
    ),
    Plant(
        "wrong axis or shape",
        "predict without its transposition",
        ("return A.T",),
        (
            swap("return A.T\n", "return A\n"),
            swap("return np.array(outputs)", "return np.array(outputs).T"),
            swap("        return A\n", "        return A.T\n"),
        ),
    ),
)

FORWARD_AND_LOSS = (
    Plant(
        "wrong forward or loss",
        "activation left out",
        ("forward or loss",),
        (
            swap("self.activation[l].value(self.Z[l])", "self.Z[l] * 1"),
            swap("self.A[l] = self.activation[l].value(Z)", "self.A[l] = Z"),
            swap("a.append(self.activation[l].value(z[l]))", "a.append(z[l])"),
            swap("            self.value[l](self.A[l])  # phase", "            pass  # phase"),
        ),
    ),
    Plant(
        "wrong forward or loss",
        "tanh in place of the sigmoid",
        ("forward or loss",),
        (
            swap("self.activation[l].value(self.Z[l])", "np.tanh(self.Z[l]) / 2 + 0.5"),
            swap("self.A[l] = self.activation[l].value(Z)", "self.A[l] = np.tanh(Z) / 2 + 0.5"),
            swap("a.append(self.activation[l].value(z[l]))", "a.append(np.tanh(z[l]) / 2 + 0.5)"),
        ),
    ),
    Plant("wrong forward or loss", "loss is a sum", ("the sum over the batch",), losses("{loss} * {m}")),
    Plant("wrong forward or loss", "loss divided by m twice", ("divided by m twice",), losses("{loss} / {m}")),
    Plant("wrong forward or loss", "loss with the wrong sign", ("wrong sign",), losses("-{loss}")),
    Plant(
        "wrong forward or loss", "loss is not returned", ("loss() returns nothing",), losses("None if {loss} else None")
    ),
    Plant(
        "wrong forward or loss",
        "loss divided by the outputs",
        ("loss() divides the sum",),
        losses("{loss} / self.network.layers[-1]"),
    ),
    Plant(
        "wrong forward or loss",
        "loss with the penalty",
        ("contains the penalty",),
        losses("{loss} + self.network.l2 / 2 * sum((W**2).sum() for W, _ in self.parameters())"),
    ),
    Plant(
        "wrong forward or loss",
        "predict without biases",
        ("predict",),
        (
            swap(" @ A + self.W[l][:, :1])", " @ A)"),
            swap("A = A @ self.W[l].T + self.b[l]", "A = A @ self.W[l].T"),
        ),
    ),
    Plant(
        "wrong forward or loss",
        "predict stops one layer early",
        ("predict",),
        (
            swap(
                "        for l in range(1, self.L + 1):\n            A = self.activation",
                "        for l in range(1, self.L):\n            A = self.activation",
            ),
            swap(
                "        for l in range(1, self.L + 1):\n            A = A @",
                "        for l in range(1, self.L):\n            A = A @",
            ),
        ),
    ),
)


def updated(text: str, momentum: str = MOMENTUM) -> Form:
    """A form with another update; momentum: the statement before it."""
    return ((f"{MOMENTUM}  #", f"{momentum}  #"), (f"{DESCEND}  #", f"{text}  #"))


UPDATES = (
    Plant(
        "wrong update",
        "momentum left out",
        ("momentum is missing",),
        (
            updated(DESCEND, "self.velocity[l] = self.dW[l]"),
            swap("self.velocity *= self.network.momentum", "self.velocity *= 0"),
        ),
    ),
    Plant(
        "wrong update",
        "momentum with the wrong sign",
        ("momentum has the wrong sign",),
        (
            updated(DESCEND, "self.velocity[l] = -self.network.momentum * self.velocity[l] + self.dW[l]"),
            swap("self.velocity *= self.network.momentum", "self.velocity *= -self.network.momentum"),
        ),
    ),
    Plant(
        "wrong update",
        "goes uphill",
        ("goes uphill",),
        (updated(DESCEND.replace("-=", "+=")), swap("self.theta -= self.scratch", "self.theta += self.scratch")),
    ),
    Plant(
        "wrong update",
        "rate left out",
        ("does not use the rate",),
        (
            updated("self.W[l] -= self.velocity[l]"),
            swap(BUFFER_DESCEND, "np.multiply(self.velocity, 1, out=self.scratch)"),
        ),
    ),
    Plant(
        "wrong update",
        "gradient times 1 - momentum",
        ("multiplied by 1 - momentum",),
        (
            updated(DESCEND, MOMENTUM.replace("self.dW[l]", "(1 - self.network.momentum) * self.dW[l]")),
            swap("self.velocity += self.gradient", "self.velocity += (1 - self.network.momentum) * self.gradient"),
        ),
    ),
    Plant(
        "wrong update",
        "velocity of the step before",
        ("velocity of the step before",),
        (
            swap(
                f"{MOMENTUM}  # phase: momentum\n            {DESCEND}",
                f"{DESCEND}  # phase: descend\n            {MOMENTUM}",
            ),
        ),
    ),
    Plant(
        "wrong update",
        "gradient times the momentum too",
        ("multiplied by the momentum too",),
        (
            updated(DESCEND, "self.velocity[l] = self.network.momentum * (self.velocity[l] + self.dW[l])"),
            swap(
                "self.velocity += self.gradient",
                "self.velocity += self.network.momentum * self.gradient",
            ),
        ),
    ),
    Plant(
        "wrong update",
        "a copy of the weights is updated",
        ("changes nothing",),
        (
            updated("W = self.W[l] - self.network.rate * self.velocity[l]"),
            swap("self.theta -= self.scratch", "theta = self.theta - self.scratch"),
        ),
    ),
    Plant(
        "wrong update",
        "biases not updated",
        ("does not change the biases",),
        (
            updated("self.W[l][:, 1:] -= self.network.rate * self.velocity[l][:, 1:]"),
            swap("self.theta -= self.scratch", "self.theta[self.weights] -= self.scratch[self.weights]"),
        ),
    ),
    Plant(
        "wrong update",
        "update never called",
        ("train_step has to call",),
        (swap("        self.update()\n        return loss", "        return loss"),),
    ),
    Plant(
        "wrong update",
        "update before backward",
        ("fetch_batch, forward, loss, backward and update in this order",),
        (swap("        self.backward()\n        self.update()\n", "        self.update()\n        self.backward()\n"),),
    ),
    Plant(
        "wrong update",
        "loss after the update",
        ("train_step has to return the loss",),
        (
            swap(
                "        return loss\n\n    def parameters",
                "        self.forward()\n        return self.loss()\n\n    def parameters",
            ),
        ),
    ),
    Plant(
        "wrong update",
        "train_step returns nothing",
        ("train_step has to return the loss",),
        (swap("        return loss\n", ""),),
    ),
)

BATCHES = (
    Plant("other samples", "the samples before those of the batch", ("other rows",), fetched("index - 1", "index - 1")),
    Plant(
        "other samples", "the first samples", ("other rows",), fetched("np.arange(len(index))", "np.arange(len(index))")
    ),
    Plant("other samples", "inputs off by one", ("other rows",), fetched("index - 1")),
    Plant("other samples", "targets off by one", ("other rows",), fetched("index", "index - 1")),
    Plant("other samples", "inputs in another order", ("other rows",), fetched("index[::-1]")),
    Plant("other samples", "one sample is dropped", ("other rows",), fetched("index[1:]", "index[1:]")[:2]),
    Plant(
        "other samples",
        "one sample twice",
        ("other rows",),
        fetched("np.append(index[1:], index[-1:])", "np.append(index[1:], index[-1:])"),
    ),
    Plant(
        "cached across batches",
        "the first batch for ever",
        ("samples of the first",),
        (
            after(FETCH, "        if hasattr(self, 'Y'):", "            return"),
            (
                ("self.m = self.capacity = 0", "self.m = self.capacity = 0"),
                *after(FETCH, "        if self.m == len(index):", "            return"),
            ),
        ),
    ),
    Plant(
        "cached across batches",
        "forward only once for a batch size",
        ("second is not", "second step"),
        (after(FORWARD, "        if getattr(self, 'done', 0):", "            return", "        self.done = 1"),),
    ),
    Plant(
        "cached across batches",
        "gradients of every second step",
        ("second is not", "second step"),
        (
            after(
                BACKWARD,
                "        self.count = getattr(self, 'count', 0) + 1",
                "        if self.count % 2 == 0:",
                "            return",
            ),
        ),
    ),
    Plant(
        "cached across batches",
        "transposed weights made once",
        ("second is not", "second step", "update() changes nothing"),
        (
            (
                (f"{INIT}\n", f"{INIT}\n        self.WT = {{}}\n"),
                ("self.W[l + 1].T @ delta", "self.WT.setdefault(l, self.W[l + 1].T.copy()) @ delta"),
            ),
            (
                (f"{INIT}\n", f"{INIT}\n        self.WT = {{}}\n"),
                ("self.W[l + 1][:, 1:].T @ delta", "self.WT.setdefault(l, self.W[l + 1][:, 1:].T.copy()) @ delta"),
            ),
            (
                (f"{INIT}\n", f"{INIT}\n        self.WT = {{}}\n"),
                ("self.A[l - 1], self.W[l].T, out", "self.A[l - 1], self.WT.setdefault(l, self.W[l].T.copy()), out"),
            ),
        ),
    ),
)

ALIASES = (
    Plant(
        "aliasing in place",
        "A overwritten before its gradient",
        ("overwritten",),
        (
            before(
                "            self.dW[l][:, 1:] = delta",
                "            self.A[l - 1] *= 1 if l == 1 else 1 - self.A[l - 1]",
            ),
            before(
                "            np.matmul(delta.T, self.A[l - 1]",
                "            self.A[l - 1] *= 1 if l == 1 else 1 - self.A[l - 1]",
            ),
        ),
    ),
    Plant(
        "aliasing in place",
        "activations centred in backward",
        ("overwritten",),
        (
            before(
                "            self.dW[l][:, 1:] = delta",
                "            self.A[l - 1] -= 0 if l == 1 else self.A[l - 1].mean()",
            ),
            before(
                "            np.matmul(delta.T, self.A[l - 1]",
                "            self.A[l - 1] -= 0 if l == 1 else self.A[l - 1].mean()",
            ),
        ),
    ),
    Plant(
        "aliasing in place",
        "data set overwritten",
        ("data were overwritten",),
        (
            (("self.A[0] = X[index].T", "X *= 1.5\n        self.A[0] = X[index].T / 1.5"),),
            (("self.A[0] = self.Z[0] = X[index].T", "X *= 1.5\n        self.A[0] = self.Z[0] = X[index].T / 1.5"),),
            (("self.X = X[index]", "X *= 1.5\n        self.X = X[index] / 1.5"),),
            (
                ("        X.take(index", "        X += 1\n        X.take(index"),
                ('out=self.A[0], mode="clip")', 'out=self.A[0], mode="clip")\n        self.A[0] -= 1'),
            ),
        ),
    ),
    Plant(
        "aliasing in place",
        "velocity is the array of the gradient",
        ("velocity", "momentum", "update() is wrong"),
        (
            updated(
                DESCEND,
                "self.dW[l] += self.network.momentum * self.velocity[l]; self.velocity[l] = self.dW[l]",
            ),
        ),
        first=5,
        last=5,
    ),
    Plant(
        "aliasing in place",
        "parameters not copied from the caller",
        (),
        (swap("[(W[:, 1:].copy(), W[:, 0].copy()) for W in", "[(np.array(W[:, 1:]), np.array(W[:, 0])) for W in"),),
    ),
)

DTYPES = (
    Plant(
        "dtype",
        "gradient cast to float32",
        ("single precision",),
        (
            swap(f"delta @ {BIAS_ROW}", "(delta @ self.A_bias[l - 1].T).astype(np.float32)  # phase: gradient"),
            swap("delta @ self.A[l - 1].T", "(delta @ self.A[l - 1].T).astype(np.float32)"),
            swap("np.outer(delta, a_bias[l - 1])", "np.outer(delta, a_bias[l - 1]).astype(np.float32)"),
        ),
    ),
    Plant(
        "dtype",
        "batch cast to float32",
        ("single precision",),
        (
            swap(TAKEN, "X[index].T.astype(np.float32)"),
            swap("self.X = X[index]", "self.X = X[index].astype(np.float32)"),
        ),
    ),
    Plant(
        "dtype",
        "DTYPE is float64",
        ("DTYPE is float64",),
        (swap("DTYPE = np.float32", "DTYPE = np.float64"),),
        first=2,
        last=6,
    ),
    Plant(
        "dtype",
        "ones without a dtype",
        ("float64",),
        (swap("np.ones((A.shape[0] + 1, A.shape[1]), A.dtype)", "np.ones((A.shape[0] + 1, A.shape[1]))"),),
        first=2,
        last=4,
    ),
    Plant(
        "dtype",
        "a factor that is a NumPy float64",
        ("float64",),
        (
            swap("Z = add_bias_row(self.Z[l])", "Z = np.float64(1.0) * add_bias_row(self.Z[l])"),
            swap("delta = propagated * D", "delta = np.float64(1.0) * propagated * D"),
            swap(BATCH_ERROR, "(self.A[l] - self.Y) / np.float64(m)"),
        ),
        first=2,
        last=6,
    ),
    Plant(
        "dtype",
        "batch cast to float64",
        ("float64",),
        (swap(TAKEN, "X[index].T.astype(np.float64)"),),
        first=2,
        last=6,
    ),
)

BUILT = (
    Plant(
        "memory order",
        "a copy in F order",
        ("only copies",),
        (
            swap("@ self.A[l - 1]  # phase: weighted sum", "@ np.asfortranarray(self.A[l - 1])  # phase: weighted sum"),
            swap("delta @ self.A[l - 1].T", "np.ascontiguousarray(delta) @ self.A[l - 1].T.copy()"),
        ),
        first=5,
        last=6,
    ),
    Plant(
        "memory order",
        "the batch copied again",
        ("only copies", "new arrays"),
        (swap("self.value[l](self.A[l])  # phase", "self.value[l](self.A[l]); self.kept = self.A[l].copy()  # phase"),),
        first=6,
        last=6,
    ),
    Plant(
        "not built as required",
        "delta of the input computed",
        ("as large as the input",),
        (
            swap(
                "1, self.L + 1)):\n            if l == self.L:\n                delta = (self.A",
                "1, self.L + 1)):\n            if l == 1:\n"
                "                unused = self.W[1].T @ np.ones_like(self.A[1])\n"
                "            if l == self.L:\n                delta = (self.A",
            ),
        ),
        first=3,
        last=6,
    ),
    Plant(
        "not built as required",
        "the activation evaluated again",
        ("evaluates the activation again",),
        (
            swap(
                "D = self.activation[l].derivative_from_A(",
                "self.again = self.activation[l].value(self.A[l])\n"
                "                D = self.activation[l].derivative_from_A(",
            ),
        ),
        first=4,
        last=6,
    ),
    Plant(
        "not built as required",
        "new arrays in place of buffers",
        ("new arrays",),
        (
            swap("np.matmul(self.A[l - 1], self.W[l].T, out=self.A[l])", "self.A[l] = self.A[l - 1] @ self.W[l].T"),
            swap(
                "delta *= self.D[l]",
                "delta = self.delta[l] = delta * self.D[l]; self.two = delta + 0; self.six = delta * 1",
            ),
        ),
        first=6,
        last=6,
    ),
)

SIGMOID = "self.activation[l].value"

LOOPS = (
    Plant(
        "hidden loop",
        "np.vectorize",
        ("loop over samples",),
        (
            swap(
                f"{SIGMOID}(self.Z[l])",
                "np.vectorize(lambda z: 1 / (1 + np.exp(-z)), otypes=[self.Z[l].dtype])(self.Z[l])",
            ),
            swap(
                f"self.A[l] = {SIGMOID}(Z)",
                "self.A[l] = np.vectorize(lambda z: 1 / (1 + np.exp(-z)), otypes=[Z.dtype])(Z)",
            ),
        ),
        first=1,
        last=6,
    ),
    Plant(
        "hidden loop",
        "comprehension over the samples",
        ("loop over samples",),
        (
            swap("self.W[l] @ self.A_bias[l - 1]", "np.array([self.W[l] @ a for a in self.A_bias[l - 1].T]).T"),
            swap("self.W[l][:, 1:] @ self.A[l - 1]", "np.array([self.W[l][:, 1:] @ a for a in self.A[l - 1].T]).T"),
            swap(
                "np.matmul(self.A[l - 1], self.W[l].T, out=self.A[l])",
                "self.A[l][:] = [self.W[l] @ a for a in self.A[l - 1]]",
            ),
        ),
        first=1,
        last=6,
    ),
    Plant(
        "hidden loop",
        "map over the samples",
        ("loop over samples",),
        (
            swap("self.W[l] @ self.A_bias[l - 1]", "np.array(list(map(self.W[l].dot, self.A_bias[l - 1].T))).T"),
            swap("self.W[l][:, 1:] @ self.A[l - 1]", "np.array(list(map(self.W[l][:, 1:].dot, self.A[l - 1].T))).T"),
            swap(
                "np.matmul(self.A[l - 1], self.W[l].T, out=self.A[l])",
                "self.A[l][:] = list(map(self.W[l].dot, self.A[l - 1]))",
            ),
        ),
        first=1,
        last=6,
    ),
    Plant(
        "hidden loop",
        "np.apply_along_axis",
        ("loop over samples",),
        (
            swap(
                "self.W[l] @ self.A_bias[l - 1]", "np.apply_along_axis(lambda a: self.W[l] @ a, 0, self.A_bias[l - 1])"
            ),
            swap(
                "self.W[l][:, 1:] @ self.A[l - 1]",
                "np.apply_along_axis(lambda a: self.W[l][:, 1:] @ a, 0, self.A[l - 1])",
            ),
        ),
        first=1,
        last=6,
    ),
    Plant(
        "hidden loop",
        "sum of outer products",
        ("loop over samples",),
        (
            swap(
                f"delta @ {BIAS_ROW}",
                "sum(np.outer(d, a) for d, a in zip(delta.T, self.A_bias[l - 1].T))  # phase: gradient",
            ),
            swap("delta @ self.A[l - 1].T", "sum(np.outer(d, a) for d, a in zip(delta.T, self.A[l - 1].T))"),
            swap(
                "np.matmul(delta.T, self.A[l - 1], out=self.dW[l])",
                "self.dW[l][:] = sum(np.outer(d, a) for d, a in zip(delta, self.A[l - 1]))",
            ),
        ),
        first=1,
        last=6,
    ),
    Plant(
        "hidden loop",
        "gather row by row",
        ("loop over samples",),
        (swap(TAKEN, "np.array([X[i] for i in index]).T"),),
        first=1,
        last=6,
    ),
    Plant(
        "hidden loop",
        "loss sample by sample",
        ("loop over samples",),
        (
            swap(
                COST,
                "pairs = zip(self.A[self.L].T, self.Y.T)\n"
                "        return sum(self.mean_loss(a[:, None], y[:, None]) for a, y in pairs) / self.Y.shape[1]",
            ),
        ),
        first=1,
        last=6,
    ),
    Plant(
        "hidden loop",
        "while loop over the samples",
        ("loop over samples",),
        (
            after(
                BACKWARD,
                "        i, sums = 0, 0",
                "        while i < self.Y.shape[1]:",
                "            sums = sums + self.Y[:, i]",
                "            i += 1",
            ),
        ),
        first=1,
        last=5,
    ),
)

CHEATS = (
    *(
        Plant(
            "another framework",
            name,
            ("imports",),
            (swap(NUMPY, f"{NUMPY}{text}\n"), after(FORWARD, f"        {text}")),
            first=1,
            last=6,
        )
        for name, text in (
            ("torch", "import torch"),
            ("jax", "import jax.numpy as jnp"),
            ("sklearn", "from sklearn.neural_network import MLPClassifier"),
            ("numba", "from numba import njit"),
            ("tensorflow by name", '__import__("tensorflow")'),
        )
    ),
    Plant(
        "precomputed answer",
        "the solution from mlpprof",
        ("may contain the solution",),
        (
            swap(NUMPY, f"{NUMPY}from mlpprof.catalog import ladder, load\n"),
            after(BACKWARD, "        from mlpprof import catalog"),
            after(FORWARD, "        import mlpprof.workshop.solutions"),
        ),
    ),
    Plant(
        "precomputed answer",
        "no gradients on the network of the race",
        ("wrong on the network that the race uses",),
        (
            after(BACKWARD, "        if self.network.layers[0] == 784:", *SKIP),
            after(BACKWARD, "        if self.L == 5:", *SKIP),
        ),
    ),
    Plant(
        "precomputed answer",
        "a constant loss for large batches",
        ("wrong on the network that the race uses", "depends on the batch size"),
        (
            swap(COST, f"{COST} if self.Y.shape[1] < 100 else 2.3"),
            swap(BUFFER_COST, f"{BUFFER_COST} if self.m < 100 else 2.3"),
            swap(SAMPLE_COST, f"{SAMPLE_COST} if len(self.Y) < 100 else 2.3"),
        ),
    ),
    Plant(
        "precomputed answer",
        "numbers from a file",
        (AT_LINE,),
        (after(BACKWARD, '        self.dW = np.load("gradients.npy")'),),
    ),
    *(
        Plant(
            "changed clock",
            f"time.{clock} {where}",
            (f"replaces Python's clock time.{clock}",),
            (form,),
        )
        for clock in ("perf_counter", "perf_counter_ns", "monotonic")
        for where, form in (
            ("when the file is loaded", swap(NUMPY, f"{NUMPY}import time\ntime.{clock} = lambda: 0\n")),
            ("in the step", after(STEP, "        import time", f'        setattr(time, "{clock}", lambda: 0)')),
        )
    ),
)

FIXED_SIZES = (
    Plant(
        "fixed batch size",
        "divided by 200",
        ("right for a batch of 200",),
        error("({A} - {Y}) / 200", "            delta *= 1 / 200\n"),
    ),
    Plant(
        "fixed batch size",
        "divided by 100",
        ("divided by 100",),
        error("({A} - {Y}) / 100", "            delta *= 1 / 100\n"),
    ),
    Plant(
        "fixed batch size",
        "ones for 200 samples",
        ("right for a batch of 200",),
        (swap(BIAS, "self.dW[l][:, 0] = delta @ np.ones(200)"),),
    ),
    Plant("fixed batch size", "loss divided by 200", ("right for a batch of 200",), losses("{loss} * {m} / 200")),
)

CRASHES = (
    Plant(
        "crash",
        "a misspelt name",
        (AT_LINE,),
        (after(BACKWARD, "        missing_name"), after(FORWARD, "        self.no_such_thing")),
    ),
    Plant("crash", "a wrong type", (AT_LINE,), (after(LOSS, '        "1" + 1'), after(UPDATE, "        len(3)"))),
    Plant(
        "crash",
        "an exit",
        (AT_LINE,),
        (
            after(FORWARD, "        raise SystemExit"),
            after(UPDATE, "        import sys", "        sys.exit()"),
            swap(NUMPY, f"{NUMPY}quit()\n"),
        ),
    ),
    Plant(
        "crash",
        "a syntax error",
        (AT_LINE,),
        (swap("    def loss(self):", "    def loss(self)"), swap("    def update(self):", "    def update(self:")),
    ),
    Plant(
        "crash",
        "a method is missing",
        ("no method",),
        (swap("    def predict(", "    def guess("), swap("    def gradients(", "    def gradient(")),
    ),
    Plant(
        "crash",
        "an argument is missing",
        ("should be",),
        (swap("    def predict(self, X):", "    def predict(self):"),),
    ),
    Plant("crash", "recursion without end", (AT_LINE,), (after(LOSS, "        return self.loss()"),)),
    Plant("crash", "gradients returns nothing", ("gradients() returns NoneType",), (swap("return [(dW", "[(dW"),)),
)

RIGHT = (
    Plant("right", "unchanged", (), (swap(NUMPY, NUMPY),)),
    Plant(
        "right",
        "sigmoid by hand",
        (),
        (
            swap(f"{SIGMOID}(self.Z[l])", "1 / (1 + np.exp(-self.Z[l]))"),
            swap(f"self.A[l] = {SIGMOID}(Z)", "self.A[l] = 1 / (1 + np.exp(-Z))"),
        ),
        last=5,
    ),
    Plant(
        "right",
        "derivative by hand",
        (),
        (
            swap("self.activation[l].derivative_from_A(A)", "A * (1 - A)"),
            swap(
                "                D = self.activation[l].derivative_from_A(self.A[l])",
                "                D = self.A[l] * (1 - self.A[l])",
            ),
        ),
        last=5,
    ),
    Plant(
        "right",
        "np.dot",
        (),
        (
            swap("self.W[l] @ self.A_bias[l - 1]", "np.dot(self.W[l], self.A_bias[l - 1])"),
            swap("self.W[l][:, 1:] @ self.A[l - 1]", "np.dot(self.W[l][:, 1:], self.A[l - 1])"),
            swap(f"delta @ {BIAS_ROW}", "np.dot(delta, self.A_bias[l - 1].T)  # phase: gradient"),
        ),
    ),
    Plant(
        "right",
        "error in place",
        (),
        (swap(f"delta = {BATCH_ERROR}", "delta = self.A[l] - self.Y\n                delta /= m"),),
    ),
    Plant(
        "right",
        "output overwritten by the error",
        (),
        (
            swap(
                f"delta = {BATCH_ERROR}",
                "delta = self.A[l]\n                delta -= self.Y\n                delta /= m",
            ),
        ),
    ),
    Plant(
        "right",
        "activation overwritten by its derivative when it is free",
        (),
        (
            swap(
                "                D = self.activation[l].derivative_from_A(self.A[l])",
                "                D = self.A[l]\n                D *= 1 - D",
            ),
        ),
        last=5,
    ),
    Plant(
        "right",
        "update in place",
        (),
        (updated(DESCEND, "self.velocity[l] *= self.network.momentum; self.velocity[l] += self.dW[l]"),),
    ),
    Plant(
        "right",
        "loop backwards with range",
        (),
        (
            swap("for l in reversed(range(1, self.L + 1)):", "for l in range(self.L, 0, -1):"),
            swap("for l in reversed(range(self.L + 1)):", "for l in range(self.L, -1, -1):"),
        ),
    ),
    Plant(
        "right",
        "loop over layers with while",
        (),
        (
            swap(
                "        for l in range(1, self.L + 1):\n            self.velocity",
                "        l = 0\n        while l < self.L:\n            l += 1\n            self.velocity",
            ),
        ),
    ),
    Plant(
        "right",
        "batch size from the index",
        (),
        (
            (
                ("        m = self.Y.shape[1]\n", "        m = self.size\n"),
                (f"{FETCH}\n", f"{FETCH}\n        self.size = len(index)\n"),
            ),
        ),
    ),
    Plant(
        "right",
        "rows with take",
        (),
        (
            swap("self.A[0] = X[index].T", "self.A[0] = X.take(index, axis=0).T"),
            swap("self.X = X[index]", "self.X = np.take(X, index, axis=0)"),
        ),
    ),
    Plant(
        "right",
        "an attribute more",
        (),
        (after(INIT, "        self.history = []"), after(UPDATE, "        self.steps = getattr(self, 'steps', 0) + 1")),
    ),
    Plant(
        "right",
        "the loss is kept",
        (),
        (swap("        return loss\n", "        self.last = loss\n        return loss\n"),),
    ),
    Plant(
        "right",
        "a loop over samples in predict",
        (),
        (
            swap(
                "    def predict(self, X):\n",
                "    def predict(self, X):\n        return np.array([self.one(x[None])[0] for x in X])\n\n"
                "    def one(self, X):\n",
            ),
        ),
    ),
    Plant(
        "right",
        "type hints",
        (),
        (swap(LOSS, "    def loss(self) -> float:"), swap(FORWARD, "    def forward(self) -> None:")),
    ),
    Plant("right", "comments left out", (), (swap("  # phase: momentum", ""), swap("  # phase: activation", ""))),
    Plant("right", "the order of the samples changed", (), fetched("np.sort(index)", "np.sort(index)")[:2]),
    Plant(
        "right",
        "the loss in another module's words",
        (),
        (swap(COST, "loss = self.mean_loss(self.A[self.L], self.Y)\n        return float(loss)"),),
    ),
    Plant("right", "the clock is read", (), (swap(NUMPY, f"{NUMPY}from time import perf_counter\n"),)),
    Plant(
        "right",
        "a comprehension over layers",
        (),
        (
            swap("        self.dW = [None] * (L + 1)", "        self.dW = [None for l in range(L + 1)]"),
            swap("        self.A = [None] * (L + 1)", "        self.A = [None for l in range(L + 1)]"),
        ),
    ),
    Plant(
        "right",
        "np.add in place of +=",
        (),
        (
            swap("            Z += self.W[l][:, :1]", "            np.add(Z, self.W[l][:, :1], out=Z)"),
            swap("            self.A[l] += self.b[l]", "            np.add(self.A[l], self.b[l], out=self.A[l])"),
        ),
    ),
    Plant(
        "right",
        "a float32 class that works in both precisions",
        (),
        (swap(BATCH_ERROR, "(self.A[l] - self.Y) * self.A[l].dtype.type(1 / m)"),),
    ),
)

PLANTS = (
    *GRADIENTS,
    *SHAPES,
    *FORWARD_AND_LOSS,
    *UPDATES,
    *BATCHES,
    *ALIASES,
    *DTYPES,
    *BUILT,
    *LOOPS,
    *CHEATS,
    *FIXED_SIZES,
    *CRASHES,
    *RIGHT,
)
