"""Early stopping: once an epoch the validation set is evaluated and the best weights are kept."""

import argparse

import numpy as np


class Network:
    def __init__(self, sizes, seed):
        rng = np.random.default_rng(seed)
        self.layers = [
            {
                "W": (rng.standard_normal((n_in, n_out)) * (1 / n_in) ** 0.5).astype(np.float32),
                "b": np.zeros((1, n_out), dtype=np.float32),
                "vW": np.zeros((n_in, n_out), dtype=np.float32),
                "vb": np.zeros((1, n_out), dtype=np.float32),
            }
            for n_in, n_out in zip(sizes[:-1], sizes[1:])
        ]

    def predict(self, X):
        for layer in self.layers[:-1]:
            X = np.maximum(X @ layer["W"] + layer["b"], 0)
        return X @ self.layers[-1]["W"] + self.layers[-1]["b"]

    def train_on_batch(self, X, labels, rate, momentum):  # step
        activations = [X]
        for layer in self.layers[:-1]:
            activations.append(np.maximum(activations[-1] @ layer["W"] + layer["b"], 0))
        scores = activations[-1] @ self.layers[-1]["W"] + self.layers[-1]["b"]
        scores -= scores.max(axis=1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=1, keepdims=True)
        scores[np.arange(len(labels)), labels] -= 1
        delta = scores
        delta /= len(labels)
        for l in reversed(range(len(self.layers))):
            layer = self.layers[l]
            dW, db = activations[l].T @ delta, delta.sum(axis=0, keepdims=True)
            if l > 0:
                delta = delta @ layer["W"].T
                delta *= activations[l] > 0
            layer["vW"] *= momentum
            layer["vW"] -= rate * dW
            layer["vb"] *= momentum
            layer["vb"] -= rate * db
            layer["W"] += layer["vW"]
            layer["b"] += layer["vb"]


def fit(net, train, validation, epochs, batch_size, patience, rng):
    X, labels = train
    best, best_layers, waited = 0.0, None, 0
    for epoch in range(epochs):
        order = rng.permutation(len(X))
        for start in range(0, len(X), batch_size):
            rows = order[start : start + batch_size]
            net.train_on_batch(X[rows], labels[rows], 0.05, 0.9)
        accuracy = float(np.mean(net.predict(validation[0]).argmax(axis=1) == validation[1]))
        print(f"epoch {epoch}: validation accuracy {accuracy:.4f}")
        if accuracy > best:
            best, waited = accuracy, 0
            best_layers = [{name: value.copy() for name, value in layer.items()} for layer in net.layers]
        else:
            waited += 1
            if waited > patience:
                break
    net.layers = best_layers
    return best


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--patience", type=int, default=1)
    options = parser.parse_args()
    rng = np.random.default_rng(230)
    labels = rng.integers(0, 5, 3000)
    X = (rng.standard_normal((5, 250))[labels] + 4 * rng.standard_normal((3000, 250))).astype(np.float32)
    net = Network([250, 70, 30, 5], seed=1)
    best = fit(net, (X[:2500], labels[:2500]), (X[2500:], labels[2500:]), options.epochs, 100, options.patience, rng)
    print(best, *[float(np.abs(layer["W"]).sum()) for layer in net.layers])


if __name__ == "__main__":
    main()
