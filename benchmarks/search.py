"""How well `Memory.search` finds, with no language model anywhere: conversations, answers, Chinese paragraphs.

    python benchmarks/search.py ../shared/data
    python benchmarks/search.py ../shared/data --only locomo --json
    python benchmarks/search.py --longmemeval longmemeval_s.json

DATA has locomo/*.json, medquad/pairs.jsonl.gz, cmrc2018/trial.json and prefeval/*.json (../shared/data/SOURCES.md).
Rows are ways to search: bm25 (k1 1.2, b 0.75, stemmed, without stop words), meaning (all-MiniLM-L6-v2 alone), z-sum
(the sum of both scores' z-values: a plain hybrid), words (this memory without embeddings), extmem. For the first three
a turn of a conversation is "speaker: text", as one would give it to a store of vectors; long answers count there by how
they begin and by their best passage, as here.
Recall of a question is the part of its evidence among the first k; means over questions. The weights of the ranking
were found on LoCoMo's conversations 26, 30 and 41 and on MedQuAD's questions with even numbers; "held" are the others.
With --keep FOLDER the embedded memories stay there, and another run takes them up again.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from statistics import mean, median
from typing import Any, NamedTuple

import numpy as np
from bm25 import Bm25

from extmem import Memory
from extmem.indexes.base import text_of
from extmem.indexes.vectors import VectorIndex
from extmem.records.base import Record
from extmem.text.encoder import Encoder, encoder_named

WAYS = ("bm25", "meaning", "z-sum", "words", "extmem")
DEVELOPED = {"26", "30", "41"}  # conversations
QUESTIONS = 1_500  # of MedQuAD


class Question(NamedTuple):
    """A question, the keys of its evidence, and whether the weights were found with it."""

    text: str
    evidence: frozenset[str]
    developed: bool
    category: str = ""


class Task(NamedTuple):
    """A memory's records as (key, value, metadata), and what is asked of it."""

    name: str
    records: list[tuple[str, str, dict[str, object]]]
    questions: list[Question]


def locomo(folder: Path) -> Iterable[Task]:
    """A memory a conversation, a record a turn."""
    for path in sorted((folder / "locomo").glob("*.json")):
        said = json.loads(path.read_text())
        records: list[tuple[str, str, dict[str, object]]] = []
        for number in range(1, 100):
            for turn in said.get(f"session_{number}") or ():
                when = datetime.strptime(said[f"session_{number}_date_time"], "%I:%M %p on %d %B, %Y")
                picture = [turn[name] for name in ("blip_caption", "query") if turn.get(name)]
                metadata = {"speaker": turn["speaker"], "session": number, "time": when.isoformat()}
                records.append((turn["dia_id"], " ".join([turn["text"], *picture]), metadata))
        keys, questions = {key for key, _, _ in records}, []
        for qa in said["qa"]:
            found = re.findall(r"D:?(\d+):0*(\d+)", " ".join(qa.get("evidence", [])))
            evidence = frozenset(f"D{session}:{turn}" for session, turn in found) & keys
            if qa["category"] <= 4 and evidence:
                category = ("multi-hop", "temporal", "open-domain", "single-hop")[qa["category"] - 1]
                questions.append(Question(qa["question"], evidence, path.stem in DEVELOPED, category))
        yield Task(path.stem, records, questions)


def medquad(folder: Path, documents: bool) -> Task:
    """Answers without their questions; with `documents`, those of one page stand in one row."""
    with gzip.open(folder / "medquad" / "pairs.jsonl.gz", "rt", encoding="utf-8") as file:
        pairs = [json.loads(line) for line in file]
    same: dict[str, list[str]] = {}
    for number, pair in enumerate(pairs):
        same.setdefault(pair["answer"], []).append(f"a{number}")
    records = [
        (f"a{number}", pair["answer"], {"document": pair["url"]} if documents else {})
        for number, pair in enumerate(pairs)
    ]
    drawn = random.Random(0).sample(range(len(pairs)), QUESTIONS)
    questions = [Question(pairs[n]["question"], frozenset(same[pairs[n]["answer"]]), n % 2 == 0) for n in drawn]
    return Task("medquad", records, questions)


def cmrc(folder: Path) -> Task:
    """Chinese paragraphs."""
    records, questions = [], []
    for article in json.loads((folder / "cmrc2018" / "trial.json").read_text())["data"]:
        for paragraph in article["paragraphs"]:
            key = f"p{len(records)}"
            records.append((key, paragraph["context"], dict[str, object]()))
            questions += [Question(q["question"], frozenset([key]), False) for q in paragraph["qas"]]
    return Task("cmrc", records, questions)


