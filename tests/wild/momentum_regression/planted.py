"""Regression with momentum and weight decay; the error is followed closely while it trains."""

import numpy as np


def init(n_in, n_hidden, rng):
    params = {
        "W1": (rng.standard_normal((n_in, n_hidden)) * n_in**-0.5).astype(np.float32),
        "b1": np.zeros(n_hidden, dtype=np.float32),
        "W2": (rng.standard_normal((n_hidden, 1)) * n_hidden**-0.5).astype(np.float32),
        "b2": np.zeros(1, dtype=np.float32),
    }
    return params, {name: np.zeros_like(p) for name, p in params.items()}


def predict(params, X):
    hidden = np.tanh(X @ params["W1"] + params["b1"])  # acceptable: second-forward; acceptable: work-in-step
    return hidden, hidden @ params["W2"] + params["b2"]  # acceptable: second-forward; acceptable: work-in-step


def train_on(params, velocity, X, y, X_val, y_val, history, rate=0.05, mu=0.9, decay=1e-4):  # step
    hidden, output = predict(params, X)
    d2 = (output - y) / len(X)
    d1 = (d2 @ params["W2"].T) * (1 - hidden**2)
    grads = {"W1": X.T @ d1, "b1": d1.sum(axis=0), "W2": hidden.T @ d2, "b2": d2.sum(axis=0)}
    for name, p in params.items():
        if name.startswith("W"):
            grads[name] += decay * p
        velocity[name] *= mu
        velocity[name] -= rate * grads[name]
        p += velocity[name]
    _, output = predict(params, X)  # planted: second-forward [train]; acceptable: work-in-step
    history["train"].append(float(np.mean((output - y) ** 2)))  # acceptable: second-forward; acceptable: work-in-step
    _, output = predict(params, X_val)  # planted: work-in-step [validation]; acceptable: second-forward
    history["validation"].append(float(np.mean((output - y_val) ** 2)))  # planted: work-in-step [validation]


# fast: def train_on(params, velocity, X, y, history, rate=0.05, mu=0.9, decay=1e-4):  # step
# fast:     hidden, output = predict(params, X)
# fast:     error = output - y
# fast:     history["train"].append(float(np.mean(error**2)))
# fast:     d2 = error / len(X)
# fast:     d1 = (d2 @ params["W2"].T) * (1 - hidden**2)
# fast:     grads = {"W1": X.T @ d1, "b1": d1.sum(axis=0), "W2": hidden.T @ d2, "b2": d2.sum(axis=0)}
# fast:     for name, p in params.items():
# fast:         if name.startswith("W"):
# fast:             grads[name] += decay * p
# fast:         velocity[name] *= mu
# fast:         velocity[name] -= rate * grads[name]
# fast:         p += velocity[name]


def main():
    rng = np.random.default_rng(80)
    X = rng.uniform(-1, 1, (3000, 90)).astype(np.float32)
    y = np.sin(3 * X[:, :1]) + X[:, 1:2] * X[:, 2:3]
    X_val, y_val = X[2400:], y[2400:]
    params, velocity = init(90, 50, rng)
    history = {"train": [], "validation": []}
    for epoch in range(2):
        for i in range(0, 2400, 80):
            train_on(params, velocity, X[i : i + 80], y[i : i + 80], X_val, y_val, history)
            # fast: train_on(params, velocity, X[i : i + 80], y[i : i + 80], history)
        print(f"epoch {epoch}: validation error {history['validation'][-1]:.4f}")
        # fast: history["validation"].append(float(np.mean((predict(params, X_val)[1] - y_val) ** 2)))
        # fast: print(f"epoch {epoch}: validation error {history['validation'][-1]:.4f}")
    print(history["validation"][-1], *[float(np.abs(p).sum()) for p in params.values()])


if __name__ == "__main__":
    main()
