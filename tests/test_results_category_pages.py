"""Each category of findings has a page of text."""

from __future__ import annotations

import pytest

from mlpprof.errors import UsageError
from mlpprof.results.advice import CATEGORIES
from mlpprof.results.category_pages import explanation


@pytest.mark.parametrize("category", CATEGORIES)
def test_a_page_says_what_it_is_why_it_costs_an_example_and_the_cure(category):
    text = explanation(category)
    assert text.startswith(f"# {category}: ")
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings == ["## Why it costs time", "## Example", "## Cure"]


def test_an_unknown_category_is_refused():
    with pytest.raises(UsageError, match="did you mean 'layout'"):
        explanation("layuot")
