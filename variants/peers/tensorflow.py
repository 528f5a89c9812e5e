"""TensorFlow: a reference line, the whole step as one graph, called once a batch.

The step is a tf.function: gather, forward, loss, the gradients of a tape, and the update of the variables. It is traced
once, with the batch size open; the race reports that beside the step. XLA is left out: `jax_step` shows what it makes
of the same step.

Called singly, the five methods run eagerly and backward goes forward again: the step has no phases.

Threads: as OMP_NUM_THREADS says, else all cores. X and Y are handed over once.

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
    """What computes: version, library, threads."""
    threads = tf.config.threading.get_intra_op_parallelism_threads() or os.cpu_count()
    return f"TensorFlow {tf.__version__} · Eigen and oneDNN · {threads} threads"


class MLP:
    """W[l] (n_{l-1}, n_l), as TensorFlow multiplies best, and b[l] (n_l,): variables, each with a velocity."""

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
        """X and Y as tensors, made when they are first seen."""
        if self.handed is None or X is not self.handed[0] or Y is not self.handed[1]:
            self.handed, self.data = (X, Y), (tf.constant(X), tf.constant(Y))
        return self.data

    def fetch_batch(self, X, Y, index):
        self.X, self.Y = (tf.gather(values, index) for values in self.hand_over(X, Y))

    def weighted_sums(self, X):
        """Z[L] (m, n_L): the output before its activation."""
        A = X
        for l, (W, b) in enumerate(zip(self.W, self.b, strict=True), start=1):
            Z = tf.nn.bias_add(A @ W, b)
            A = HIDDEN[self.network.hidden](Z) if l < self.network.depth else Z
        return A

    def mean_loss(self, Z, Y):
        """The mean loss from what the output's activation is still to be applied to."""
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
        """The loss, and the gradients of loss and penalty: of all W, then of all b."""
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
        """Heavy ball, in place."""
        for values, velocity, slope in zip((*self.W, *self.b), self.velocity, gradient, strict=True):
            velocity.assign(self.network.momentum * velocity + slope)
            values.assign_sub(self.network.rate * velocity)

    def backward(self):
        _, self.gradient = self.differentiate(self.X, self.Y)

    def update(self):
        self.descend(self.gradient)

    def whole_step(self, X, Y, index):
        """What is traced: from the rows of the batch to the new parameters; the loss."""
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
