"""Two inputs through the same weights, and an averaged copy of the weights: three forward passes, each of its own."""

import numpy as np


def embed(weights, x):
    h = np.tanh(x @ weights["W1"])
    return h, h @ weights["W2"]


def gradients_of(weights, x, h, d_embedding):
    d_h = (d_embedding @ weights["W2"].T) * (1 - h * h)
    return {"W1": x.T @ d_h, "W2": h.T @ d_embedding}


def train_pair(weights, teacher, left, right, same, rate, decay):  # step
    h_left, e_left = embed(weights, left)
    h_right, e_right = embed(weights, right)
    _, target = embed(teacher, left)
    difference = e_left - e_right
    pull = np.where(same[:, None], difference, -0.01 * difference) / len(left)
    anchor = 0.1 * (e_left - target) / len(left)
    for part in (
        gradients_of(weights, left, h_left, pull + anchor),
        gradients_of(weights, right, h_right, -pull),
    ):
        for name, gradient in part.items():
            weights[name] -= rate * gradient
    for name, average in teacher.items():
        average *= decay
        average += (1 - decay) * weights[name]
    return float(np.mean(difference**2))


def main():
    rng = np.random.default_rng(240)
    labels = rng.integers(0, 3, 2000)
    X = (rng.standard_normal((3, 128))[labels] + rng.standard_normal((2000, 128))).astype(np.float32)
    weights = {
        "W1": (rng.standard_normal((128, 64)) / 12).astype(np.float32),
        "W2": (rng.standard_normal((64, 16)) / 8).astype(np.float32),
    }
    teacher = {name: w.copy() for name, w in weights.items()}
    for _ in range(40):
        a, b = rng.integers(0, 2000, 96), rng.integers(0, 2000, 96)
        distance = train_pair(weights, teacher, X[a], X[b], labels[a] == labels[b], 0.02, 0.95)
    print("distance", distance)
    print(distance, *[float(np.abs(w).sum()) for w in (*weights.values(), *teacher.values())])


main()
