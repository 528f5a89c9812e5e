"""Each category of findings has its detector, in the file that has its name."""

from __future__ import annotations

from mlpprof.advise.findings import CONSEQUENCES, DETECTORS
from mlpprof.results.advice import CATEGORIES


def test_each_category_has_a_detector_with_its_name_and_no_file_is_without_a_category():
    assert set(DETECTORS) == set(CATEGORIES)
    for category, detector in DETECTORS.items():
        assert detector.__module__ == f"mlpprof.advise.detect.{category.replace('-', '_')}"


def test_each_category_says_which_findings_are_its_consequences():
    assert set(CONSEQUENCES) == set(CATEGORIES)
    assert {one for consequences in CONSEQUENCES.values() for one in consequences} <= set(CATEGORIES)
