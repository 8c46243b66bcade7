"""Recipes: options that were found by measuring, under a name. Knows: names of options. Does not know: training.

What each reaches, and what was tried beside it, is in docs/results.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from extmem.errors import InvalidInput

RECIPES: Mapping[str, Mapping[str, Any]] = {
    # Penn Treebank's size, a million words of ten thousand: an hour on two cores.
    "ptb-small": {
        "units": 320,
        "gates": "input",
        "memory_layer": False,
        "dropout": 0.3,
        "word_dropout": 0.1,
        "recurrent_dropout": 0.25,
        "epochs": 40,
        "batch": 32,
        "sequence_length": 70,
        "learning_rate": 3e-3,
        "warmup": 200,
        "sampled": 500,
        "average": 500,
        "patience": 40,
    },
    # Multi30k's size, 29,000 pairs of sentences: an hour and a bit on one busy core.
    "translator": {
        "embedding": 256,
        "units": 256,
        "gates": "input",
        "memory_layer": False,
        "encoder": 1,
        "dropout": 0.3,
        "smoothing": 0.1,
        "epochs": 11,
        "batch": 80,
        "learning_rate": 3e-3,
        "warmup": 200,
        "sampled": 600,
        "average": 300,
    },
}


def recipe_named(name: str) -> dict[str, Any]:
    """The options of a recipe. Raises InvalidInput for a name that is none."""
    if name not in RECIPES:
        raise InvalidInput(f"there is no recipe {name!r}: choose from {', '.join(sorted(RECIPES))}.", name)
    return dict(RECIPES[name])
