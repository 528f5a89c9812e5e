"""JAX, a reference line: the loop over many steps is compiled as well.

Idea: `train` gives the row numbers of all its steps to one lax.scan, so that Python does nothing between two steps.
XLA compiles the loop once for every number of steps; the race reports the time of the compilation separately. The
losses come back together.

What changes against `jax_step`: the loop over the steps moves from Python into the compiled function.

The five methods, called one by one, are compiled one by one, and backward repeats the forward pass. So the step has
no phases.

Threads: NPROC says how many. It is set from OMP_NUM_THREADS before XLA starts. X and Y are copied to JAX once.

Source: JAX's documentation.
"""

import os
from functools import partial

import jax
import numpy as np
from jax import numpy as jnp

PARENT = "sliced"
EXTRA = "peers"

HIDDEN = {"sigmoid": jax.nn.sigmoid, "tanh": jnp.tanh, "relu": jax.nn.relu}
OUTPUT = {"sigmoid": jax.nn.sigmoid, "softmax": jax.nn.softmax, "identity": jnp.asarray}


def engine():
    """Return the version, the library and the number of threads that compute."""
    return f"JAX {jax.__version__} · XLA on {jax.default_backend()} · {os.environ.get('NPROC', 'all')} threads"


def rows(X, index):
    """Return the rows of the batch. No index is out of bounds, so that JAX need not check."""
    return X.at[index].get(mode="promise_in_bounds")


def weighted_sums(network, parameters, X):
    """Return Z[L] (m, n_L), the output before its activation."""
    A = X
    for l, (W, b) in enumerate(parameters, start=1):
        Z = A @ W.T + b
        A = HIDDEN[network.hidden](Z) if l < network.depth else Z
    return A


def mean_loss(network, Z, Y):
    """Return the mean loss, computed from the output before its activation."""
    if network.loss == "squared_error":
        return jnp.sum((OUTPUT[network.output](Z) - Y) ** 2) / (2 * len(Y))
    if network.output == "softmax":
        return -jnp.sum(Y * jax.nn.log_softmax(Z)) / len(Y)
    return jnp.sum(jax.nn.softplus(Z) - Y * Z) / len(Y)


def objective(network, parameters, X, Y):
    """Return the loss with the penalty, and the loss alone."""
    cost = mean_loss(network, weighted_sums(network, parameters, X), Y)
    penalty = sum(network.l1 * jnp.abs(W).sum() + network.l2 / 2 * jnp.square(W).sum() for W, _ in parameters)
    return cost + penalty, cost


def descend(network, parameters, velocity, gradient):
    """Return the new parameters and velocity (heavy ball)."""
    velocity = jax.tree.map(lambda v, g: network.momentum * v + g, velocity, gradient)
    return jax.tree.map(lambda W, v: W - network.rate * v, parameters, velocity), velocity


def step(network, state, X, Y, index):
    """Make one whole step; return the new state and the loss."""
    differentiate = jax.value_and_grad(partial(objective, network), has_aux=True)
    (_, cost), gradient = differentiate(state[0], rows(X, index), rows(Y, index))
    return descend(network, *state, gradient), cost


def epoch(network, state, X, Y, indices):
    """Make a step for each row of indices (steps, m); return the new state and the losses."""
    return jax.lax.scan(lambda state, index: step(network, state, X, Y, index), state, indices)


GATHER = jax.jit(rows)
FORWARD = jax.jit(weighted_sums, static_argnums=0)
COST = jax.jit(mean_loss, static_argnums=0)
BACKWARD = jax.jit(jax.grad(objective, argnums=1, has_aux=True), static_argnums=0)
DESCEND = jax.jit(descend, static_argnums=0)
EPOCH = jax.jit(epoch, static_argnums=0, donate_argnums=1)


class MLP:
    """state holds parameters and velocity, each a list of (W, b) with W[l] (n_l, n_{l-1}) and b[l] (n_l,)."""

    DTYPE = np.float32

    def __init__(self, network, parameters):
        jax.config.update("jax_enable_x64", True)  # otherwise JAX turns float64 into float32 without a message
        os.environ.setdefault("NPROC", os.environ.get("OMP_NUM_THREADS", str(os.cpu_count())))
        self.network = network
        given = [(jnp.array(W), jnp.array(b)) for W, b in parameters]
        self.state = given, jax.tree.map(jnp.zeros_like, given)
        self.handed = self.data = None

    def hand_over(self, X, Y):
        """Return X and Y as JAX arrays, which are made at the first call with them."""
        if self.handed is None or X is not self.handed[0] or Y is not self.handed[1]:
            self.handed, self.data = (X, Y), (jnp.asarray(X), jnp.asarray(Y))
        return self.data

    def fetch_batch(self, X, Y, index):
        self.X, self.Y = (GATHER(values, index) for values in self.hand_over(X, Y))

    def forward(self):
        self.Z = FORWARD(self.network, self.state[0], self.X)

    def loss(self):
        return float(COST(self.network, self.Z, self.Y))

    def backward(self):
        self.gradient, _ = BACKWARD(self.network, self.state[0], self.X, self.Y)

    def update(self):
        self.state = DESCEND(self.network, *self.state, self.gradient)

    def train_step(self, X, Y, index):
        return self.train(X, Y, [index])[0]

    def train(self, X, Y, indices):
        if len({len(index) for index in indices}) > 1:  # all steps of a scan have the same batch size
            return [self.train_step(X, Y, index) for index in indices]
        self.state, losses = EPOCH(self.network, self.state, *self.hand_over(X, Y), np.array(indices))
        return np.asarray(losses).tolist()

    def parameters(self):
        return [(np.array(W), np.array(b)) for W, b in self.state[0]]

    def gradients(self):
        return [(np.array(dW), np.array(db)) for dW, db in self.gradient]

    def predict(self, X):
        return np.array(OUTPUT[self.network.output](FORWARD(self.network, self.state[0], jnp.asarray(X))))
