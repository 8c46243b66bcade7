"""An abbreviation is found where a text explains it, and nowhere else."""

from __future__ import annotations

import pytest

from extmem.text.abbreviations import abbreviations


@pytest.mark.parametrize(
    ("text", "short", "long"),
    [
        ("He has chronic obstructive pulmonary disease (COPD).", "COPD", "chronic obstructive pulmonary disease"),
        ("the Food and Drug Administration (FDA; USA) says", "FDA", "Food and Drug Administration"),
        ("Heat shock protein 70 (HSP70) binds", "HSP70", "Heat shock protein 70"),
        ("Long. Magnetic resonance\nimaging (MRI)", "MRI", "Magnetic resonance imaging"),
    ],
)
def test_what_is_explained_is_found_where_it_stands(text: str, short: str, long: str) -> None:
    (found,) = abbreviations(text)
    assert (found.short, found.long) == (short, long)
    shown = text[found.span.start : found.span.end]
    assert " ".join(shown.split()).startswith(f"{long} ({short}")


@pytest.mark.parametrize(
    "text",
    ["nothing (here)", "an empty ()", "(COPD) first", "see above (A)", "the year (1999)", "quite other words (XYZ)"],
)
def test_other_brackets_explain_nothing(text: str) -> None:
    assert list(abbreviations(text)) == []
