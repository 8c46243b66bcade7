"""Generation with a memory: every token says what gave it its probability.

Knows: a model, a memory, ways to choose the next token. Does not know: how text is shown.

The distribution is the mixture of `nn/mixture.py`: the network, a cache of what was read and written
in this text, and the datastore. Of the token chosen, `memory_share` is the part of its probability
that came from a memory, and `citations` say which records and where. A word that the model has no
number for is written from the record it is cited from.
Shapes: V vocabulary, K neighbours, D width of a state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from extmem.errors import InvalidInput
from extmem.indexes.datastore import Datastore
from extmem.indexes.view import View
from extmem.lm.following import follow
from extmem.lm.network import NetworkState
from extmem.lm.sampling import Sampling
from extmem.lm.sources import features_of, neighbours_of, words_before
from extmem.memory import Memory
from extmem.nn.mixture import Mixture, Read, cache_reads, datastore_reads
from extmem.reading import Citation
from extmem.records.base import Record
from extmem.text.normalise import normalise

if TYPE_CHECKING:
    from extmem.lm.model import LanguageModel

CITED = 3  # places a token cites at most, the weightiest first


@dataclass(frozen=True)
class GeneratedToken:
    """One token: its text, its probability in the mixture, and where that came from.

    `memory_share` is what cache and datastore gave of it (0 to 1), `cache_share` the cache's part; the
    weights of all that the datastore gave sum to memory_share - cache_share, of which `citations`
    are the three weightiest places. `shares` are the λ of all sources, by name: how much each was trusted here,
    whatever it said. With `Sampling.top`, `model_words` are those that the model alone found likeliest here and
    `memory_words` those that the datastore did, each with its probability there.
    """

    text: str
    probability: float
    memory_share: float
    cache_share: float
    citations: tuple[Citation, ...]
    shares: tuple[tuple[str, float], ...]
    model_words: tuple[tuple[str, float], ...] = ()
    memory_words: tuple[tuple[str, float], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """For machines: `shares` by name; the likeliest words only where they were asked for."""
        said = asdict(self) | {"shares": dict(self.shares)}
        if not self.model_words:
            del said["model_words"], said["memory_words"]
        return said


@dataclass(frozen=True)
class Generation:
    """A generated text; `str()` of it is prompt and continuation. `pieces` are the tokens as they
    stand in it, each with the space before it."""

    prompt: str
    tokens: tuple[GeneratedToken, ...]
    pieces: tuple[str, ...]
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class _Read:
    """What is known of the next token: the mixed distribution and its parts. `view` is what the entries are of, each
    with the weight that it gives its token; `shares` are λ of every source."""

    p_V: Tensor
    model_V: Tensor
    cache_V: Tensor
    near_V: Tensor
    shares_S: Tensor
    view: View | None
    entries_K: np.ndarray
    tokens_K: Tensor
    weights_K: Tensor


@dataclass
class _Hypothesis:
    """A text so far: what the next step reads, and what has been chosen. `states_ND` predict `ids`; the last one what
    comes next."""

    state: NetworkState
    states_ND: Tensor
    ids: list[int]
    tokens: list[GeneratedToken] = field(default_factory=list)
    score: float = 0.0
    ended: bool = False
    last: _Read | None = None


class Generator:
    """Writes on from a prompt, one token at a time."""

    def __init__(self, model: LanguageModel, memory: Memory | None, sampling: Sampling) -> None:
        self.model, self.memory, self.sampling = model, memory, sampling
        self.mixture: Mixture = model.mixture_for(memory)
        self.datastore: Datastore | None = None if memory is None else model.datastore(memory)
        self.random = torch.Generator().manual_seed(sampling.seed)
        self._records: tuple[View | None, dict[int, Record | None]] = (None, {})  # those that a view was cited from

    def start(self, prompt: str, allow_unknown: bool) -> _Hypothesis:
        """Reads the prompt. Raises InvalidInput for one without words, or with words that neither the
        model nor the memory knows."""
        tokens = self.model.tokenizer.encode(normalise(prompt))
        eos = self.model.vocabulary.eos
        words = [word for word in tokens.words if self.model.vocabulary.id(word) != eos]
        if not words:
            raise InvalidInput("the prompt is empty: give it a word to go on from.")
        if not allow_unknown:
            self._refuse_unknown(words)
        ids = [eos, *self.model.vocabulary.ids(words)]
        states, state = self.model.network.read(torch.tensor(ids, device=self.model.device))
        return _Hypothesis(state, states, ids)

    def _refuse_unknown(self, words: Sequence[str]) -> None:
        unknown = [word for word in dict.fromkeys(words) if word not in self.model.vocabulary]
        if self.memory is not None:
            unknown = [word for word in unknown if not self.memory.search(word, 1, by="words")]
        if unknown:
            raise InvalidInput(
                f"neither model nor memory knows {', '.join(map(repr, unknown[:5]))}: choose other words, "
                "memorize a text that holds them, or allow unknown words.",
                unknown,
            )

    def stream(self, hypothesis: _Hypothesis) -> Iterator[GeneratedToken]:
        """Tokens as they are chosen, until the text ends."""
        for _ in range(self.sampling.max_tokens):
            read = self._read(hypothesis)
            choice = self._choose(self._adjusted(read, hypothesis.ids))
            token = self._token(read, choice)
            hypothesis = self._grown(hypothesis, read, choice, token)
            if hypothesis.ended:
                return
            yield token

    def beam(self, hypothesis: _Hypothesis, on_step: Callable[[], None]) -> list[GeneratedToken]:
        """The likeliest continuation that a beam search finds, by mean log-probability. `on_step` is called before
        each of its steps, at which it is given up where that raises."""
        beams = [hypothesis]
        for _ in range(self.sampling.max_tokens):
            on_step()
            if all(beam.ended for beam in beams):
                break
            grown = [beam for beam in beams if beam.ended]
            for beam in (beam for beam in beams if not beam.ended):
                read = self._read(beam)
                p_V = self._adjusted(read, beam.ids)
                top = torch.topk(p_V, min(self.sampling.beams, int((p_V > 0).sum())))
                for choice in top.indices.tolist():
                    grown.append(self._grown(beam, read, choice, self._token(read, choice)))
            beams = sorted(grown, key=_mean_score, reverse=True)[: self.sampling.beams]
        return max(beams, key=_mean_score).tokens

    @torch.inference_mode()
    def _read(self, hypothesis: _Hypothesis) -> _Read:
        """One reading: network, caches of this text, datastore; mixed."""
        mixture, spread = self.mixture, self.model.spread
        states = hypothesis.states_ND
        here = len(states) - 1  # the place of the next token; its own id is not known, and not read
        ids = torch.tensor([*hypothesis.ids[1:], 0], device=states.device)
        logits_1V = self.model.network.logits(states[-1:])
        p_1V = torch.softmax(logits_1V, dim=1)
        caches = cache_reads(states, ids, here, mixture.caches, spread)
        view = None if self.datastore is None else self.datastore.view()  # what is there now, and no other
        entries, near = np.empty(0, np.int64), None
        if view is not None and len(view):
            entries, distances = self._near(view, hypothesis)
            found = neighbours_of(view, entries[None], distances[None], words_before(ids, here))
            near = datastore_reads(found.distances, found.tokens, found.agreeing, mixture.readings, spread)
        features = features_of(logits_1V, p_1V, caches, near, len(mixture.readings))
        shares_S = mixture.shares(features, "cache" if near is None else "memory")[0]
        first = 1 + len(mixture.caches)
        cache_V = _spread_out(caches[0], shares_S[1:first], p_1V.shape[1])
        tokens_K, weights_K = torch.empty(0, dtype=torch.long), torch.empty(0)
        if near is not None:
            tokens_K = near[0][0].tokens[0].cpu()
            weights_K = torch.stack([read.weights[0] for read in near[0]]).cpu().T @ shares_S[first:]
        near_V = torch.zeros_like(cache_V).index_add_(0, tokens_K, weights_K)
        # What the memories do not give is the model's.
        model_V = p_1V[0].cpu()
        p_V = (1 - cache_V.sum() - near_V.sum()) * model_V + cache_V + near_V
        return _Read(p_V, model_V, cache_V, near_V, shares_S, view, entries, tokens_K, weights_K)

    def _near(self, view: View, hypothesis: _Hypothesis) -> tuple[np.ndarray, np.ndarray]:
        """The entries to read, the nearest first, and their distances: those behind what was read last, where that
        is asked for and nobody has stored or forgotten since; else those that are searched."""
        query, last = hypothesis.states_ND[-1].cpu().numpy(), hypothesis.last
        if self.sampling.follow and last is not None and last.view is view:
            behind = follow(view, last.entries_K, hypothesis.ids[-1], query, self.sampling.follow)
            if behind is not None:
                return behind
        entries, distances = view.search(query[None], min(self.mixture.neighbours, len(view)))
        there = entries[0] >= 0
        return entries[0][there], distances[0][there]

    def _adjusted(self, read: _Read, ids: list[int]) -> Tensor:
        """The distribution to choose from: words of the last 64 tokens held down, repeats excluded.

        <unk> stands for many words. It can be written only as a word that the memory spells, so it
        counts as much as the weightiest of those."""
        sampling, p_V, unknown = self.sampling, read.p_V.clone(), self.model.vocabulary.unknown
        spelled = read.weights_K[read.tokens_K == unknown]
        p_V[unknown] = spelled.max() if len(spelled) else 0.0
        recent = torch.tensor(sorted(set(ids[-64:])))
        p_V[recent] /= sampling.repetition
        size = sampling.no_repeat
        if size and len(ids) >= size:
            tail = ids[len(ids) - size + 1 :]
            for place in range(len(ids) - size + 1):
                if ids[place : place + size - 1] == tail:
                    p_V[ids[place + size - 1]] = 0.0
        if not float(p_V.sum()) > 0:
            p_V[self.model.vocabulary.eos] = 1.0
        return p_V / p_V.sum()

    def _choose(self, p_V: Tensor) -> int:
        sampling = self.sampling
        if sampling.temperature < torch.finfo(p_V.dtype).tiny:  # what would be 0 there
            return int(p_V.argmax())
        scores = (p_V / p_V.max()).log() / sampling.temperature
        if not sampling.top_k and sampling.top_p == 1:
            return int(torch.multinomial(torch.softmax(scores, dim=0), 1, generator=self.random))
        ordered, ids = scores.topk(min(sampling.top_k or len(scores), len(scores)))
        p = torch.softmax(ordered, dim=0)
        p[(p.cumsum(0) - p) >= sampling.top_p] = 0.0
        return int(ids[torch.multinomial(p / p.sum(), 1, generator=self.random)])

    def _token(self, read: _Read, choice: int) -> GeneratedToken:
        p, cache, near = (float(part[choice]) for part in (read.p_V, read.cache_V, read.near_V))
        text = self.model.vocabulary.word(choice)
        cited: list[Citation] = []
        for spelled, citation in self._places(read, choice, p) if near > 0 else ():
            if choice == self.model.vocabulary.unknown:
                if not cited:
                    text = spelled
                elif spelled != text:
                    continue
            cited.append(citation)
            if len(cited) == CITED:
                break
        shares = tuple(zip(self.mixture.names, read.shares_S.tolist(), strict=True))
        token = GeneratedToken(text, p, (cache + near) / p, cache / p, tuple(cited), shares)
        if not self.sampling.top:
            return token
        return replace(token, model_words=self._best(read, read.model_V), memory_words=self._best(read, read.near_V))

    def _best(self, read: _Read, given_V: Tensor) -> tuple[tuple[str, float], ...]:
        """The likeliest words of what one side gave, each with its part of that. <unk> is no word: it counts as its
        weightiest spelling in the datastore, and not at all for the model."""
        best, unknown = given_V / given_V.sum().clamp_min(1e-30), self.model.vocabulary.unknown
        spelled, word = 0.0, ""
        if given_V is read.near_V and float(best[unknown]) > 0:
            word, place = next(self._places(read, unknown, float(given_V.sum())), ("", None))
            spelled = 0.0 if place is None else place.weight
        best[unknown] = spelled
        found = zip(*(part.tolist() for part in best.topk(min(self.sampling.top, len(best)))), strict=True)
        return tuple((word if at == unknown else self.model.vocabulary.word(at), p) for p, at in found if p > 0)

    def _places(self, read: _Read, choice: int, p: float) -> Iterator[tuple[str, Citation]]:
        """Where the datastore found this token, the weightiest first, and how each place spells it."""
        assert read.view is not None
        which = torch.nonzero(read.tokens_K == choice)[:, 0]
        weights = read.weights_K[which] / p
        for row in torch.argsort(weights, descending=True, stable=True).tolist():
            record_id, (start, end) = read.view.cite(int(read.entries_K[which[row]]))
            record = self._record(read.view, record_id)
            if record is not None and float(weights[row]) > 0:
                yield str(record.value)[start:end], Citation(record.key, start, end, float(weights[row]))

    def _record(self, view: View, number: int) -> Record | None:
        """A record that entries of a view came from, read once: a view with an entry less is another view."""
        assert self.memory is not None
        if self._records[0] is not view:
            self._records = (view, {})
        known = self._records[1]
        if number not in known:
            known[number] = self.memory.records.by_id(number)
        return known[number]

    def _grown(self, old: _Hypothesis, read: _Read, choice: int, token: GeneratedToken) -> _Hypothesis:
        score = old.score + float(read.p_V[choice].clamp_min(1e-30).log())
        ids = [*old.ids, choice]
        if choice == self.model.vocabulary.eos and len(old.tokens) >= self.sampling.min_tokens:
            return _Hypothesis(old.state, old.states_ND, ids, old.tokens, score, True)
        states, state = self.model.network.read(torch.tensor([choice], device=self.model.device), old.state)
        return _Hypothesis(state, torch.cat([old.states_ND, states]), ids, [*old.tokens, token], score, last=read)


def cited_places(view: View | None, memory: Memory | None, entries_K: Tensor, weights_K: Tensor) -> Iterator[Citation]:
    """The weightiest places that gave a token, at most `CITED`; none without a view."""
    for at in weights_K.argsort(descending=True, stable=True)[:CITED].tolist():
        if float(weights_K[at]) > 0 and view is not None and memory is not None:
            number, span = view.cite(int(entries_K[at]))
            record = memory.records.by_id(number)
            if record is not None:
                yield Citation(record.key, *span, float(weights_K[at]))


def _spread_out(reads: Sequence[Read], shares_S: Tensor, size: int) -> Tensor:
    """What these sources give each word at one place, each by its share, (V,) on the CPU."""
    given = torch.zeros(size)
    for read, share in zip(reads, shares_S, strict=True):
        given.index_add_(0, read.tokens[0].cpu(), share * read.weights[0].cpu())
    return given


def _mean_score(hypothesis: _Hypothesis) -> float:
    return hypothesis.score / max(1, len(hypothesis.tokens) + hypothesis.ended)


def generate(
    model: LanguageModel,
    prompt: str,
    memory: Memory | None,
    sampling: Sampling,
    allow_unknown: bool,
    on_token: Callable[[GeneratedToken], None],
    on_step: Callable[[], None] = lambda: None,
) -> Generation:
    """The whole continuation; `on_token` sees each token as soon as it is chosen, of a beam search at its end:
    `on_step` is called before each step of that."""
    generator = Generator(model, memory, sampling)
    hypothesis = generator.start(prompt, allow_unknown)
    tokens = []
    for token in generator.beam(hypothesis, on_step) if sampling.beams > 1 else generator.stream(hypothesis):
        tokens.append(token)
        on_token(token)
    written = Written.behind(model, prompt)
    pieces = tuple(map(written.add, tokens))
    return Generation(prompt, tuple(tokens), pieces, written.text)


class Written:
    """A text that grows by tokens: behind words, or from nothing."""

    def __init__(self, model: LanguageModel, words: Sequence[str] = ()) -> None:
        self._join, self._words = model.tokenizer.join, list(words)
        self.text = self._join(self._words)

    @classmethod
    def behind(cls, model: LanguageModel, prompt: str) -> Written:
        """What stands behind a prompt, without the end that is put behind a whole text."""
        words = list(model.tokenizer.encode(normalise(prompt)).words)
        while words and words[-1] == model.vocabulary.word(model.vocabulary.eos):
            words.pop()
        return cls(model, words)

    def add(self, token: GeneratedToken) -> str:
        """The token as it stands in the text, with the space before it."""
        self._words.append(token.text)
        before, self.text = self.text, self._join(self._words)
        return self.text.removeprefix(before) if self.text.startswith(before) else f" {token.text}"
