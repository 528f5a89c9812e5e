"""Neurons and weights one by one: Python loops and no arrays.

This file spells backpropagation as the formulas with all their indices do. It uses lists of numbers, a loop over the
samples, inside it a loop over the neurons of a layer, and inside that a loop over the weights of a neuron. It
computes with Python's own numbers and the module `math`; NumPy only hands the data in and out.

Why it is slow: a processor needs a quarter of a nanosecond for one multiplication, and this file needs some 50
nanoseconds. For every single product the interpreter looks up both lists, checks both indices, finds out that both
operands are floats, creates a third float, and counts the references to all of them. It never uses a SIMD register
for more than one number, and it never uses a second core.

What it is good for: every index is visible. Compare it with `per_sample`, where the two inner loops have become one
product of a matrix with a vector, and with `naive`, where the loop over the samples is gone too.

Limits: Python's float is always double precision. In a run with float32, only the input and the output are rounded.

Source: the lists of numbers that workload `liu` starts from, and the neurons of workload `forever`.
"""

import math

import numpy as np

PARENT = None


def sigmoid(z):
    """Return 1 / (1 + exp(-z)). The second form is for z < 0, where exp(-z) could overflow."""
    if z >= 0:
        return 1 / (1 + math.exp(-z))
    return math.exp(z) / (1 + math.exp(z))


def value(name, z):
    """Return the list of the activations of a layer from its weighted sums z."""
    if name == "sigmoid":
        return [sigmoid(z_j) for z_j in z]
    if name == "tanh":
        return [math.tanh(z_j) for z_j in z]
    if name == "relu":
        return [max(z_j, 0.0) for z_j in z]
    if name == "softmax":
        e = [math.exp(z_j - max(z)) for z_j in z]
        return [e_j / sum(e) for e_j in e]
    return list(z)


def derivative(name, z_j):
    """Return the derivative of one neuron's activation at its weighted sum z_j."""
    if name == "sigmoid":
        return sigmoid(z_j) * (1 - sigmoid(z_j))
    if name == "tanh":
        return 1 - math.tanh(z_j) ** 2
    return 1.0 if z_j > 0 else 0.0  # relu; the outputs softmax and identity need no derivative


def cost(network, a, y, epsilon):
    """Return the loss of one sample from the output neurons a and their targets y."""
    total = 0.0
    for a_j, y_j in zip(a, y, strict=True):
        if network.loss == "squared_error":
            total += (a_j - y_j) ** 2 / 2
        elif network.output == "softmax":
            total -= y_j * math.log(max(a_j, epsilon))
        else:
            a_j = min(max(a_j, epsilon), 1 - epsilon)  # otherwise a saturated neuron would give log 0
            total -= y_j * math.log(a_j) + (1 - y_j) * math.log(1 - a_j)
    return total


class MLP:
    """Lists are indexed by the layer l = 0..L, the neuron j of that layer, and the neuron i of the layer below."""

    DTYPE = np.float64

    def __init__(self, network, parameters):
        self.network = network
        self.dtype = parameters[0][0].dtype
        self.epsilon = float(np.finfo(self.dtype).eps)
        self.L = L = network.depth
        self.n = network.layers
        self.activation = [network.hidden] * L + [network.output]
        self.W = [None] + [W.tolist() for W, _ in parameters]
        self.b = [None] + [b.tolist() for _, b in parameters]
        self.velocity_W = self.zero_weights()
        self.velocity_b = self.zero_biases()

    def zero_weights(self):
        return [None] + [[[0.0] * self.n[l - 1] for _ in range(self.n[l])] for l in range(1, self.L + 1)]

    def zero_biases(self):
        return [None] + [[0.0] * self.n[l] for l in range(1, self.L + 1)]

    def fetch_batch(self, X, Y, index):
        self.X = X[index].tolist()  # phase: gather
        self.Y = Y[index].tolist()  # phase: gather

    def forward(self):
        self.samples = [self.forward_sample(x) for x in self.X]

    def forward_sample(self, x):
        z, a = [x], [x]
        for l in range(1, self.L + 1):
            z.append([])
            for j in range(self.n[l]):  # phase: weighted sum
                z_j = self.b[l][j]
                for i in range(self.n[l - 1]):
                    z_j += self.W[l][j][i] * a[l - 1][i]
                z[l].append(z_j)
            a.append(value(self.activation[l], z[l]))  # phase: activation
        return z, a

    def loss(self):
        total = 0.0
        for (_, a), y in zip(self.samples, self.Y, strict=True):
            total += cost(self.network, a[self.L], y, self.epsilon)  # phase: cost
        return total / len(self.Y)

    def backward(self):
        self.dW = self.zero_weights()
        self.db = self.zero_biases()
        for (z, a), y in zip(self.samples, self.Y, strict=True):
            self.backward_sample(z, a, y)
        for l in range(1, self.L + 1):
            self.regularize(l)  # phase: regularize

    def backward_sample(self, z, a, y):
        m = len(self.Y)
        for l in reversed(range(1, self.L + 1)):
            if l == self.L:
                delta = [(a[l][j] - y[j]) / m for j in range(self.n[l])]  # phase: error
                if self.network.delta_needs_derivative:
                    for j in range(self.n[l]):  # phase: derivative
                        delta[j] *= derivative(self.activation[l], z[l][j])
            else:
                above, delta = delta, []
                for i in range(self.n[l]):  # phase: propagate
                    delta_i = 0.0
                    for j in range(self.n[l + 1]):
                        delta_i += self.W[l + 1][j][i] * above[j]
                    delta.append(delta_i * derivative(self.activation[l], z[l][i]))
            for j in range(self.n[l]):  # phase: gradient
                for i in range(self.n[l - 1]):
                    self.dW[l][j][i] += delta[j] * a[l - 1][i]
                self.db[l][j] += delta[j]

    def regularize(self, l):
        l1, l2 = self.network.l1, self.network.l2
        if l1 > 0 or l2 > 0:
            for j in range(self.n[l]):
                for i in range(self.n[l - 1]):
                    w = self.W[l][j][i]
                    self.dW[l][j][i] += l2 * w + l1 * ((w > 0) - (w < 0))

    def update(self):
        rate, momentum = self.network.rate, self.network.momentum
        for l in range(1, self.L + 1):
            for j in range(self.n[l]):  # phase: descend
                for i in range(self.n[l - 1]):
                    v = momentum * self.velocity_W[l][j][i] + self.dW[l][j][i]
                    self.velocity_W[l][j][i] = v
                    self.W[l][j][i] -= rate * v
                v = momentum * self.velocity_b[l][j] + self.db[l][j]
                self.velocity_b[l][j] = v
                self.b[l][j] -= rate * v

    def train_step(self, X, Y, index):
        self.fetch_batch(X, Y, index)
        self.forward()
        loss = self.loss()
        self.backward()
        self.update()
        return loss

    def parameters(self):
        return [(np.array(W, self.dtype), np.array(b, self.dtype)) for W, b in zip(self.W[1:], self.b[1:], strict=True)]

    def gradients(self):
        return [
            (np.array(dW, self.dtype), np.array(db, self.dtype))
            for dW, db in zip(self.dW[1:], self.db[1:], strict=True)
        ]

    def predict(self, X):
        return np.array([self.forward_sample(x)[1][self.L] for x in X.tolist()], X.dtype)
