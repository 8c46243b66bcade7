"""Remembering: our own language model as a writer, with the sources for its memory.

Knows: LanguageModel, a memory in RAM for the time of one answer. Does not know: prompts, servers.

The model has not learned to follow instructions. It goes on from the question, and at every word looks up how its
sources go on from a state like its own (kNN-LM): so what it cites is what its words came from, counted by weight.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from extmem.lm.model import LanguageModel
from extmem.memory import Memory
from extmem.writers.base import TOKENS, Heard, Writer, Written

SHARE = 0.02  # of the words' probability that a source must have given to be cited


class Remembering(Writer):
    """Writes with a LanguageModel."""

    def __init__(self, model: LanguageModel, name: str) -> None:
        self.model, self.name = model, name

    def write(
        self, question: str, sources: Sequence[str], max_tokens: int = TOKENS, heard: Heard | None = None
    ) -> Written:
        with Memory() as memory:
            if sources:
                self.model.memorize(memory, {str(place): source for place, source in enumerate(sources)})
            text = self.model.generate(question, memory, allow_unknown=True, max_tokens=max_tokens)
        weights: Counter[int] = Counter()
        for token in text.tokens:
            for citation in token.citations:
                weights[int(citation.key)] += citation.weight  # type: ignore[assignment]
        least = SHARE * len(text.tokens)
        cited = [place for place, weight in weights.most_common() if weight >= least]
        answer = text.text.removeprefix(text.prompt).strip()
        if heard is not None:
            heard(answer)
        return Written(answer, tuple(cited))
