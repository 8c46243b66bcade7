"""XQuAD in English and Chinese, CMRC 2018: is the answer inside the one sentence that is extracted; and is what is not
in the memory said to be not in it.

"without" is what a plain search gives: the first sentence of BM25's best passage. The constants were found on XQuAD's
articles 0, 2, 4, …: "held" are the others, and CMRC. For "not in memory", the memory holds one half of the articles and
is asked all questions; and, harder, it is asked each question of all passages but the one that answers it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from bm25 import Bm25

from extmem import Memory
from extmem.tasks.answer import KNOWN, answer
from extmem.text.sentences import sentences

SETS = {"XQuAD English": "xquad/en.json", "XQuAD Chinese": "xquad/zh.json", "CMRC 2018": "cmrc2018/trial.json"}
Rows = dict[str, dict[str, float | None]]


class Asked(NamedTuple):
    """A question, the number of its passage and of its article, and its answers."""

    text: str
    passage: int
    article: int
    answers: list[str]


def rows(data: Path, say: Callable[[str], None]) -> Rows:
    found: Rows = {}
    for name, file in SETS.items():
        passages, questions = read(data / file)
        say(f"answer: {name}, {len(passages)} passages, {len(questions)} questions")
        english = name.endswith("English")
        memory = filled(dict(enumerate(passages)), english)
        plain = Bm25(passages)
        without, best, known = [], [], []
        for question in questions:
            text = passages[plain.ranked(question.text)[0]]
            without.append(inside(question, text[slice(*sentences(text)[0])]))
            best.append(answer(memory, question.text, least=-1.0))
            known.append(best[-1].confidence >= KNOWN)
        for part, some in parts(questions, name).items():
            found[f"{name}, {part}"] = {
                "without": mean(without[n] for n in some),
                "answer inside": mean(inside(questions[n], str(best[n])) for n in some),
                "and not refused": mean(known[n] and inside(questions[n], str(best[n])) for n in some),
                "right passage": mean(
                    str(questions[n].passage) in [one.key for one in best[n].citations] for n in some
                ),
            }
        for label, half in (("the even articles", 0), ("the odd articles", 1)):
            there = {q.passage: passages[q.passage] for q in questions if q.article % 2 == half}
            part_of = filled(there, english)
            refused = [answer(part_of, question.text).text is None for question in questions]
            found[f"{name}, memory of {label}"] = refusals(refused, [q.passage in there for q in questions])
        others = [{"key": {"$ne": str(question.passage)}} for question in questions]
        refused = [answer(memory, q.text, where=where).text is None for q, where in zip(questions, others, strict=True)]
        absent, present = [False] * len(questions), [True] * len(questions)
        found[f"{name}, its passage left out"] = refusals([*refused, *(not k for k in known)], absent + present)
    return found


def inside(question: Asked, text: str) -> bool:
    return any(one in text for one in question.answers)


def parts(questions: Sequence[Asked], name: str) -> dict[str, list[int]]:
    every = list(range(len(questions)))
    if not name.startswith("XQuAD"):
        return {"held": every}
    halves = {"developed": 0, "held": 1}
    by_half = {part: [n for n in every if questions[n].article % 2 == half] for part, half in halves.items()}
    return {"all": every, **by_half}


def refusals(refused: Sequence[bool], there: Sequence[bool]) -> dict[str, float | None]:
    """How often "not in memory" is right, of how many of those not there it is said, and of how many that are."""
    said = [not here for no, here in zip(refused, there, strict=True) if no]
    return {
        "refusals right": mean(said) if said else None,
        "of those not there": mean(no for no, here in zip(refused, there, strict=True) if not here),
        "of those there": mean(no for no, here in zip(refused, there, strict=True) if here),
    }


def read(path: Path) -> tuple[list[str], list[Asked]]:
    passages: list[str] = []
    questions: list[Asked] = []
    for number, article in enumerate(json.loads(path.read_text(encoding="utf-8"))["data"]):
        for paragraph in article["paragraphs"]:
            for one in paragraph["qas"]:
                if one["question"].strip():  # two of CMRC's are empty
                    answers = [answer["text"].strip(" .。,，") for answer in one["answers"]]
                    questions.append(Asked(one["question"], len(passages), number, answers))
            passages.append(paragraph["context"])
    return passages, questions


def filled(passages: dict[int, str], english: bool) -> Memory:
    memory = Memory()
    memory.store_many((str(number), text) for number, text in passages.items())
    if english:
        memory.embed()
    return memory
