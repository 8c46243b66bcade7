"""Translate: sentences, by a model that was trained to, with the pairs and the terms that a memory holds.

Knows: Memory, a model with an encoder. Does not know: how a translation is searched for, how it is shown.

A pair of sentences is a record, the sentence its key and the translation its value; the model has an entry for every
token of it in its datastore. A term is a record with metadata {"kind": "term"}. Of a line of text

    that is the key of a pair, the pair's translation is given as it is stored;
    otherwise model and datastore say every next token, and each term that the line holds is used.

Every token cites the record that it is from; what is forgotten has no part in what comes after.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from extmem.errors import InvalidInput
from extmem.lm.corpus import split_pairs
from extmem.lm.generate import GeneratedToken, Generation
from extmem.lm.memorize import Memorized
from extmem.lm.model import LanguageModel
from extmem.lm.seen import words_of
from extmem.lm.sentence import fit_pairs
from extmem.lm.translate import Decoding, Term, spelled, translate
from extmem.memory import Memory
from extmem.reading import Citation, Span
from extmem.text.normalise import normalise
from extmem.text.parallel import Pair, checked_pairs, read_pairs
from extmem.text.words import WordTokenizer

KIND = "term"
LONGEST = 6  # words of a phrase that is looked up
ASKED = 10  # records that are asked whether they know a word


@dataclass(frozen=True)
class Translation:
    """A text's translation, line by line; `terms` are the keys of the terms that were used."""

    lines: tuple[Generation, ...]
    terms: tuple[str, ...]

    @property
    def citations(self) -> list[Citation]:
        """What every token cites, summed over the tokens: each place of a record once, by key and place."""
        found: dict[tuple[str, int, int], float] = {}
        for one in (one for line in self.lines for token in line.tokens for one in token.citations):
            place = (one.key, one.start, one.end)
            found[place] = found.get(place, 0.0) + one.weight
        return [Citation(*place, weight) for place, weight in sorted(found.items())]

    def __str__(self) -> str:
        return "\n".join(map(str, self.lines))


