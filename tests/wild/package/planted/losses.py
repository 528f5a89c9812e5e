"""Losses of classification."""

import numpy as np


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


class CrossEntropy:
    def __init__(self, n_classes):
        self.n_classes = n_classes

    def value(self, scores, labels):
        self.scores, self.labels = scores, labels
        p = softmax(scores)
        return -np.log(p[np.arange(len(labels)), labels] + 1e-9).mean()

    def gradient(self):
        onehot = np.zeros((len(self.labels), self.n_classes))  # planted: float64 [upcast]; acceptable: gather
        onehot[np.arange(len(self.labels)), self.labels] = 1.0  # acceptable: gather
        p = softmax(self.scores)  # acceptable: recomputation
        return (p - onehot) / len(onehot)  # planted: float64 [upcast]
