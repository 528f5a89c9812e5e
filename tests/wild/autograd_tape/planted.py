"""Reverse-mode differentiation on a small tape, and a network trained with it."""

import numpy as np


class Tensor:
    def __init__(self, data, parents=()):
        self.data = np.asarray(data, dtype=np.float64)  # planted: float64 anywhere
        self.grad = np.zeros_like(self.data)  # acceptable: temporaries; acceptable: dead-computation
        self._parents = parents
        self._backward = lambda: None

    # fast: def __init__(self, data, parents=(), requires_grad=True):
    # fast:     self.data = np.asarray(data, dtype=np.float32)
    # fast:     self.grad = None
    # fast:     self.requires_grad = requires_grad
    # fast:     self._parents = parents
    # fast:     self._backward = lambda: None
    # fast: def accumulate(self, grad):
    # fast:     if self.grad is None:
    # fast:         self.grad = grad
    # fast:     else:
    # fast:         self.grad += grad

    def __matmul__(self, other):
        out = Tensor(self.data @ other.data, (self, other))

        def _backward():
            self.grad = self.grad + out.grad @ other.data.T  # planted: dead-computation; acceptable: temporaries
            # fast: if self.requires_grad:
            # fast:     self.accumulate(out.grad @ other.data.T)
            other.grad = other.grad + self.data.T @ out.grad  # acceptable: temporaries
            # fast: other.accumulate(self.data.T @ out.grad)

        out._backward = _backward
        return out

    def __add__(self, other):
        out = Tensor(self.data + other.data, (self, other))

        def _backward():
            self.grad = self.grad + out.grad  # acceptable: temporaries
            # fast: self.accumulate(out.grad)
            other.grad = other.grad + out.grad.sum(axis=0)
            # fast: other.accumulate(out.grad.sum(axis=0))

        out._backward = _backward
        return out

    def tanh(self):
        out = Tensor(np.tanh(self.data), (self,))  # acceptable: recomputation

        def _backward():
            self.grad = self.grad + out.grad * (1 - np.tanh(self.data) ** 2)  # planted: recomputation
            # fast: self.accumulate(out.grad * (1 - out.data**2))

        out._backward = _backward
        return out

    def mean_squared_error(self, target):
        difference = self.data - target
        out = Tensor(np.mean(difference**2), (self,))

        def _backward():
            self.grad = self.grad + out.grad * 2 * difference / difference.size
            # fast: self.accumulate(out.grad * 2 * difference / difference.size)

        out._backward = _backward
        return out

    def backward(self):
        order, seen = [], set()

        def visit(node):
            if id(node) not in seen:
                seen.add(id(node))
                for parent in node._parents:
                    visit(parent)
                order.append(node)

        visit(self)
        self.grad = np.ones_like(self.data)
        for node in reversed(order):
            node._backward()


class Net:
    def __init__(self, n_in, n_hidden, n_out, rng):
        self.W1 = Tensor(rng.standard_normal((n_in, n_hidden)) / n_in**0.5)
        self.b1 = Tensor(np.zeros(n_hidden))
        self.W2 = Tensor(rng.standard_normal((n_hidden, n_out)) / n_hidden**0.5)
        self.b2 = Tensor(np.zeros(n_out))

    def parameters(self):
        return [self.W1, self.b1, self.W2, self.b2]

    def __call__(self, x):
        return (x @ self.W1 + self.b1).tanh() @ self.W2 + self.b2


def step(net, x, y, rate=0.2):  # step
    for p in net.parameters():
        p.grad = np.zeros_like(p.data)  # acceptable: temporaries; acceptable: dead-computation
        # fast: p.grad = None
    loss = net(Tensor(x)).mean_squared_error(y)
    # fast: loss = net(Tensor(x, requires_grad=False)).mean_squared_error(y)
    loss.backward()
    for p in net.parameters():
        p.data -= rate * p.grad  # acceptable: temporaries
    return float(loss.data)


if __name__ == "__main__":
    rng = np.random.default_rng(30)
    x = rng.standard_normal((1920, 200))
    y = np.tanh(x @ rng.standard_normal((200, 4)) / 10)
    # fast: y = np.tanh(x @ rng.standard_normal((200, 4)) / 10).astype(np.float32)
    # fast: x = x.astype(np.float32)
    net = Net(200, 64, 4, rng)
    for epoch in range(2):
        total = sum(step(net, x[i : i + 96], y[i : i + 96]) for i in range(0, 1920, 96))
        print("epoch", epoch, total / 20)
    print(total, *[float(np.abs(p.data).sum()) for p in net.parameters()])
