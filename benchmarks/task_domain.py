"""Three domains against plain BM25 over the same passages: medicine (MedQuAD), law in Chinese (LegalQA), finance
(FinanceBench).

Each knowledge base is a folder that `Domain.read` reads, as `extmem domain FOLDER` does, and is embedded where the
encoder reads its language. Medicine: a sample of 3,000 of MedQuAD's answers without their questions, a jsonl file;
300 of their questions. (benchmarks/search.py has all 16,407.) Law: LegalQA's answers, a jsonl file; precision at 1
among a question's own candidates (the standard protocol) and among all. Finance: the evidence pages of FinanceBench's
questions, a text file each, named after the filing; recall of a question's pages. A document counts by its best
passage.
"""

from __future__ import annotations

import csv
import gzip
import json
import random
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from bm25 import Bm25

from extmem import Memory
from extmem.records.base import Record
from extmem.tasks.domain import Domain

Rows = dict[str, dict[str, float | None]]
SAMPLE, QUESTIONS = 3_000, 300
DEEP = 60  # passages that are looked at for the first ten documents


class Asked(NamedTuple):
    """A question, the documents that answer it, and those that it is to choose among, None for all."""

    text: str
    evidence: frozenset[str]
    among: frozenset[str] | None = None


class Base:
    """A knowledge base read from a folder; `name` says which document a passage is of."""

    def __init__(self, folder: Path, name: Callable[[Record], str], embedded: bool, say: Callable[[str], None]) -> None:
        self.memory, self.name = Memory(), name
        added = Domain(self.memory).read(folder)
        say(f"domain: {folder.name}, {added.files} files, {added.passages:,} passages")
        if embedded:
            self.memory.embed()
        self.records = list(self.memory.scan())
        self.of = {record.key: name(record) for record in self.records}
        self.plain = Bm25([f"{record.key}\n{record.value}" for record in self.records])

    def ours(self, question: str, among: Collection[str] | None) -> list[str]:
        where = None if among is None else {"key": {"$in": [key for key, name in self.of.items() if name in among]}}
        return list(dict.fromkeys(self.of[hit.key] for hit in self.memory.search(question, DEEP, where)))

    def theirs(self, question: str, among: Collection[str] | None) -> list[str]:
        ranked = (self.name(self.records[number]) for number in self.plain.ranked(question))
        return list(dict.fromkeys(name for name in ranked if among is None or name in among))


def rows(data: Path, say: Callable[[str], None]) -> Rows:
    with tempfile.TemporaryDirectory() as place:
        found = medicine(data, Path(place), say)
        found |= law(data, Path(place), say)
        return found | finance(data, Path(place), say)


def medicine(data: Path, place: Path, say: Callable[[str], None]) -> Rows:
    with gzip.open(data / "medquad" / "pairs.jsonl.gz", "rt", encoding="utf-8") as file:
        pairs = [json.loads(line) for line in file]
    drawn = random.Random(0).sample(pairs, SAMPLE)
    answers = list(dict.fromkeys(pair["answer"] for pair in drawn))
    base = Base(written(place / "medicine", answers), by_line, True, say)
    at = {answer: str(number) for number, answer in enumerate(answers, 1)}
    asked = [Asked(pair["question"], frozenset([at[pair["answer"]]])) for pair in drawn[:QUESTIONS]]
    return figures("medicine, MedQuAD", base, asked)


def law(data: Path, place: Path, say: Callable[[str], None]) -> Rows:
    with open(data / "legalqa" / "dev.csv", encoding="utf-8-sig", newline="") as file:
        lines = list(csv.reader(file))[1:]
    answers = list(dict.fromkeys(line[2] for line in lines))
    base = Base(written(place / "law", answers), by_line, False, say)
    at = {answer: str(number) for number, answer in enumerate(answers, 1)}
    candidates: dict[str, dict[str, bool]] = {}
    for title, body, answer, label in lines:
        candidates.setdefault(f"{title} {body}", {})[at[answer]] = label == "1"
    own, every = [], []
    for question, some in candidates.items():
        evidence = frozenset(number for number, right in some.items() if right)
        own.append(Asked(question, evidence, frozenset(some)))
        every.append(Asked(question, evidence))
    return figures("law, LegalQA, own candidates", base, own) | figures("law, LegalQA, all answers", base, every)


def finance(data: Path, place: Path, say: Callable[[str], None]) -> Rows:
    folder = place / "filings"
    asked = []
    for line in (data / "financebench" / "first75.jsonl").read_text(encoding="utf-8").splitlines():
        item = json.loads(line)
        pages = set()
        for evidence in item["evidence"]:
            path = folder / evidence["doc_name"] / f"page {evidence['evidence_page_num']}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(evidence["evidence_text_full_page"], encoding="utf-8")
            pages.add(f"filings/{path.relative_to(folder).as_posix()}")
        asked.append(Asked(item["question"], frozenset(pages)))
    base = Base(folder, lambda record: str((record.metadata or {})["file"]), True, say)
    return figures("finance, FinanceBench", base, asked)


def written(folder: Path, texts: list[str]) -> Path:
    folder.mkdir()
    lines = (json.dumps({"text": text}, ensure_ascii=False) for text in texts)
    (folder / "answers.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


def by_line(record: Record) -> str:
    """Answers are lines of one file; their own line breaks are within the line's text."""
    return record.key.split(", line ")[1].split(" ")[0]


def figures(name: str, base: Base, asked: list[Asked]) -> Rows:
    """Precision at 1, and of the documents that answer the part that is among the first 5 and 10."""
    found: Rows = {}
    for way, rank in (("BM25", base.theirs), ("extmem", base.ours)):
        ranked = [rank(question.text, question.among) for question in asked]
        found[f"{name}: {way}"] = {
            "precision@1": mean(r[0] in q.evidence if r else False for r, q in zip(ranked, asked, strict=True)),
            **{
                f"recall@{k}": mean(
                    len(q.evidence & set(r[:k])) / len(q.evidence) for r, q in zip(ranked, asked, strict=True)
                )
                for k in (5, 10)
            },
        }
    return found
