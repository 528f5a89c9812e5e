"""Parameters, caches and gradients in dictionaries, and columns are samples, as a well-known course writes it."""

import sys
import zlib

import numpy as np


def forward(X, parameters):
    Z1 = np.zeros((30, X.shape[1]))  # acceptable: dead-computation
    for neuron in range(30):  # planted: neuron-loop
        Z1[neuron] = parameters["W1"][neuron] @ X + parameters["b1"][neuron]
    # fast: Z1 = parameters["W1"] @ X + parameters["b1"]
    A1 = np.tanh(Z1)
    return parameters["W2"] @ A1 + parameters["b2"], {"A1": A1}


def backward(X, Y, parameters, A2, cache):
    dZ2 = (A2 - Y) / Y.shape[1]
    dZ1 = (parameters["W2"].T @ dZ2) * (1 - cache["A1"] ** 2)
    return {
        "W1": dZ1 @ X.T,
        "b1": dZ1.sum(axis=1, keepdims=True),
        "W2": dZ2 @ cache["A1"].T,
        "b2": dZ2.sum(axis=1, keepdims=True),
    }


def model(X, Y, num_iterations, learning_rate=0.1):
    rng = np.random.default_rng(15)
    parameters = {"W1": rng.standard_normal((30, X.shape[0])) / 8, "b1": np.zeros((30, 1))}
    parameters |= {"W2": rng.standard_normal((Y.shape[0], 30)) / 5, "b2": np.zeros((Y.shape[0], 1))}
    for i in range(num_iterations):  # step
        A2, cache = forward(X, parameters)
        grads = backward(X, Y, parameters, A2, cache)
        for name in parameters:
            parameters[name] = parameters[name] - learning_rate * grads[name]
    return parameters


X = np.random.default_rng(16).standard_normal((64, 400))
parameters = list(model(X, np.tanh(X[:3]), int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000).values())
print(*(f"{abs(p).sum():.12g}:{zlib.crc32(p.tobytes()):08x}" for p in parameters))
