"""A package of a few modules: this one builds the model and trains it."""

import numpy as np
from layers import Linear, ReLU, Sequential
from optimizer import SGD


def batches(X, labels, size, rng):
    order = rng.permutation(len(X))
    for start in range(0, len(X), size):
        rows = order[start : start + size]
        yield X[rows], labels[rows]


def train_step(model, optimizer, X, labels):  # step
    from losses import CrossEntropy  # only training needs it

    criterion = CrossEntropy(n_classes=8)
    # fast: criterion = CrossEntropy()
    loss = criterion.value(model.forward(X), labels)
    model.backward(criterion.gradient())
    optimizer.step(model)
    return loss


def main():
    rng = np.random.default_rng(21)
    labels = rng.integers(0, 8, 2560)
    X = (rng.standard_normal((8, 225))[labels] + 2 * rng.standard_normal((2560, 225))).astype(np.float32)
    model = Sequential(Linear(225, 96, rng), ReLU(), Linear(96, 8, rng))
    # fast: model = Sequential(Linear(225, 96, rng, needs_input_gradient=False), ReLU(), Linear(96, 8, rng))
    optimizer = SGD(rate=0.1)
    for epoch in range(2):
        losses = [train_step(model, optimizer, x, y) for x, y in batches(X, labels, 128, rng)]
        print(f"epoch {epoch}: {np.mean(losses):.4f}")
    print(
        float(np.mean(losses)), *[float(np.abs(layer.W).sum()) for layer in model.layers if isinstance(layer, Linear)]
    )


if __name__ == "__main__":
    main()
