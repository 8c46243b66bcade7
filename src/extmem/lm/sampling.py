"""How the next token of a text is chosen.

Knows: the options and their bounds. Does not know: distributions, models.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from extmem.errors import InvalidInput


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen. The text ends with a paragraph, but goes on to another until
    there are `min_tokens`. temperature 0 is greedy; top_k 0 and top_p 1 take all words;
    beams > 1 searches for the likeliest text instead of sampling; `repetition` divides the
    probability of words of the last 64 tokens (1 leaves them), and no three words repeat while
    `no_repeat` is 3 (0 allows it). With `follow` the datastore is searched only where fewer of the entries read
    last than that can be followed to the next (`lm/following.py`). With `top`, each token carries
    that many of the likeliest words of the model alone and of the datastore."""

    max_tokens: int = 60
    min_tokens: int = 1
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    beams: int = 1
    repetition: float = 1.2
    no_repeat: int = 3
    seed: int = 0
    follow: int = 0
    top: int = 0

    def __post_init__(self) -> None:
        if self.max_tokens < 1 or self.beams < 1 or self.min_tokens < 0:
            raise InvalidInput("max_tokens and beams: give at least 1; min_tokens: at least 0.")
        for name in ("max_tokens", "min_tokens", "top_k", "beams", "no_repeat", "seed", "follow", "top"):
            if not isinstance(getattr(self, name), int):
                raise InvalidInput(f"{name} is {getattr(self, name)!r}: give a whole number.", name)
        if not 0 <= self.seed < 2**63:
            raise InvalidInput(f"seed is {self.seed}: give a number from 0 to 2**63 - 1.", "seed")
        bounds = min(self.top_k, self.no_repeat, self.follow, self.top) >= 0 and 0 < self.top_p <= 1
        if not (bounds and 0 <= self.temperature < math.inf and 1 <= self.repetition < math.inf):
            named = ("temperature", "top_k", "top_p", "repetition", "no_repeat", "follow", "top")
            raise InvalidInput(
                "give temperature >= 0, top_k >= 0, 0 < top_p <= 1, repetition >= 1, no_repeat >= 0, follow >= 0, "
                f"top >= 0 (got {', '.join(str(getattr(self, name)) for name in named)})."
            )

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Sampling:
        """These options. Raises InvalidInput for one that there is not."""
        known = [field.name for field in fields(cls)]
        unknown = [name for name in options if name not in known]
        if unknown:
            raise InvalidInput(f"there is no option {unknown[0]!r}: choose from {', '.join(known)}.", unknown)
        return cls(**options)