def prefeval(folder: Path) -> Task:
    """Preferences, and questions that must respect them without naming them."""
    stated = [pair for path in sorted((folder / "prefeval").glob("*.json")) for pair in json.loads(path.read_text())]
    records = [(f"p{number}", pair["preference"], dict[str, object]()) for number, pair in enumerate(stated)]
    asked = [Question(pair["question"], frozenset([f"p{n}"]), False) for n, pair in enumerate(stated)]
    return Task("prefeval", records, asked)


def longmemeval(path: Path) -> Iterable[Task]:
    """A memory a question, as LongMemEval_S has them: a record a turn; evidence is sessions."""
    for entry in json.loads(path.read_text()):
        records = [
            (f"{session}:{number}", turn["content"], {"speaker": turn["role"], "session": session})
            for session, turns in zip(entry["haystack_session_ids"], entry["haystack_sessions"], strict=True)
            for number, turn in enumerate(turns)
            if turn["content"].strip()
        ]
        asked = Question(entry["question"], frozenset(entry["answer_session_ids"]), False, entry["question_type"])
        yield Task(entry["question_id"], records, [asked])


class Remembered(Encoder):
    """An encoder that embeds no text twice in one run."""

    def __init__(self, real: Encoder) -> None:
        self.real, self.seen = real, dict[str, np.ndarray]()
        self.name, self.fingerprint, self.dim = real.name, real.fingerprint, real.dim
        self.reads = real.reads  # type: ignore[method-assign]

    def embed(self, texts: Sequence[str], query: bool) -> np.ndarray:
        if query:
            return self.real.embed(texts, query)
        new = [text for text in dict.fromkeys(texts) if text not in self.seen]
        if new:
            self.seen.update(zip(new, self.real.embed(new, query).astype(np.float16), strict=True))
        return np.stack([self.seen[text] for text in texts])

    def take(self, index: VectorIndex) -> None:
        """What another memory has embedded already."""
        view = index.datastore.view()
        for start in range(0, len(view), 4096):
            entries = np.arange(start, min(start + 4096, len(view)))
            keys = view.keys(entries).astype(np.float16)
            records = index.records.by_ids(np.unique(view.records(entries)).tolist())
            for entry, key in zip(entries.tolist(), keys, strict=True):
                number, span = view.cite(entry)
                self.seen[text_of(records[number])[span.start : span.end]] = key


def filled(task: Task, place: Path, encoder: Remembered) -> Memory:
    """The memory of a task, embedded."""
    memory = Memory(place)
    if not len(memory):
        memory.store_many(Record(key=key, value=text, metadata=about or None) for key, text, about in task.records)
    step = [0.0]

    def progress(done: int, total: int) -> None:
        if time.monotonic() - step[0] > 20:
            step[0] = time.monotonic()
            print(f"{task.name}: {done:,} of {total:,} records embedded", file=sys.stderr)

    memory.derived._encoders["minilm"] = encoder
    memory.embed(progress=progress)
    return memory


class Baselines:
    """BM25 and MiniLM over a task's records, and the sum of their z-values."""

    def __init__(self, task: Task, memory: Memory) -> None:
        derived = memory.derived
        vectors = derived.vectors()
        assert vectors is not None
        self.vectors, self.memory = vectors, memory
        self.keys = [key for key, _, _ in task.records]
        self.ids = np.array([memory.record(key).id for key in self.keys])
        said = [f"{about['speaker']}: {text}" if "speaker" in about else text for _, text, about in task.records]
        self.embedded = vectors.encoder.encode(said) if "speaker" in task.records[0][2] else None
        self.words = Bm25(said)

    def rankings(self, query: str, k: int) -> dict[str, list[str]]:
        """The first k keys by each."""
        words, vector = self.words.scores(query), self.vectors.encoder.encode_query(query)
        if self.embedded is not None:
            meaning = self.embedded @ vector
        else:
            meaning = self.vectors.similarity(self.ids, vector[None])[0]
        both = sum((score - score.mean()) / max(float(score.std()), 1e-9) for score in (words, meaning))
        scores = {"bm25": words, "meaning": meaning, "z-sum": both}
        return {way: [self.keys[n] for n in np.argsort(-score, kind="stable")[:k]] for way, score in scores.items()}


def rankings(memory: Memory, baselines: Baselines, query: str, k: int) -> dict[str, list[str]]:
    """The first k keys by every way to search."""
    found = baselines.rankings(query, k)
    for way, by in (("words", "words"), ("extmem", "all")):
        found[way] = [hit.key for hit in memory.search(query, k, by=by)]
    return found


def recall(found: list[str], evidence: frozenset[str], k: int, group: Callable[[str], str] = str) -> float:
    """The part of the evidence that is among the first k."""
    wanted = {group(key) for key in evidence}
    return len(wanted & {group(key) for key in found[:k]}) / len(wanted)


