# A small script: two layers, softmax, plain gradient descent. Everything at module level.
import numpy as np

rng = np.random.default_rng(0)
n, n_features, n_hidden, n_classes, batch_size = 3000, 200, 48, 10, 100
labels = rng.integers(0, n_classes, n)
X = rng.random((n_classes, n_features))[labels] + rng.normal(0, 0.6, (n, n_features))
X = X.astype(np.float32)
W1 = (rng.normal(size=(n_features, n_hidden)) * 0.05).astype(np.float32)
b1 = np.zeros(n_hidden, dtype=np.float32)
W2 = (rng.normal(size=(n_hidden, n_classes)) * 0.05).astype(np.float32)
b2 = np.zeros(n_classes, dtype=np.float32)
lr = np.float32(0.1)

for epoch in range(2):
    order = rng.permutation(n)
    for start in range(0, n, batch_size):  # step
        shuffled = X[order]  # planted: gather; acceptable: temporaries
        onehot = np.eye(n_classes, dtype=np.float32)[labels[order]]  # planted: gather; acceptable: temporaries
        x, t = shuffled[start : start + batch_size], onehot[start : start + batch_size]
        hidden = np.tanh(x @ W1 + b1)
        scores = hidden @ W2 + b2
        p = np.exp(scores - scores.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        d2 = (p - t) / batch_size
        d1 = (d2 @ W2.T) * (1 - hidden**2)
        W2 -= lr * (hidden.T @ d2)
        b2 -= lr * d2.sum(axis=0)
        W1 -= lr * (x.T @ d1)
        b1 -= lr * d1.sum(axis=0)
        # how far are we?
        guess = np.argmax(np.tanh(X @ W1 + b1) @ W2 + b2, axis=1)  # planted: work-in-step; acceptable: second-forward
        accuracy = np.mean(guess == labels)  # acceptable: work-in-step
        print(f"epoch {epoch} batch {start // batch_size}: accuracy {accuracy:.3f}")  # acceptable: work-in-step

p = np.tanh(X @ W1 + b1) @ W2 + b2
print(float(np.mean(p.argmax(axis=1) == labels)), float(np.abs(W1).sum()), float(np.abs(W2).sum()))
