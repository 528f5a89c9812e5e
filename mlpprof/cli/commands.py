"""The commands: what each does, in the order of --help, and what one types."""

from __future__ import annotations

SECTIONS = {
    "Your program": {
        "advise": "Find the slow operations in your training script, and how to fix them.",
        "profile": "Show where the time of a training step goes.",
        "compare": "Measure how much faster a new version trains than an old one.",
        "bisect": "Find the commit that made your training slow.",
        "report": "Show a stored profile or race again.",
        "verify": "Compute the figures of a stored race again from its samples.",
    },
    "Variants": {
        "list": "List the built-in variants.",
        "ladder": "Measure all variants of the ladder in one run.",
        "diff": "Show the code that differs between two variants.",
        "check": "Check that variants compute the right gradients.",
        "sweep": "Measure a grid of variants, networks and settings, here or on a cluster.",
        "autotune": "Find the fastest variant for your network, and save it as a file.",
        "peers": "Compare the variants with PyTorch, JAX, TensorFlow and scikit-learn.",
    },
    "Tests": {
        "check-claims": "Measure the speedups that pyproject.toml claims.",
        "calibrate": "Store a measured speedup, so that a test can require it.",
    },
    "Workshop": {
        "workshop": "Teach performance with exercises that check themselves.",
        "reproduce": "Measure what five published sources claim.",
    },
    "Machine and data": {
        "doctor": "Show what this machine can do, and which settings make it slow.",
        "data": "Show what is in a data file, write it in a faster layout, or download MNIST.",
    },
}
"""The commands as --help lists them. `module_of` names the module of a command; its click command is `command`."""

COMMANDS = {name: text for commands in SECTIONS.values() for name, text in commands.items()}


def module_of(command: str) -> str:
    """The module of a command."""
    return f"mlpprof.cli.{command.replace('-', '_')}"


EXAMPLES = {
    "advise": "mlpprof advise train.py",
    "profile": "mlpprof profile train.py",
    "compare": "mlpprof compare old.py new.py",
    "bisect": "mlpprof bisect train.py --good v1.0 --bad HEAD",
    "calibrate": "mlpprof calibrate old.py new.py",
    "report": "mlpprof report reports/RUN.h5",
    "verify": "mlpprof verify RACE.h5",
    "sweep": "mlpprof sweep naive cached --batch 8,500 -o FOLDER",
    "diff": "mlpprof diff naive cached",
    "show": "mlpprof data show digits",
    "repack": "mlpprof data repack train.h5 -o fast.h5",
    "fetch": "mlpprof data fetch --url URL",
    "new": "mlpprof workshop new FOLDER",
    "board": "mlpprof workshop board FOLDER",
    "solution": "mlpprof workshop solution 1",
}
"""What one types, for commands that need a word after them."""

TAKE_PROGRAMS = frozenset(("advise", "profile", "compare", "bisect", "calibrate"))
"""The commands that run programs, and pass them the words after --."""
