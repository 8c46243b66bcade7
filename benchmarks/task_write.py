"""Writing from a theme, guided by what a memory holds on it, against the same model without: news (AG News).

The model is trained on 5,500 items, a headline and an abstract each, unless a folder holds it already; the memory holds
the same items. Themes are the headlines of others: "held" are those that nothing was chosen on. Written are 40 tokens,
the likeliest or, where it says "drawn", drawn from the likeliest words that make 0.9 together, measured by

    distinct-2   different pairs of neighbouring words, of all pairs of all texts (Li et al. 2016)
    repeated     words that stand in the same text before, of all words that are no stop words
    overlap      content words that stand in the records found, of all content words
    facts        numbers and words with capital letters that stand in the records found, a text
    true words   content words of the abstract that really follows which are written, of all that it has

and the perplexity of that abstract itself, behind its headline: "without" the model has its cache, as always.
"""

from __future__ import annotations

import csv
import html
import json
import math
import random
import re
import tempfile
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from extmem import LanguageModel, Memory
from extmem.lm.evaluate import evaluate
from extmem.tasks.write import guided, write
from extmem.text.terms import STOP_WORDS, terms

Rows = dict[str, dict[str, float | None]]
Say = Callable[[str], None]
HELD, VALID = 150, 200  # themes of each part; items that training is stopped by
TOKENS = 40
EPOCHS, VOCABULARY, DROPOUT = 6, 8_000, 0.4


class Item(NamedTuple):
    headline: str
    abstract: str

    def __str__(self) -> str:
        return f"{self.headline}\n{self.abstract}\n"


class Measured(NamedTuple):
    """One theme: what was written, what was found for it, and the nats of the abstract that really follows."""

    text: str
    found: str
    item: Item
    nats: float
    tokens: int


def rows(data: Path, say: Say, model: Path | None = None) -> Rows:
    items = news(data / "agnews" / "first6000.csv")
    with tempfile.TemporaryDirectory() as work:
        place = (Path(work) if model is None else model) / "news"
        kept = LanguageModel.load(place) if (place / "model.json").exists() else trained(items, place, say)
    memory = Memory()
    memory.store_many((f"news/{number}", str(item)) for number, item in enumerate(items[2 * HELD + VALID :]))
    memory.embed()
    say(f"write: {len(memory):,} records")
    found: Rows = {}
    for part, some in (("developed", items[:HELD]), ("held", items[HELD : 2 * HELD])):
        for how, sampling in (("", {}), (", drawn", {"temperature": 1.0, "top_p": 0.9})):
            both = [measured(kept, memory, item, sampling) for item in some]
            for way, each in zip(("without", "with memory"), zip(*both, strict=True), strict=True):
                found[f"{part}{how}: {way}"] = figures(each)
                say(f"write: {part}{how}, {way}: {found[f'{part}{how}: {way}']}")
    return found


def news(path: Path) -> list[Item]:
    """The items, shuffled, without the marks of their page."""
    with open(path, encoding="utf-8", newline="") as file:
        items = [Item(plain(row[1]), plain(row[2])) for row in csv.reader(file)]
    random.Random(0).shuffle(items)
    return items


def plain(text: str) -> str:
    whole = re.sub(
        r" ?&?#(\d\d);", lambda mark: chr(int(mark[1])), text.replace("\\", " ")
    )  # half of them lost their &
    return " ".join(html.unescape(whole).split())


def trained(items: Sequence[Item], place: Path, say: Say) -> LanguageModel:
    with tempfile.TemporaryDirectory() as work:
        parts = {"valid": items[2 * HELD : 2 * HELD + VALID], "train": items[2 * HELD + VALID :]}
        for name, some in parts.items():
            lines = "".join(json.dumps({"text": str(item)}) + "\n" for item in some)
            (Path(work) / f"{name}.jsonl").write_text(lines, encoding="utf-8")
        return LanguageModel.train(
            work, place, epochs=EPOCHS, vocabulary=VOCABULARY, dropout=DROPOUT,
            progress=lambda now: say(f"write: {now}") if now.validation is not None else None,
        )  # fmt: skip


def measured(model: LanguageModel, memory: Memory, item: Item, sampling: dict[str, float]) -> tuple[Measured, Measured]:
    """Without and with the memory."""
    composed = write(memory, item.headline, model, max_tokens=TOKENS, **sampling)
    alone = model.generate(item.headline, allow_unknown=True, max_tokens=TOKENS, **sampling)
    texts = {key: str(memory.retrieve(key)) for key in composed.found}
    with guided(model, texts) as guide:
        whole, head = (evaluate(model, [text], guide) for text in (str(item), f"{item.headline}\n"))
    nats = {row: (whole.nats[row] or 0.0) - (head.nats[row] or 0.0) for row in ("cache", "memory")}
    found, count = "\n".join(texts.values()), whole.tokens - head.tokens
    return (
        Measured("".join(alone.pieces), found, item, nats["cache"], count),
        Measured(composed.text or "", found, item, nats["memory"], count),
    )


def figures(each: Sequence[Measured]) -> dict[str, float | None]:
    words = [re.findall(r"\w+", one.text.lower()) for one in each]
    pairs = [pair for some in words for pair in pairwise(some)]
    content = [terms(one.text) for one in each]
    return {
        "distinct-2": len(set(pairs)) / max(1, len(pairs)),
        "repeated": 1 - sum(len(set(some)) for some in content) / max(1, sum(map(len, content))),
        "overlap": share(content, [one.found for one in each]),
        "facts": mean(len(facts(one.text) & facts(one.found) - facts(one.item.headline)) for one in each),
        "true words": share([terms(one.item.abstract) for one in each], [one.text for one in each]),
        "perplexity": math.exp(sum(one.nats for one in each) / sum(one.tokens for one in each)),
        "words": mean(map(len, words)),
    }


def share(some: Sequence[Sequence[str]], texts: Sequence[str]) -> float:
    """How many of these terms, each list's different ones, stand in the text beside it."""
    there = [(len(set(one) & set(terms(text))), len(set(one))) for one, text in zip(some, texts, strict=True)]
    return sum(n for n, _ in there) / max(1, sum(size for _, size in there))


def facts(text: str) -> set[str]:
    words = re.findall(r"\b(?:[A-Z][\w'-]+|\d[\d.,]*)", text)
    return {word for word in words if word.lower() not in STOP_WORDS}
