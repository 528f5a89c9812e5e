"""ReLU by masked assignment, dropout by boolean masks; activations are looked at from outside now and then."""

import hashlib
import json

import numpy as np


class Monitor:
    """Keeps what it is shown; nothing of it goes back into the training."""

    def __init__(self):
        self.digests = []
        self.active = []

    def see(self, name, array):
        self.digests.append(name + hashlib.sha256(array.tobytes()).hexdigest()[:8])

    def count(self, mask):
        self.active.append(int(mask.sum()))


class Net:
    def __init__(self, sizes, rng):
        self.rng = rng
        self.W = [(rng.standard_normal((a, b)) * (2 / a) ** 0.5).astype(np.float32) for a, b in zip(sizes, sizes[1:])]
        self.b = [np.zeros(b, dtype=np.float32) for b in sizes[1:]]
        self.last_gradient = self.last_masks = None

    def step(self, X, Y, rate, keep=0.75):  # step
        A, masks = X, []
        inputs = []
        last = len(self.W) - 1
        for l, (W, b) in enumerate(zip(self.W, self.b)):
            inputs.append(A)
            Z = A @ W
            Z += b
            if l < last:
                kept = Z > 0
                kept &= self.rng.random(Z.shape, dtype=np.float32) < keep
                Z *= kept
                Z /= keep
                masks.append(kept)
            A = Z
        A -= Y
        loss = float(np.vdot(A, A)) / len(Y)
        delta = A
        delta *= 2 / len(Y)
        gradient = [None] * len(self.W)
        for l in range(last, -1, -1):
            gradient[l] = (inputs[l].T @ delta, delta.sum(axis=0))
            if l > 0:
                delta = delta @ self.W[l].T
                delta *= masks[l - 1]
                delta /= keep
        for l, (dW, db) in enumerate(gradient):
            self.W[l] -= rate * dW
            self.b[l] -= rate * db
        self.last_gradient, self.last_masks = gradient, masks  # read between the steps
        return loss


def main():
    rng = np.random.default_rng(200)
    X = rng.standard_normal((2400, 160)).astype(np.float32)
    Y = np.abs(X[:, :3])
    monitor = Monitor()
    net = Net([160, 64, 64, 3], rng)
    for epoch in range(2):
        for i in range(0, 2400, 80):
            loss = net.step(X[i : i + 80], Y[i : i + 80], 0.02)
            if i % 800 == 0:
                monitor.see(f"{epoch}:{i}:", net.last_gradient[0][0])
                monitor.count(~net.last_masks[0])
    print(json.dumps({"seen": len(monitor.digests), "off": sum(monitor.active)}))
    print(loss, *[float(np.abs(W).sum()) for W in net.W])


if __name__ == "__main__":
    main()
