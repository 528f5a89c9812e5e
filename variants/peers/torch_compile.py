"""PyTorch, a reference line: compiled C++ for everything but the products.

Idea: the network is written as users of PyTorch write it: nn.Linear layers, gradients by autograd, and
torch.optim.SGD, whose momentum is heavy ball. The L2 penalty is the optimizer's weight_decay, for the weights alone.
The optimizer has no L1 penalty, so that is added to the loss before it is differentiated. The loss is computed from
the output before its activation, as in the numerically stable functions of PyTorch.

What changes against `torch`: the model and the loss go through torch.compile. It writes C++ for everything except the
matrix products, and joins operations, forward and backward. This takes seconds and needs a C++ compiler, once for
every batch size; the race reports the time of the compilation separately. The five methods, called one by one, stay
eager.

Threads: OMP_NUM_THREADS says how many. X and Y are not copied; index_select gathers a batch.

Source: PyTorch's documentation.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

PARENT = "sliced"
EXTRA = "peers"

HIDDEN = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "relu": nn.ReLU}


def engine():
    """Return the version, the library and the number of threads that compute."""
    library = "MKL" if torch.backends.mkl.is_available() else "its own BLAS"
    kernel = torch.backends.cpu.get_cpu_capability()
    return f"PyTorch {torch.__version__} · {library} · kernel {kernel} · {torch.get_num_threads()} threads"


class MLP:
    """model maps X (m, n_0) to Z[L] (m, n_L). Its linear layers hold W[l] (n_l, n_{l-1}) and b[l] (n_l,)."""

    DTYPE = np.float32

    def __init__(self, network, parameters):
        self.network = network
        self.linear = [self.layer(W, b) for W, b in parameters]
        between = [[HIDDEN[network.hidden]()] for _ in self.linear[1:]]
        self.model = nn.Sequential(
            *(module for pair in zip(self.linear, [*between, []], strict=True) for module in [pair[0], *pair[1]])
        )
        weights, biases = [layer.weight for layer in self.linear], [layer.bias for layer in self.linear]
        groups = [{"params": weights, "weight_decay": network.l2}, {"params": biases}]
        self.optimizer = torch.optim.SGD(groups, lr=network.rate, momentum=network.momentum, fused=True)
        self.compiled = torch.compile(self.objective, dynamic=False)

    def layer(self, W, b):
        """Return a linear layer with copies of the parameters."""
        linear = nn.utils.skip_init(nn.Linear, *reversed(W.shape), dtype=torch.from_numpy(W).dtype)
        linear.load_state_dict({"weight": torch.from_numpy(W.copy()), "bias": torch.from_numpy(b.copy())})
        return linear

    def fetch_batch(self, X, Y, index):
        index = torch.from_numpy(index)
        self.X = torch.index_select(torch.from_numpy(X), 0, index)
        self.Y = torch.index_select(torch.from_numpy(Y), 0, index)

    def forward(self):
        self.Z = self.model(self.X)
        self.cost = self.mean_loss(self.Z, self.Y)

    def mean_loss(self, Z, Y):
        """Return the mean loss, computed from the output before its activation."""
        if self.network.loss == "squared_error":
            A = torch.sigmoid(Z) if self.network.output == "sigmoid" else Z
            return (A - Y).square().sum() / (2 * len(Y))
        if self.network.output == "softmax":
            return functional.cross_entropy(Z, Y)
        return functional.binary_cross_entropy_with_logits(Z, Y, reduction="sum") / len(Y)

    def loss(self):
        return self.cost.item()

    def penalized(self, cost):
        """Return the loss with the L1 penalty. The optimizer adds the L2 penalty."""
        if self.network.l1 == 0:
            return cost
        return cost + self.network.l1 * sum(layer.weight.abs().sum() for layer in self.linear)

    def backward(self):
        self.optimizer.zero_grad()
        self.penalized(self.cost).backward()

    def objective(self, X, Y):
        """Return the loss with the L1 penalty, which is differentiated, and the loss alone."""
        cost = self.mean_loss(self.model(X), Y)
        return self.penalized(cost), cost.detach()

    def update(self):
        self.optimizer.step()

    def train_step(self, X, Y, index):
        self.fetch_batch(X, Y, index)
        objective, cost = self.compiled(self.X, self.Y)
        self.optimizer.zero_grad()
        objective.backward()
        self.update()
        return cost.item()

    def parameters(self):
        return [(layer.weight.detach().numpy().copy(), layer.bias.detach().numpy().copy()) for layer in self.linear]

    def gradients(self):
        decayed = [layer.weight.grad + self.network.l2 * layer.weight.detach() for layer in self.linear]
        return [(dW.numpy(), layer.bias.grad.numpy().copy()) for dW, layer in zip(decayed, self.linear, strict=True)]

    def predict(self, X):
        with torch.no_grad():
            Z = self.model(torch.from_numpy(X))
            if self.network.output == "identity":
                return Z.numpy()
            return (torch.softmax(Z, 1) if self.network.output == "softmax" else torch.sigmoid(Z)).numpy()
