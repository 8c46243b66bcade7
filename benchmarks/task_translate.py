"""Translating with what is remembered, against the same model without: English to German (Multi30k), and to Chinese
(Tatoeba).

Each model is trained on the training pairs, unless a folder holds one already, as `extmem train train.de --source
train.en --recipe translator --vocabulary 8000` does. The memory holds the same training pairs, and the gates are fitted
on the pairs that training held out. Measured is on val, of which neither has seen anything; BLEU and chrF are
sacrebleu's, of the text as it is written (its signatures go to stderr). Terms are words for which another translation
is wanted than the model would choose: "used" is the part of the sentences of val that hold one in whose translation it
stands. "reproduced" is the part of stored sentences whose translation comes back as it was stored.
"""

from __future__ import annotations

import gzip
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import sacrebleu

from extmem import LanguageModel, Memory
from extmem.lm.corpus import split_pairs
from extmem.tasks.translate import Translator
from extmem.text.parallel import Pair

Rows = dict[str, dict[str, float | None]]
Say = Callable[[str], None]
STORED = 200  # stored sentences that are asked for
TERMS = {
    "couch": "Couch", "sidewalk": "Gehsteig", "truck": "Laster", "bike": "Rad", "toddler": "Knirps",
    "ocean": "Ozean", "crowd": "Menge", "car": "Wagen", "boat": "Kahn", "swimming pool": "Schwimmbecken",
    "cowboy hat": "Stetson", "police officer": "Polizeibeamter", "lady": "Dame", "shirt": "Oberteil",
    "microphone": "Mikro", "bench": "Sitzbank", "hat": "Kopfbedeckung", "lake": "Weiher", "bridge": "Überführung",
    "t-shirt": "Shirt", "young girl": "kleines Mädchen", "hill": "Anhöhe", "life jacket": "Rettungsweste",
    "motorcycle": "Maschine", "street": "Fahrbahn", "stage": "Podium", "building": "Bauwerk",
}  # fmt: skip


def rows(data: Path, say: Say, model: Path | None = None) -> Rows:
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) if model is None else model
        german = {name: multi30k(data / "multi30k", name) for name in ("train", "val")}
        found = language("en-de", german, folder, "13a", say, TERMS)
        chinese = {name: tatoeba(data / "tatoeba-en-zh" / f"{name}.tsv") for name in ("train", "val")}
        return found | language("en-zh", chinese, folder, "zh", say, {})


def language(
    name: str, pairs: dict[str, list[Pair]], folder: Path, tokenize: str, say: Say, terms: dict[str, str]
) -> Rows:
    place, measured = folder / name, pairs["val"]
    model = LanguageModel.load(place) if (place / "model.json").exists() else trained(pairs["train"], place, name, say)
    memory = Memory()
    alone, translator = Translator(model), Translator(model, memory)
    began = time.perf_counter()
    added = translator.remember(pairs["train"], fit=True)
    say(f"{name}: {added.documents:,} pairs, {added.entries:,} entries in {time.perf_counter() - began:.0f} s")
    sources, references = [pair.source for pair in measured], [pair.target for pair in measured]
    said = {way: translations(one, sources) for way, one in (("without", alone), ("with memory", translator))}
    found: Rows = {}
    for way, texts in said.items():
        found[f"{name}, val: {way}"] = scores(texts, references, tokenize, say)
    found[f"{name}, training"] = {"minutes": minutes(model, pairs["train"]), "million weights": weights(model) / 1e6}
    stored = pairs["train"][:: max(1, len(pairs["train"]) // STORED)]
    kept = dict(pairs["train"])
    again = translations(translator, [pair.source for pair in stored])
    same = [text == kept[pair.source] for text, pair in zip(again, stored, strict=True)]
    found[f"{name}, stored pairs: with memory"] = {"reproduced": sum(same) / len(same), "sentences": len(same)}
    return found | (used(name, terms, said["without"], translator, sources) if terms else {})


def trained(pairs: Sequence[Pair], place: Path, name: str, say: Say) -> LanguageModel:
    with tempfile.TemporaryDirectory() as work:
        files = [Path(work) / "source.txt", Path(work) / "target.txt"]
        for file, texts in zip(files, zip(*pairs, strict=True), strict=True):
            file.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")

        def show(now: object) -> None:
            if getattr(now, "validation", None) is not None:
                say(f"{name}: {now}")

        return LanguageModel.train(
            files[1], place, source=files[0], recipe="translator", vocabulary=8000, progress=show
        )  # fmt: skip


def translations(translator: Translator, sources: Iterable[str]) -> list[str]:
    return [str(translator.translate(source, allow_unknown=True)) for source in sources]


def scores(texts: list[str], references: list[str], tokenize: str, say: Say) -> dict[str, float | None]:
    bleu, chrf = sacrebleu.BLEU(tokenize=tokenize), sacrebleu.CHRF()
    found = {"BLEU": bleu.corpus_score(texts, [references]).score, "chrF": chrf.corpus_score(texts, [references]).score}
    say(f"BLEU {bleu.get_signature()}; chrF {chrf.get_signature()}")
    return found


def used(name: str, terms: dict[str, str], without: Sequence[str], translator: Translator, sources: list[str]) -> Rows:
    """In how many of the sentences that hold a term its translation stands: of what the model wrote, and with terms."""
    for term, wanted in terms.items():
        translator.define(term, wanted)
    counts = {"without": 0, "with terms": 0}
    asked = 0
    for source, plain in zip(sources, without, strict=True):
        wanted = [term.value for term in translator.found_terms(source)]
        if not wanted:
            continue
        texts = {"without": plain, "with terms": str(translator.translate(source, allow_unknown=True))}
        asked += 1
        for way, text in texts.items():
            counts[way] += all(one in text for one in wanted)
    for term in terms:
        assert translator.memory is not None
        translator.memory.forget(term)
    return {f"{name}, terms: {way}": {"used": count / asked, "sentences": asked} for way, count in counts.items()}


def minutes(model: LanguageModel, pairs: Sequence[Pair]) -> float:
    """How long training took, by the tokens of an epoch and the speed of each."""
    tokens = sum(len(model.encode(pair.target)) for pair in split_pairs(pairs)[0])
    return sum(tokens / line["tokens_per_second"] for line in model.checkpoint.history) / 60


def weights(model: LanguageModel) -> int:
    return int(model.summary()["parameters"])


def multi30k(folder: Path, name: str) -> list[Pair]:
    texts = [
        gzip.decompress((folder / f"{name}.{code}.gz").read_bytes()).decode().splitlines() for code in ("en", "de")
    ]
    return [Pair(*both) for both in zip(*texts, strict=True)]


def tatoeba(file: Path) -> list[Pair]:
    return [Pair(*line.split("\t")[:2]) for line in file.read_text(encoding="utf-8").splitlines() if "\t" in line]
