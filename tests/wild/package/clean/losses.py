"""Losses of classification."""

import numpy as np


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


class CrossEntropy:
    def __init__(self, n_classes):
        self.n_classes = n_classes

    def value(self, scores, labels):
        self.p, self.labels = softmax(scores), labels
        return -np.log(self.p[np.arange(len(labels)), labels] + 1e-9).mean()

    def gradient(self):
        onehot = np.zeros((len(self.labels), self.n_classes), dtype=np.float32)
        onehot[np.arange(len(self.labels)), self.labels] = 1.0
        return (self.p - onehot) / len(onehot)
