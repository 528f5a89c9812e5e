"""TensorFlow, a reference line: the whole step as one graph, one call per batch.

Idea: the step is a tf.function. It contains the gather, the forward pass, the loss, the gradients of a tape, and the
update of the variables. TensorFlow traces it once, for any batch size; the race reports the time of the tracing
separately. XLA is not used here, because `jax_step` shows what it does with the same step.

The five methods, called one by one, run eagerly, and backward repeats the forward pass. So the step has no phases.

Threads: OMP_NUM_THREADS says how many; otherwise all cores are used. X and Y are copied to TensorFlow once.

Source: TensorFlow's documentation.
"""

import os

import numpy as np
import tensorflow as tf

PARENT = "sliced"
EXTRA = "peers"

HIDDEN = {"sigmoid": tf.sigmoid, "tanh": tf.tanh, "relu": tf.nn.relu}
OUTPUT = {"sigmoid": tf.sigmoid, "softmax": tf.nn.softmax, "identity": tf.identity}


def engine():
    """Return the version, the library and the number of threads that compute."""
    threads = tf.config.threading.get_intra_op_parallelism_threads() or os.cpu_count()
    return f"TensorFlow {tf.__version__} · Eigen and oneDNN · {threads} threads"


class MLP:
    """W[l] (n_{l-1}, n_l), in the order that is fastest here, and b[l] (n_l,) are variables with a velocity."""

    DTYPE = np.float32

    def __init__(self, network, parameters):
        tf.config.threading.set_intra_op_parallelism_threads(int(os.environ.get("OMP_NUM_THREADS", 0)))
        self.network = network
        self.W = [tf.Variable(W.T) for W, _ in parameters]
        self.b = [tf.Variable(b) for _, b in parameters]
        self.velocity = [tf.Variable(tf.zeros_like(values)) for values in (*self.W, *self.b)]
        self.handed = self.data = None
        self.step = tf.function(self.whole_step, reduce_retracing=True)

    def hand_over(self, X, Y):
        """Return X and Y as tensors, which are made at the first call with them."""
        if self.handed is None or X is not self.handed[0] or Y is not self.handed[1]:
            self.handed, self.data = (X, Y), (tf.constant(X), tf.constant(Y))
        return self.data

    def fetch_batch(self, X, Y, index):
        self.X, self.Y = (tf.gather(values, index) for values in self.hand_over(X, Y))

    def weighted_sums(self, X):
        """Return Z[L] (m, n_L), the output before its activation."""
        A = X
        for l, (W, b) in enumerate(zip(self.W, self.b, strict=True), start=1):
            Z = tf.nn.bias_add(A @ W, b)
            A = HIDDEN[self.network.hidden](Z) if l < self.network.depth else Z
        return A

    def mean_loss(self, Z, Y):
        """Return the mean loss, computed from the output before its activation."""
        m = tf.cast(tf.shape(Y)[0], Y.dtype)
        if self.network.loss == "squared_error":
            return tf.reduce_sum(tf.square(OUTPUT[self.network.output](Z) - Y)) / (2 * m)
        if self.network.output == "softmax":
            return tf.reduce_sum(tf.nn.softmax_cross_entropy_with_logits(Y, Z)) / m
        return tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(Y, Z)) / m

    def forward(self):
        self.Z = self.weighted_sums(self.X)

    def loss(self):
        return float(self.mean_loss(self.Z, self.Y))

    def differentiate(self, X, Y):
        """Return the loss, and the gradients of loss and penalty for all W, then for all b."""
        with tf.GradientTape() as tape:
            cost = self.mean_loss(self.weighted_sums(X), Y)
        gradient = tape.gradient(cost, [*self.W, *self.b])
        for l, W in enumerate(self.W):
            if self.network.l2 > 0:
                gradient[l] += self.network.l2 * W
            if self.network.l1 > 0:
                gradient[l] += self.network.l1 * tf.sign(W)
        return cost, gradient

    def descend(self, gradient):
        """Update the variables in place (heavy ball)."""
        for values, velocity, slope in zip((*self.W, *self.b), self.velocity, gradient, strict=True):
            velocity.assign(self.network.momentum * velocity + slope)
            values.assign_sub(self.network.rate * velocity)

    def backward(self):
        _, self.gradient = self.differentiate(self.X, self.Y)

    def update(self):
        self.descend(self.gradient)

    def whole_step(self, X, Y, index):
        """Make one whole step and return the loss. TensorFlow traces this method."""
        cost, gradient = self.differentiate(tf.gather(X, index), tf.gather(Y, index))
        self.descend(gradient)
        return cost

    def train_step(self, X, Y, index):
        return float(self.step(*self.hand_over(X, Y), tf.constant(index)))

    def parameters(self):
        return [(W.numpy().T.copy(), b.numpy()) for W, b in zip(self.W, self.b, strict=True)]

    def gradients(self):
        L = self.network.depth
        return [(self.gradient[l].numpy().T.copy(), self.gradient[L + l].numpy()) for l in range(L)]

    def predict(self, X):
        return OUTPUT[self.network.output](self.weighted_sums(tf.constant(X))).numpy()