def measured(
    tasks: Iterable[Task], ks: tuple[int, ...], keep: Path | None, encoder: Remembered, session: bool = False
) -> dict[str, Any]:
    """Recall@k by way, for all questions, those the weights were found with, and the others."""
    asked: list[Question] = []
    found: list[dict[str, list[str]]] = []
    took: list[float] = []
    for task in tasks:
        with ExitStack() as stack:
            place = keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
            memory = stack.enter_context(filled(task, place / task.name, encoder))
            if len(task.records) > 5_000:
                encoder.take(memory.derived.vectors())
            baselines = Baselines(task, memory)
            for number, question in enumerate(task.questions):
                found.append(rankings(memory, baselines, question.text, max(ks)))
                began = time.perf_counter()
                memory.search(question.text, max(ks))
                took.append(time.perf_counter() - began)
                if number % 250 == 249:
                    print(f"{task.name}: {number + 1:,} of {len(task.questions):,} questions", file=sys.stderr)
            asked += task.questions

    def means(way: str, some: list[int]) -> dict[str, float]:
        row = {f"@{k}": mean(recall(found[n][way], asked[n].evidence, k) for n in some) for k in ks}
        if session:
            group = lambda key: key.rpartition(":")[0]  # noqa: E731
            row["session@10"] = mean(recall(found[n][way], asked[n].evidence, 10, group) for n in some)
        return row

    parts = {"all": list(range(len(asked)))}
    if any(question.developed for question in asked):
        parts["developed"] = [n for n, question in enumerate(asked) if question.developed]
        parts["held"] = [n for n, question in enumerate(asked) if not question.developed]
    for name in sorted({question.category for question in asked} - {""}):
        parts[name] = [n for n, question in enumerate(asked) if question.category == name]
    return {
        "questions": len(asked),
        "milliseconds": 1e3 * median(took),
        "recall": {part: {way: means(way, some) for way in WAYS} for part, some in parts.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", help="the folder of the data sets")
    parser.add_argument("--only", nargs="+", default=["locomo", "cmrc", "prefeval", "medquad"])
    parser.add_argument("--longmemeval", type=Path, help="a file of LongMemEval_S")
    parser.add_argument("--keep", type=Path, help="where the memories are kept")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    warnings.simplefilter("error")
    results: dict[str, Any] = {}
    if given.longmemeval:
        results["longmemeval"] = measured_sessions(given.longmemeval)
    elif given.data is None:
        parser.error("give the folder of the data sets, or --longmemeval FILE")
    else:
        encoder = Remembered(encoder_named())
        for name in given.only:
            keep = given.keep and given.keep / name
            if name == "locomo":
                results[name] = measured(locomo(given.data), (5, 10, 25), keep, encoder, session=True)
            elif name == "medquad":
                for rows, documents in (("medquad", False), ("medquad in documents", True)):
                    keep = given.keep and given.keep / rows.replace(" ", "-")
                    results[rows] = measured([medquad(given.data, documents)], (1, 3, 10), keep, encoder)
            else:
                task = {"cmrc": cmrc, "prefeval": prefeval}[name](given.data)
                results[name] = measured([task], (1, 5, 10), keep, encoder)
            if not given.json:
                show({key: results[key] for key in results if key.startswith(name)})
    if given.json:
        print(json.dumps(results, indent=1))
    elif given.longmemeval:
        show(results)


def measured_sessions(path: Path) -> dict[str, Any]:
    """recall_any@5 of LongMemEval: whether any of the first 5 sessions is one of the evidence."""
    hits: dict[str, list[bool]] = {"all": []}
    for task in longmemeval(path):
        with Memory() as memory:
            memory.store_many(Record(key=key, value=text, metadata=about) for key, text, about in task.records)
            memory.embed()
            question = task.questions[0]
            sessions = dict.fromkeys(hit.key.rpartition(":")[0] for hit in memory.search(question.text, 50))
            right = bool(set(list(sessions)[:5]) & question.evidence)
        hits["all"].append(right)
        hits.setdefault(question.category, []).append(right)
        print(f"{len(hits['all'])} questions, recall_any@5 {mean(hits['all']):.3f}", file=sys.stderr)
    recalls = {part: {"extmem": {"recall_any@5": mean(right)}} for part, right in hits.items()}
    return {"questions": len(hits["all"]), "recall": recalls}


def show(results: dict[str, Any]) -> None:
    for name, result in results.items():
        took = f", {result['milliseconds']:.1f} ms a search" if "milliseconds" in result else ""
        print(f"{name}: {result['questions']:,} questions{took}")
        for part, ways in result["recall"].items():
            for way, row in ways.items():
                print(f"  {part:12}  {way:8}  " + "  ".join(f"{key} {value:.3f}" for key, value in row.items()))


if __name__ == "__main__":
    main()
