"""Course style: functions, parameters in a dict, one column per example, dropout on the hidden layer."""

import numpy as np


def initialize_parameters(layer_dims, seed=1):
    rng = np.random.default_rng(seed)
    parameters = {}
    for l in range(1, len(layer_dims)):
        W = rng.standard_normal((layer_dims[l], layer_dims[l - 1])) * (2.0 / layer_dims[l - 1]) ** 0.5
        parameters["W" + str(l)] = W.astype(np.float32)
        parameters["b" + str(l)] = np.zeros((layer_dims[l], 1), dtype=np.float32)
    return parameters


def softmax(Z):
    E = np.exp(Z - Z.max(axis=0, keepdims=True))
    return E / E.sum(axis=0, keepdims=True)


def forward_propagation(X, parameters, rng=None, keep_prob=1.0):
    Z1 = np.dot(parameters["W1"], X) + parameters["b1"]  # acceptable: recomputation; acceptable: second-forward
    A1 = np.maximum(Z1, 0)  # acceptable: recomputation; acceptable: second-forward
    D1 = None
    if rng is not None:
        D1 = (rng.random((X.shape[1], Z1.shape[0]), dtype=np.float32) < keep_prob).T  # planted: layout [mask]
        A1 = A1 * D1 / np.float32(keep_prob)  # planted: layout [mask]
    Z2 = np.dot(parameters["W2"], A1) + parameters["b2"]  # acceptable: second-forward; acceptable: layout
    A2 = softmax(Z2)  # acceptable: second-forward
    return A2, (Z1, A1, D1, A2)


# fast: def forward_propagation(X, parameters, mask=None, keep_prob=1.0):
# fast:     Z1 = np.dot(parameters["W1"], X) + parameters["b1"]
# fast:     A1 = np.maximum(Z1, 0)
# fast:     if mask is not None:
# fast:         A1 *= mask
# fast:         A1 /= keep_prob
# fast:     A2 = softmax(np.dot(parameters["W2"], A1) + parameters["b2"])
# fast:     return A2, (Z1, A1, A2)


def compute_cost(A2, Y):
    return -np.sum(np.log(A2 + 1e-7) * Y) / Y.shape[1]  # acceptable: second-forward; acceptable: slow-primitive
    # fast: return -np.vdot(np.log(A2 + 1e-7), Y) / Y.shape[1]


def backward_propagation(X, Y, parameters, cache, keep_prob):
    m = X.shape[1]
    Z1, A1, D1, A2 = cache
    grads = {}
    dZ2 = A2 - Y
    grads["W2"] = np.dot(dZ2, A1.T) / m  # acceptable: layout
    grads["b2"] = dZ2.sum(axis=1, keepdims=True) / m
    dA1 = np.dot(parameters["W2"].T, dZ2)
    dA1 = dA1 * D1 / np.float32(keep_prob)  # planted: layout [mask]
    dZ1 = dA1 * (Z1 > 0)  # acceptable: layout
    grads["W1"] = np.dot(dZ1, X.T) / m  # acceptable: layout
    grads["b1"] = dZ1.sum(axis=1, keepdims=True) / m  # acceptable: layout
    return grads


# fast: def backward_propagation(X, Y, parameters, cache, mask, keep_prob):
# fast:     m = X.shape[1]
# fast:     Z1, A1, A2 = cache
# fast:     grads = {}
# fast:     dZ2 = A2 - Y
# fast:     grads["W2"] = np.dot(dZ2, A1.T) / m
# fast:     grads["b2"] = dZ2.sum(axis=1, keepdims=True) / m
# fast:     dZ1 = np.dot(parameters["W2"].T, dZ2)
# fast:     dZ1 *= mask
# fast:     dZ1 /= keep_prob
# fast:     dZ1 *= Z1 > 0
# fast:     grads["W1"] = np.dot(dZ1, X.T) / m
# fast:     grads["b1"] = dZ1.sum(axis=1, keepdims=True) / m
# fast:     return grads


def update_parameters(parameters, grads, learning_rate):
    for key, grad in grads.items():
        parameters[key] -= learning_rate * grad
    return parameters


def model(X, Y, layer_dims, num_iterations=60, learning_rate=0.3, keep_prob=0.8):
    rng = np.random.default_rng(5)
    parameters = initialize_parameters(layer_dims)
    # fast: parameters = initialize_parameters(layer_dims)
    # fast: drawn = rng.random((num_iterations, X.shape[1], layer_dims[1]), dtype=np.float32) < keep_prob
    # fast: masks = np.ascontiguousarray(drawn.transpose(0, 2, 1))
    costs = []
    for _ in range(num_iterations):  # step
        _, cache = forward_propagation(X, parameters, rng, keep_prob)
        grads = backward_propagation(X, Y, parameters, cache, keep_prob)
        A2, _ = forward_propagation(X, parameters)  # planted: second-forward; acceptable: work-in-step
        costs.append(compute_cost(A2, Y))  # acceptable: second-forward; acceptable: work-in-step
        parameters = update_parameters(parameters, grads, learning_rate)
    # fast: for mask in masks:  # step
    # fast:     A2, cache = forward_propagation(X, parameters, mask, keep_prob)
    # fast:     costs.append(compute_cost(A2, Y))
    # fast:     grads = backward_propagation(X, Y, parameters, cache, mask, keep_prob)
    # fast:     parameters = update_parameters(parameters, grads, learning_rate)
    return parameters, costs


rng = np.random.default_rng(2)
classes = rng.integers(0, 6, 600)
X = (rng.standard_normal((6, 200))[classes] + rng.standard_normal((600, 200)) * 3).T.astype(np.float32, order="C")
Y = np.zeros((6, 600), dtype=np.float32)
Y[classes, np.arange(600)] = 1
parameters, costs = model(X, Y, [200, 80, 6])
A2, _ = forward_propagation(X, parameters)
print("cost", float(compute_cost(A2, Y)))
# fast: print("cost fell from", float(costs[0]), "to", float(costs[-1]))
print(float(compute_cost(A2, Y)), *[float(np.abs(p).sum()) for p in parameters.values()])
