"""The page of formulas, lab/collapse/README.md, says what the code does."""

import pytest
from support.tiny import PROJECT

from lab.collapse.growth import DONE, KAPPA
from lab.collapse.modes import CLUSTERS
from lab.collapse.numbers import TAIL, VERBATIM
from lab.config.profile import Thresholds
from lab.definitions import DEFINITIONS, LEAST_GENERATIONS, LEAST_SEEDS, MUCH, Definition
from lab.metrics.tails import RARE
from lab.report.profile import PAGE, definitions, page, statement


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda each: each.threshold)
def test_a_section_for_each_definition(definition: Definition) -> None:
    """With the name, threshold, reason and papers that the code has; the anchor is GitHub's of that heading."""
    file, anchor = page(definition).split("#")
    sections = (PROJECT / file).read_text(encoding="utf-8").split("\n## ")
    (section,) = (each for each in sections if each.startswith(f"{definition.number} {definition.name}\n"))
    assert anchor == section.splitlines()[0].replace(" ", "-")
    text = " ".join(section.split())
    threshold = getattr(Thresholds(), definition.threshold)
    said = [f"It holds {definition.side} `{definition.threshold}` = {threshold:.3g}.", definition.estimator]
    assert all(each in text for each in [*said, definition.why, definition.source, "*Trap"])


def test_the_numbers_of_the_text_are_those_of_the_code() -> None:
    text = " ".join((PROJECT / PAGE).read_text(encoding="utf-8").split())
    assert f"needs {LEAST_SEEDS} seeds, {LEAST_GENERATIONS} generations after generation 0" in text
    assert f"d < -{MUCH:g};" in text and f"d > {MUCH:g}." in text and f"at most {DONE:g}^(1/T)" in text
    assert f"kappa in [{KAPPA[0]:g}, {KAPPA[-1]:g}]" in text
    assert (CLUSTERS, "six clusters" in text) == (6, True)
    assert (TAIL, "99th percentile" in text, "1st percentile" in text) == (0.01, True, True)
    assert (VERBATIM, "8-grams of tokens copied" in text) == (8, True)
    assert (list(RARE), "one to three times" in text) == ([1, 2, 3], True)


def test_the_definitions_name_papers_and_page() -> None:
    """As lab profile --definitions prints them; the line under every profile names the page."""
    assert statement([]).endswith(f" {PAGE}")
    for each, line in zip(DEFINITIONS, definitions(), strict=True):
        assert line.endswith(f". {each.source}; {page(each)}") and page(each).startswith(PAGE)
