class Block:
    """The arrays of a block of `steps` steps of m samples each, rows are samples, and the views of every step."""

    def __init__(self, sizes, steps, m, dtype):
        L, rows = len(sizes) - 1, steps * m
        hidden = sizes[1:-1]
        self.m = m
        self.X, self.Y = np.empty((rows, sizes[0]), dtype), np.empty((rows, sizes[-1]), dtype)
        self.C, self.D = np.empty((rows, rows), dtype), np.empty((rows, sizes[1]), dtype)
        self.H = np.ones((rows, sum(hidden) + len(hidden)), dtype)  # the ones stay
        self.A = np.empty((rows, sizes[-1]), dtype)
        self.slope, self.output_slope = np.empty((m, self.H.shape[1]), dtype), np.empty((m, sizes[-1]), dtype)
        self.Z = [None] + [np.empty((m, n), dtype) for n in sizes[1:]]
        self.delta = np.empty((m, sizes[-1]), dtype)
        self.propagated = [None] + [np.empty((m, 1 + n), dtype) for n in hidden]
        ends = np.cumsum([0, *(1 + n for n in hidden)])
        columns = [None] + [slice(*pair) for pair in zip(ends[:-1], ends[1:], strict=True)]
        self.slopes = [None] + [self.slope[:, c] for c in columns[1:]]
        self.steps = []
        for t in range(steps):
            now, past = slice(t * m, (t + 1) * m), slice(0, (t + 1) * m)
            A_bias = [None] + [self.H[now, c] for c in columns[1:]]
            A = [None] + [A[:, 1:] for A in A_bias[1:]] + [self.A[now]]
            self.steps.append((self.C[now, past], self.D[past], self.H[now], A_bias, A, self.Y[now], self.D[now]))
