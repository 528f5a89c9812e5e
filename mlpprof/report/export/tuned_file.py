"""The winner of `mlpprof autotune` as a stand-alone Python file, for use where mlpprof is not installed."""

from __future__ import annotations

import ast
from pathlib import Path

from mlpprof.catalog import find
from mlpprof.errors import UsageError
from mlpprof.files import write_atomically
from mlpprof.report.export.standalone import Standalone, assemble
from mlpprof.report.format import format_time
from mlpprof.results.tuning import Tuning

SETUP = """import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "{threads}")  # before NumPy is imported; as it was measured
"""

ENDING = '''NETWORK = {network}
BATCH = {batch}
DTYPE = np.{dtype}


def train(X, Y, epochs, batch=BATCH, seed=0):
    """Train on samples X (N, n_0) and targets Y (N, n_L), shuffled every epoch; the model, each epoch's mean loss."""
    X, Y = np.ascontiguousarray(X, DTYPE), np.ascontiguousarray(Y, DTYPE)
    model = MLP(NETWORK, NETWORK.initial_parameters(seed, DTYPE))
    rng = np.random.default_rng(seed)
    losses = []
    for _ in range(epochs):
        order = np.arange(len(X)) if batch >= len(X) else rng.permutation(len(X))
        indices = [order[start : start + batch] for start in range(0, len(X) - len(X) % batch or len(X), batch)]
        if hasattr(model, "train"):
            found = model.train(X, Y, indices)
        else:
            found = [model.train_step(X, Y, index) for index in indices]
        losses.append(sum(found) / len(found))
    return model, losses


if __name__ == "__main__":
    import sys

    if len(sys.argv) < 2:
        sys.exit("usage: python FILE.py DATA.npz [EPOCHS], with the arrays X (N, n_0) and Y (N, n_L) in DATA.npz")
    with np.load(sys.argv[1], allow_pickle=False) as data:
        _, mean_losses = train(data["X"], data["Y"], int(sys.argv[2]) if len(sys.argv) > 2 else 10)
    for epoch, mean_loss in enumerate(mean_losses, start=1):
        print(f"epoch {{epoch}}: loss {{mean_loss:.6f}}")
'''


def require_python_file(path: Path) -> None:
    """Raise UsageError for a name that no Python file has, or a folder that is not there, before time is spent."""
    if path.suffix != ".py":
        raise UsageError(f"cannot write {path}: it is no Python file; name it .py, such as fast_mlp.py")
    if not path.parent.is_dir():
        raise UsageError(f"cannot write {path}: there is no folder {path.parent}; create it first")


def tuned_file(tuning: Tuning) -> Standalone:
    """The winner with everything that it takes from the package; raises VariantError where that cannot be inlined."""
    entry = find(tuning.variant)
    source = entry.source()
    idea = ast.get_docstring(ast.parse(source)) or ""
    network = tuning.network
    fields = ", ".join(f"{name}={value!r}" for name, value in vars(network).items())
    docstring = "\n".join(
        [
            f"The fastest multi-layer perceptron for {network.text}, batch {tuning.batch:,}, {tuning.dtype}.",
            "",
            f"Found by mlpprof autotune, {tuning.created[:10]}: {tuning.winner}, {format_time(tuning.step_s)} a step.",
            "It stands alone: train(X, Y, epochs) trains it, and so does `python FILE.py DATA.npz`. Its class has the",
            "interface that `mlpprof check`, `profile` and `compare` take. The file was assembled from mlpprof's own.",
            "",
            idea,
        ]
    )
    return assemble(
        source,
        entry.path.name,
        docstring,
        tuning.constants,
        also=[("mlpprof.model", "Network")],
        setup=SETUP.format(threads=tuning.threads)
        + "".join(f"os.environ.setdefault({name!r}, {value!r})\n" for name, value in tuning.variables.items()),
        ending=ENDING.format(network=f"Network({fields})", batch=tuning.batch, dtype=tuning.dtype),
    )


def write_tuned_file(tuning: Tuning, path: Path) -> Path:
    """Write the winner's file; returns its path. Raises UsageError where it cannot be written."""
    text = tuned_file(tuning).text
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
    return path
