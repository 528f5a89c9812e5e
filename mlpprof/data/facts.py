"""What a network has to fit, in a handful of numbers."""

from __future__ import annotations

from dataclasses import dataclass

from mlpprof.data.dataset import Dataset


@dataclass(frozen=True)
class DataFacts:
    """The sizes of a set.

    samples, test_samples: rows.  features: n_0.  classes: that labels can take, 0 for real targets.
    n_targets: real targets a sample, 0 for labels.  target_low, target_high: their range in the training set.
    """

    samples: int
    test_samples: int
    features: int
    classes: int
    n_targets: int = 0
    target_low: float = 0.0
    target_high: float = 0.0


def facts_of(dataset: Dataset) -> DataFacts:
    """The sizes of a set that is there."""
    return DataFacts(
        samples=dataset.samples,
        test_samples=dataset.test_samples,
        features=dataset.features,
        classes=dataset.classes,
        n_targets=dataset.n_targets,
        target_low=0.0 if dataset.targets is None else float(dataset.targets.min()),
        target_high=0.0 if dataset.targets is None else float(dataset.targets.max()),
    )
