"""Translating one sentence with a memory: a beam search over what model, stored pairs and glossary say.

Knows: what is said of a sentence (`lm/sentence.py`), terms. Does not know: where terms are kept, how text is shown.

A term is used in every translation: hypotheses are ranked among those that have used as many terms (Post & Vilar 2018),
and a term is begun where the model would have it, or where it attends to the phrase. What was found is read once more:
every word cites the places of the memory that gave it.
Shapes: N places or hypotheses, S source tokens, V vocabulary, K neighbours.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from extmem.errors import InvalidInput
from extmem.lm.generate import GeneratedToken, Generation, Written, cited_places
from extmem.lm.network import NetworkState
from extmem.lm.sentence import Sentence
from extmem.lm.sources import words_before
from extmem.memory import Memory
from extmem.nn.mixture import AGREEING
from extmem.reading import Citation, Span
from extmem.text.spacing import CJK
from extmem.text.tokenizer import BpeTokenizer

if TYPE_CHECKING:
    from extmem.lm.model import LanguageModel

LEAST = 1e-9  # of a probability, where its logarithm is taken
FOUND = 0.05  # the chance of a term to be begun where all attention is on its phrase,
OWN = 0.9  # and what the chance of any other word is lowered by there


@dataclass(frozen=True)
class Decoding:
    """How a translation is searched for: `beams` hypotheses, ranked by log-probability / length ** `length`, of at most
    `max_tokens`, or 2 S + 10; read are the entries of so many `similar` pairs."""

    beams: int = 5
    length: float = 1.3
    max_tokens: int | None = None
    similar: int = 128

    def __post_init__(self) -> None:
        if self.beams < 1 or self.similar < 0 or (self.max_tokens is not None and self.max_tokens < 1):
            raise InvalidInput("beams and max_tokens: give at least 1; similar: at least 0.")


class Term(NamedTuple):
    """A phrase of a sentence that has a translation of its own: the record's key and value, and where it stands."""

    key: str
    value: str
    span: Span


class Piece(NamedTuple):
    """A token of a term's translation, and where it stands in it."""

    token: int
    text: str
    place: Citation


@dataclass
class _Row:
    """A hypothesis: its tokens behind the first end, where each came from if from a term, and what must come next.
    `choices` were made so far: a term is one, however many tokens it has."""

    ids: list[int]
    choices: int = 0
    given: list[Piece | None] = field(default_factory=list)
    score: float = 0.0
    used: frozenset[int] = frozenset()
    pending: tuple[Piece, ...] = ()


class Beam:
    """The search for one sentence's translation."""

    def __init__(self, sentence: Sentence, terms: Sequence[Term], decoding: Decoding) -> None:
        self.sentence, self.terms, self.decoding, self.model = sentence, terms, decoding, sentence.model
        tokens = self.model.tokenizer.encode(sentence.text)
        spans = list(zip(tokens.starts, tokens.ends, strict=True))
        self.places = [
            [at for at, (start, end) in enumerate(spans) if max(start, span.start) < min(end, span.end)]
            for _, _, span in terms
        ]
        self.pieces = [self._spelled(term) for term in terms]
        self.limit = decoding.max_tokens or 2 * len(spans) + 10

    def _spelled(self, term: Term) -> tuple[list[Piece], list[Piece]]:
        """A term's tokens at the beginning of a text, and within one."""
        apart = self.model.tokenizer.name == BpeTokenizer.name and not re.match(f"[{CJK}]", term.value)
        first, within = (_pieces(self.model, term, space) for space in ("", " " if apart else ""))
        return first, within

    def best(self) -> _Row:
        """The best translation found, among those with the most terms."""
        found = self.found()
        most = max(len(row.used) for row in found)
        return max((row for row in found if len(row.used) == most), key=self._rank)

    @torch.no_grad()
    def found(self) -> list[_Row]:
        """The translations that were finished; the unfinished ones where none was."""
        state, beams = self.sentence.opening, self.decoding.beams
        rows, finished = [_Row([self.model.vocabulary.eos])], list[_Row]()
        for _ in range(self.limit):
            last = torch.tensor([[row.ids[-1]] for row in rows], device=self.model.device)
            hidden, state = self.model.network(last, state)
            said = self.sentence.said(hidden[:, 0], _before(rows, last))
            going = list[tuple[int, _Row]]()
            seats = Counter[int]()  # of those that have used as many terms
            for at, row in sorted(self._grown(rows, said.p_NV.cpu(), state), key=lambda one: -one[1].score):
                if seats[len(row.used)] == beams:
                    continue
                if row.ids[-1] == self.model.vocabulary.eos:
                    finished.append(row)
                else:
                    going.append((at, row))
                    seats[len(row.used)] += 1
            rows = [row for _, row in going]
            if not rows or (len(finished) >= beams and max(map(self._rank, finished)) >= max(map(self._rank, rows))):
                break
            state = state.rows(torch.tensor([at for at, _ in going], device=self.model.device))
        return finished or rows

    def _rank(self, row: _Row) -> float:
        return row.score / float(max(1, row.choices) ** self.decoding.length)

    def _grown(self, rows: Sequence[_Row], p_NV: Tensor, state: NetworkState) -> Iterator[tuple[int, _Row]]:
        """Every hypothesis with what may come next, and the number of the one that it grew from."""
        eos, unknown = self.model.vocabulary.eos, self.model.vocabulary.unknown
        p_NV[:, unknown] = 0
        top = p_NV.topk(min(2 * self.decoding.beams, p_NV.shape[1]))
        likely = zip(top.values.tolist(), top.indices.tolist(), strict=True)
        for at, (row, (values, tokens)) in enumerate(zip(rows, likely, strict=True)):
            if row.pending:
                piece, ids = row.pending[0], [*row.ids, row.pending[0].token]
                yield at, replace(row, ids=ids, given=[*row.given, piece], pending=row.pending[1:])
                continue
            whole = len(row.used) == len(self.terms)
            assert state.attended is not None
            looked = [float(state.attended[at, -1, places].sum()) for places in self.places]
            own = 1 - OWN * min(1.0, sum(looked))  # what the model writes while it looks at a term stands for the term
            for p, token in zip(values, tokens, strict=True):
                if token != eos or whole:
                    yield at, self._chosen(row, token, own * p)
            for number in set(range(len(self.terms))) - row.used:
                pieces, seen = self.pieces[number][len(row.ids) > 1], looked[number]
                p = (1 - seen) * float(p_NV[at, pieces[0].token]) + seen * FOUND
                yield at, self._chosen(row, pieces[0].token, p, pieces, number)

    def _chosen(self, row: _Row, token: int, p: float, pieces: Sequence[Piece] = (), number: int | None = None) -> _Row:
        """A hypothesis with one more token, or with the first of a term's. A term that the model has written by itself
        is used as well."""
        ids, used = [*row.ids, token], row.used
        if number is not None:
            used |= {number}
        for other in set(range(len(self.terms))) - used:
            own = [piece.token for piece in self.pieces[other][len(ids) - len(self.pieces[other][1]) > 1]]
            if ids[-len(own) :] == own:
                used |= {other}
        given, score = [*row.given, pieces[0] if pieces else None], row.score + float(np.log(max(p, LEAST)))
        return _Row(ids, row.choices + 1, given, score, used, tuple(pieces[1:]))


