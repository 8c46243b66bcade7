"""Classification: SST-2, AG News, TREC-6, ChnSentiCorp, PubMedQA, and a class of which ten examples are stored later.

"without" is logistic regression over TF-IDF of words, as scikit-learn has it, trained on the same part; of Chinese,
over characters, as it has no words there. SST-2 and ChnSentiCorp are judged on their dev parts, TREC-6 and AG News by
two of five folds, PubMedQA by ten folds, at most 450 examples each. PubMedQA's texts are the question and the end of
the abstract that the memory finds for it among all. A new class: all but one are trained on; of the one, ten examples
are stored then, without training, each class in turn; "recall" is of its held items, "others" what the accuracy of all
others changes by.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, train_test_split

from extmem import Memory
from extmem.tasks.classify import Classifier
from extmem.text.encoder import Encoder, encoder_named

Examples = list[tuple[str, str]]
Rows = dict[str, dict[str, float | None]]
TEN = 10


def rows(data: Path, say: Callable[[str], None]) -> Rows:
    found: Rows = {}
    sst, chinese = data / "sst2", data / "chnsenticorp"
    for name, train, dev in (
        ("SST-2, dev", tabbed(sst / "train.tsv", False), tabbed(sst / "dev.tsv", False)),
        ("ChnSentiCorp, dev", tabbed(chinese / "train.tsv", True), tabbed(chinese / "dev.tsv", True)),
    ):
        say(f"classify: {name}, {len(train):,} examples")
        found[name] = {"without": plain(train, dev, "Chn" in name), "with": ours(train, dev)}
        say(f"classify: {found[name]}")
    sets = {"TREC-6": trec(data), "AG News": news(data)}
    for name, examples in sets.items():
        folds = list(StratifiedKFold(5, shuffle=True, random_state=0).split(examples, [label for _, label in examples]))
        pairs = [([examples[n] for n in train], [examples[n] for n in held]) for train, held in folds[:2]]
        say(f"classify: {name}, {len(examples):,} examples, two of five folds")
        found[f"{name}, two of five folds"] = {
            "without": mean(plain(*pair, False) for pair in pairs),
            "with": mean(ours(*pair) for pair in pairs),
        }
        say(f"classify: {found[f'{name}, two of five folds']}")
    found["PubMedQA, ten folds"] = pubmed(data, say)
    say(f"classify: {found['PubMedQA, ten folds']}")
    for name, examples in sets.items():
        found[f"{name}, a new class"] = added(examples, say, name)
    return found


def tabbed(path: Path, head: bool) -> Examples:
    """Lines of text and label; with a head, of label and text."""
    lines = path.read_text(encoding="utf-8").splitlines()
    cut = [line.split("\t", 1)[::-1] for line in lines[1:]] if head else [line.rsplit("\t", 1) for line in lines]
    return [(text.strip(), label.strip()) for text, label in cut]


def trec(data: Path) -> Examples:
    lines = (data / "trec6" / "train.txt").read_text(encoding="utf-8", errors="replace").splitlines()
    return [(text.strip(), label) for label, _, text in (line.partition(" ") for line in lines)]


def news(data: Path) -> Examples:
    with open(data / "agnews" / "first6000.csv", encoding="utf-8", newline="") as file:
        return [(f"{row[1]}. {row[2]}", row[0]) for row in csv.reader(file)]


def plain(train: Examples, held: Examples, characters: bool) -> float:
    """Accuracy of TF-IDF and logistic regression."""
    vectors = TfidfVectorizer(analyzer="char") if characters else TfidfVectorizer()
    linear = LogisticRegression(max_iter=1000).fit(vectors.fit_transform([t for t, _ in train]), [c for _, c in train])
    return float(linear.score(vectors.transform([t for t, _ in held]), [c for _, c in held]))


class Remembered(Encoder):
    """An encoder that reads no text twice in one run."""

    def __init__(self, real: Encoder) -> None:
        self.real, self.seen = real, dict[str, np.ndarray]()
        self.name, self.fingerprint, self.dim = real.name, real.fingerprint, real.dim
        self.reads = real.reads  # type: ignore[method-assign]

    def embed(self, texts: Sequence[str], query: bool) -> np.ndarray:
        return self.real.embed(texts, query)

    def states(self, texts: Sequence[str], most: int) -> list[np.ndarray]:
        new = [text for text in dict.fromkeys(texts) if text not in self.seen]
        self.seen.update(zip(new, self.real.states(new, most), strict=True))
        return [self.seen[text] for text in texts]


ENCODER = Remembered(encoder_named())


def filled(examples: Examples) -> Classifier:
    classifier = Classifier(Memory())
    classifier.encoder = ENCODER
    classifier.remember(examples)
    classifier.train()
    return classifier


def ours(train: Examples, held: Examples) -> float:
    """Accuracy of a memory that holds the examples."""
    return accuracy(filled(train), held)


def accuracy(classifier: Classifier, held: Sequence[tuple[str, str]]) -> float:
    said = classifier.classify_many([text for text, _ in held])
    return mean(one.label == label for one, (_, label) in zip(said, held, strict=True))


def pubmed(data: Path, say: Callable[[str], None]) -> dict[str, float | None]:
    """Yes, no or maybe: from the question, and the end of the abstract that is found for it."""
    asked = list(json.loads((data / "pubmedqa" / "dev500.json").read_text(encoding="utf-8")).values())
    memory = Memory()
    memory.store_many((str(number), " ".join(one["CONTEXTS"])) for number, one in enumerate(asked))
    ends = [one["CONTEXTS"][-1] for one in asked]
    found = [int(memory.search(one["QUESTION"], 1)[0].key) for one in asked]
    right = mean(number == there for number, there in enumerate(found))
    say(f"classify: PubMedQA, {len(asked)} questions, the right abstract is found for {right:.1%}")
    examples = [
        (f"{one['QUESTION']} {ends[there]}", one["final_decision"]) for one, there in zip(asked, found, strict=True)
    ]
    questions = [(one["QUESTION"], one["final_decision"]) for one in asked]
    alone, together = [], []
    for train, held in StratifiedKFold(10, shuffle=True, random_state=0).split(
        examples, [label for _, label in examples]
    ):
        alone.append(plain([questions[n] for n in train], [questions[n] for n in held], False))
        together.append(ours([examples[n] for n in train], [examples[n] for n in held]))
    return {"without": mean(alone), "with": mean(together)}


def added(examples: Examples, say: Callable[[str], None], name: str) -> dict[str, float | None]:
    """Recall of a class of which ten examples are stored after training, and what the others' accuracy loses."""
    train, held = train_test_split(examples, test_size=0.25, stratify=[label for _, label in examples], random_state=0)
    recalls, losses, draw = [], [], np.random.default_rng(0)
    for new in sorted({label for _, label in examples}):
        classifier = filled([one for one in train if one[1] != new])
        others, mine = [one for one in held if one[1] != new], [one for one in held if one[1] == new]
        before = accuracy(classifier, others)
        there = [one for one in train if one[1] == new]
        classifier.remember(there[n] for n in draw.choice(len(there), TEN, replace=False))
        recalls.append(accuracy(classifier, mine))
        losses.append(accuracy(classifier, others) - before)
        say(f"classify: {name}, new class {new!r}: recall {recalls[-1]:.3f}, others {losses[-1]:+.3f}")
    return {"recall": mean(recalls), "others": mean(losses)}
