"""scikit-learn, a reference line: the step that `fit` makes for every batch.

Idea: this file calls the code of MLPClassifier or MLPRegressor as its stochastic solver calls it: the forward pass,
the backpropagation and the SGDOptimizer. It leaves out the checks of the input, and the scores that `fit` adds once
or once per epoch. The backpropagation of scikit-learn goes forward and computes the loss itself, so one call is three
phases. Its alpha is the L2 penalty times the batch size.

Limits: a network that `fit` cannot train is refused here: squared error after a sigmoid, and an L1 penalty.
scikit-learn would treat a single softmax output as a sigmoid, but the ladder has no such network.

Threads: those of NumPy's BLAS.

Source: the source code of scikit-learn, sklearn/neural_network/_multilayer_perceptron.py, from version 1.7 on.
"""

import numpy as np
import sklearn
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.neural_network._stochastic_optimizers import SGDOptimizer
from threadpoolctl import threadpool_info

from mlpprof.model import UnsupportedNetwork

PARENT = "sliced"
EXTRA = "peers"

NAMES = {"sigmoid": "logistic", "tanh": "tanh", "relu": "relu", "identity": "identity", "softmax": "softmax"}


def engine():
    """Return the version, the library and the number of threads that compute."""
    blas = [one for one in threadpool_info() if one["user_api"] == "blas" and "numpy" in one["filepath"]]
    text = " · ".join(f"{one['internal_api']} kernel {one.get('architecture')}" for one in blas[:1]) or "NumPy's BLAS"
    threads = blas[0]["num_threads"] if blas else "?"
    return f"scikit-learn {sklearn.__version__} · {text} · {threads} threads"


class MLP:
    """net holds the transposed W[l] (n_{l-1}, n_l) and b[l] (n_l,)."""

    DTYPE = np.float32

    def __init__(self, network, parameters):
        if network.l1 > 0 or (network.output == "sigmoid" and network.loss == "squared_error"):
            raise UnsupportedNetwork(
                f"scikit-learn cannot use l1 {network.l1:g} with {network.loss} after {network.output}; it has no L1 "
                "penalty, and squared error only after identity"
            )
        self.network = network
        self.L = L = network.depth
        kind = MLPRegressor if network.output == "identity" else MLPClassifier
        self.net = kind(hidden_layer_sizes=network.layers[1:-1], activation=NAMES[network.hidden], solver="sgd")
        self.net.n_layers_, self.net.n_outputs_ = L + 1, network.layers[-1]
        self.net.out_activation_ = NAMES[network.output]
        self.net.coefs_ = [W.T.copy() for W, _ in parameters]
        self.net.intercepts_ = [b.copy() for _, b in parameters]
        self.all = self.net.coefs_ + self.net.intercepts_
        self.optimizer = SGDOptimizer(self.all, network.rate, "constant", network.momentum, nesterov=False)
        self.A, self.delta = [None] * (L + 1), [None] * L
        self.dW, self.db = [None] * L, [None] * L

    def fetch_batch(self, X, Y, index):
        self.A[0] = X[index]
        self.Y = Y[index]

    def forward(self):
        self.net.alpha = self.network.l2 * len(self.Y)
        loss, self.dW, self.db = self.net._backprop(self.A[0], self.Y, None, self.A, self.delta, self.dW, self.db)
        # _backprop adds the penalty, and divides a squared error by the number of outputs too
        penalty = 0.5 * self.network.l2 * sum(float(np.dot(W.ravel(), W.ravel())) for W in self.net.coefs_)
        self.cost = (loss - penalty) * (self.network.layers[-1] if self.network.loss == "squared_error" else 1)

    def loss(self):
        return float(self.cost)

    def backward(self):
        """Do nothing, because forward has computed the gradients too."""

    def update(self):
        self.optimizer.update_params(self.all, self.dW + self.db)

    def train_step(self, X, Y, index):
        self.fetch_batch(X, Y, index)
        self.forward()
        loss = self.loss()
        self.update()
        return loss

    def parameters(self):
        return [(W.T.copy(), b.copy()) for W, b in zip(self.net.coefs_, self.net.intercepts_, strict=True)]

    def gradients(self):
        return [(dW.T.copy(), db.copy()) for dW, db in zip(self.dW, self.db, strict=True)]

    def predict(self, X):
        A = [X, *([None] * self.L)]
        return self.net._forward_pass(A)[self.L]
