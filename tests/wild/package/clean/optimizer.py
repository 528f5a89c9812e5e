"""Plain gradient descent."""


class SGD:
    def __init__(self, rate):
        self.rate = rate

    def step(self, model):
        for layer in model.layers:
            if hasattr(layer, "W"):
                layer.W -= self.rate * layer.dW
                layer.b -= self.rate * layer.db
