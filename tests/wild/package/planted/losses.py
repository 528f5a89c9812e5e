"""Losses of classification."""

import numpy as np


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


class CrossEntropy:
    def __init__(self, n_classes):
        self.n_classes = n_classes

    # fast:

    def value(self, scores, labels):
        self.scores, self.labels = scores, labels
        # fast:
        p = softmax(scores)
        # fast:
        return -np.log(p[np.arange(len(labels)), labels] + 1e-9).mean()
        # fast: self.p, self.labels = softmax(scores), labels
        # fast: return -np.log(self.p[np.arange(len(labels)), labels] + 1e-9).mean()

    def gradient(self):
        onehot = np.zeros((len(self.labels), self.n_classes))  # planted: float64 [upcast]; acceptable: gather
        # fast: gradient = self.p
        onehot[np.arange(len(self.labels)), self.labels] = 1.0  # acceptable: gather
        # fast: gradient[np.arange(len(self.labels)), self.labels] -= 1.0
        p = softmax(self.scores)  # acceptable: recomputation
        # fast: gradient /= len(gradient)
        return (p - onehot) / len(onehot)  # planted: float64 [upcast]
        # fast: return gradient