class Translator:
    """A translator with a memory; without one the model speaks alone. Raises InvalidInput for a model that is none."""

    def __init__(self, model: LanguageModel, memory: Memory | None = None, decoding: Decoding | None = None) -> None:
        if model.network.reader is None:
            raise InvalidInput(
                "this model is no translator: train one on parallel text (extmem train TARGET --source SOURCE)."
            )
        self.model, self.memory, self.decoding = model, memory, decoding or Decoding()

    def remember(
        self,
        source: str | Path | Iterable[tuple[str, str]],
        target: str | Path | None = None,
        fit: bool = False,
        progress: Callable[[int, str], None] = lambda entries, key: None,
    ) -> Memorized:
        """Stores pairs of sentences, with no training: those of two parallel files, of one .tsv file, or given as
        (sentence, translation). Of two translations of one sentence the later counts. With `fit`, those that training
        on the same pairs held out are remembered last, after it was fitted on them how far the memory is to be trusted.
        Raises CorpusError."""
        if isinstance(source, str | Path):
            pairs = read_pairs(source, target)
        else:
            pairs = checked_pairs([Pair(*one) for one in source], "the pairs")
        if not fit:
            return self.model.memorize(self._memory, dict(pairs), progress)
        known, held = split_pairs(pairs)
        first = self.model.memorize(self._memory, dict(known), progress)
        fit_pairs(self.model, self._memory, held, self.decoding.similar)
        last = self.model.memorize(self._memory, dict(held), progress)
        return Memorized(first.documents + last.documents, first.entries + last.entries)

    def define(self, term: str, translation: str) -> None:
        """Has a word or phrase, of at most six words, always be translated so."""
        term, translation = normalise(term).strip(), normalise(translation).strip()
        if not term or not translation:
            raise InvalidInput("a term needs a phrase and its translation: give both.", term)
        if term not in {phrase for phrase, _ in _phrases(term)}:
            raise InvalidInput(f"{term!r} is longer than {LONGEST} words: store it as a pair of sentences.", term)
        self._memory.store(term, translation, metadata={"kind": KIND})

    def terms(self) -> dict[str, str]:
        """The terms and their translations."""
        return {record.key: str(record.value) for record in self._memory.scan(where={"metadata.kind": KIND})}

    def translate(self, text: str, allow_unknown: bool = False) -> Translation:
        """The translation of each line of a text. Raises InvalidInput for a text without words, or one that holds a
        line most words of which neither model nor memory has seen, unless `allow_unknown`."""
        lines = [normalise(line).strip() for line in text.split("\n")]
        if not any(lines):
            raise InvalidInput("there is nothing to translate: give text.", text)
        found = [self._line(line, allow_unknown) for line in lines]
        used = dict.fromkeys(term.key for _, terms in found for term in terms)
        return Translation(tuple(line for line, _ in found), tuple(used))

    def found_terms(self, line: str) -> list[Term]:
        """The terms that a line holds, the longest where they overlap."""
        if self.memory is None:
            return []
        phrases: dict[str, list[Span]] = {}
        for phrase, span in _phrases(line):
            for spelling in {phrase, phrase.lower()}:
                phrases.setdefault(spelling, []).append(span)
        there = self.memory.retrieve_many(phrases)
        records = {key: record for key in there if (record := self.memory.record(key)) is not None}
        terms = [
            Term(key, str(record.value), span)
            for key, record in records.items()
            if (record.metadata or {}).get("kind") == KIND
            for span in phrases[key]
        ]
        chosen: list[Term] = []
        for term in sorted(terms, key=lambda term: (term.span.start - term.span.end, term.span)):
            if all(term.span.end <= other.span.start or other.span.end <= term.span.start for other in chosen):
                chosen.append(term)
        return sorted(chosen, key=lambda term: term.span)

    def _line(self, line: str, allow_unknown: bool) -> tuple[Generation, Sequence[Term]]:
        if not line:
            return Generation("", (), (), ""), ()
        if (stored := self._stored(line)) is not None:
            return stored, ()
        terms = self.found_terms(line)
        if not allow_unknown:
            self._refuse_unseen(line)
        return translate(self.model, line, self.memory, terms, self.decoding), terms

    def _stored(self, line: str) -> Generation | None:
        """The translation that is stored of this very line, each token citing it."""
        record = None if self.memory is None else self.memory.record(line)
        if self.memory is None or record is None or not isinstance(record.value, str):
            return None
        kind = (record.metadata or {}).get("kind")
        if kind != KIND and not self.model.datastore(self.memory).holds(record.id):
            return None
        cut = self.model.tokenizer.encode(record.value)
        tokens = [
            GeneratedToken(word, 1.0, 1.0, 0.0, (Citation(line, start, end, 1.0),), ())
            for word, start, end in zip(cut.words, cut.starts, cut.ends, strict=True)
            if start < end
        ]
        return spelled(self.model, line, tokens, record.value)

    def _refuse_unseen(self, line: str) -> None:
        unseen, count = self.model.unseen(line)
        if self.memory is not None and 2 * len(unseen) > count:
            hits = {word: self.memory.search(word, ASKED, by="words") for word in unseen}
            unseen = [word for word in unseen if not any(word in words_of(hit.key) for hit in hits[word])]
        if 2 * len(unseen) > count:
            raise InvalidInput(
                f"neither model nor memory has seen {len(unseen)} of the {count} words of {line[:60]!r} "
                f"({', '.join(unseen[:5])}): give text in the language it was trained on, or allow unknown words.",
                line,
            )

    @property
    def _memory(self) -> Memory:
        if self.memory is None:
            raise InvalidInput("this translator has no memory: give it one.")
        return self.memory


def _phrases(line: str) -> Iterator[tuple[str, Span]]:
    """All runs of one to six words of a line, as they stand in it."""
    cut = WordTokenizer().encode(line)
    spans = [Span(start, end) for start, end in zip(cut.starts, cut.ends, strict=True) if start < end]
    for first, (start, _) in enumerate(spans):
        for _, end in spans[first : first + LONGEST]:
            yield line[start:end], Span(start, end)