def _pieces(model: LanguageModel, term: Term, space: str) -> list[Piece]:
    cut = model.tokenizer.encode(space + term.value)
    spans = [(max(0, start - len(space)), end - len(space)) for start, end in zip(cut.starts, cut.ends, strict=True)]
    return [
        Piece(model.vocabulary.id(word), word, Citation(term.key, start, end, 1.0))
        for word, (start, end) in zip(cut.words, spans, strict=True)
        if start < end
    ]


def _before(rows: Sequence[_Row], like: Tensor) -> Tensor:
    """The words before the next one of each hypothesis, (N, AGREEING), the last first, -1 where there are none."""
    return like.new_tensor([[*reversed(row.ids[1:][-AGREEING:]), *[-1] * AGREEING][:AGREEING] for row in rows])


def translate(
    model: LanguageModel, text: str, memory: Memory | None, terms: Sequence[Term] = (), decoding: Decoding = Decoding()
) -> Generation:
    """The translation of one sentence, every token with where it came from."""
    sentence = Sentence(model, memory, text, decoding.similar)
    row = Beam(sentence, terms, decoding).best()
    tokens = explained(sentence, row.ids[1:], row.given)
    return spelled(model, text, tokens)


def spelled(
    model: LanguageModel, source: str, tokens: Sequence[GeneratedToken], written: str | None = None
) -> Generation:
    """Tokens as a text, or of the text that is `written`, and each as it stands in it."""
    growing = Written(model)
    pieces = tuple(map(growing.add, tokens))
    return Generation(source, tuple(tokens), pieces, growing.text.strip() if written is None else written)


@torch.no_grad()
def explained(sentence: Sentence, ids: Sequence[int], given: Sequence[Piece | None]) -> list[GeneratedToken]:
    """A translation's tokens, without its end: what each got from where."""
    model, eos = sentence.model, sentence.model.vocabulary.eos
    ids = [token for token in ids if token != eos]
    if not ids:
        return []
    inputs, chosen = torch.tensor([eos, *ids], device=model.device), torch.tensor(ids, device=model.device)
    hidden, _ = model.network.read(inputs[:-1], sentence.opening)
    said = sentence.said(hidden, words_before(inputs[1:], 0))
    names = ["model", *sentence.mixture.names[1:]][: said.shares_NS.shape[1]]
    tokens = []
    for at, token in enumerate(ids):
        piece = given[at]
        shares = tuple(zip(names, said.shares_NS[at].tolist(), strict=True))
        if piece is not None:
            tokens.append(GeneratedToken(piece.text, 1.0, 1.0, 0.0, (piece.place,), shares))
            continue
        p = max(float(said.p_NV[at, chosen[at]]), LEAST)
        weights_K = torch.where(said.tokens_NK[at] == token, said.weights_NK[at], 0.0) / p
        cited = tuple(cited_places(sentence.view, sentence.memory, said.entries_NK[at], weights_K))
        word, share = model.vocabulary.word(token), float(weights_K.sum())
        tokens.append(GeneratedToken(word, p, share, 0.0, cited, shares))
    return tokens
