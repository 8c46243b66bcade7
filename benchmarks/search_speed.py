"""How fast words are indexed and a memory of a million records is searched by words and meaning.

    python benchmarks/search_speed.py ../shared/data
    python benchmarks/search_speed.py ../shared/data --records 100000 --json

Records are made of two halves of real texts (LoCoMo's turns, MedQuAD's sentences, AG News, Penn Treebank), questions
are LoCoMo's. To embed a million texts with MiniLM takes hours and says nothing of a search: here a record's vector is
the sum of fixed random vectors of its words (384 numbers, as MiniLM's). A question's is made so too, and MiniLM embeds
it besides, so that the time of a search holds that of embedding. Raw SQLite FTS5 with the same records and the
question's words without stop words stands beside it. Medians of all questions; the first 50 warm up.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import random
import re
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import apsw
import numpy as np

from extmem import Memory
from extmem.text.encoder import Encoder, encoder_named
from extmem.text.terms import STOP_WORDS, plain

WARM = 50


class Words(Encoder):
    """Sums of fixed random vectors of a text's words; questions are embedded by MiniLM besides."""

    name, fingerprint, dim = "words", "words-384", 384

    def __init__(self) -> None:
        self.real, self.vectors = encoder_named(), dict[str, np.ndarray]()
        self.queries = 0

    def embed(self, texts: Sequence[str], query: bool) -> np.ndarray:
        if query:
            self.real.encode_queries(texts)
            self.queries += len(texts)
        return np.stack([np.sum([self._vector(word) for word in text.lower().split() or [""]], 0) for text in texts])

    def _vector(self, word: str) -> np.ndarray:
        if word not in self.vectors:
            seed = int.from_bytes(word.encode()[:8].ljust(8, b" "), "little") % 2**63
            self.vectors[word] = np.random.default_rng(seed).standard_normal(384, np.float32)
        return self.vectors[word]


def texts(data: Path) -> list[str]:
    """Real texts, a sentence or a turn each."""
    found: list[str] = []
    for path in sorted((data / "locomo").glob("*.json")):
        for part in json.loads(path.read_text()).values():
            found += [turn["text"] for turn in part if "text" in turn] if isinstance(part, list) else []
    with gzip.open(data / "medquad" / "pairs.jsonl.gz", "rt", encoding="utf-8") as file:
        for row in file:
            found += [text for text in re.split(r"(?<=[.!?])\s+", json.loads(row)["answer"]) if 20 < len(text) < 400]
    with open(data / "agnews" / "first6000.csv", encoding="utf-8") as file:
        found += [row[-1] for row in csv.reader(file)]
    return found + (data / "ptb" / "train.txt").read_text().splitlines()


def made(some: list[str], count: int) -> Iterator[str]:
    """So many texts, each of the beginning of one and the end of another."""
    draw, cut = random.Random(1), [text.split() for text in some if text.strip()]
    for _ in range(count):
        one, other = draw.choice(cut), draw.choice(cut)
        yield " ".join([*one[: draw.randrange(1, len(one) + 1)], *other[draw.randrange(len(other)) :]])[:400]


def questions(data: Path) -> list[str]:
    """LoCoMo's."""
    said = [json.loads(path.read_text())["qa"] for path in sorted((data / "locomo").glob("*.json"))]
    return random.Random(2).sample([q["question"] for some in said for q in some], 350)


def timed(search: Callable[[str], object], asked: list[str]) -> dict[str, float]:
    """Milliseconds of a search."""
    took = []
    for question in asked:
        began = time.perf_counter()
        search(question)
        took.append(1e3 * (time.perf_counter() - began))
    p50, p99 = np.percentile(took[WARM:], [50, 99])
    return {"p50_ms": float(p50), "p99_ms": float(p99)}


def fts5(folder: Path, rows: list[str], asked: list[str]) -> dict[str, Any]:
    """SQLite's own full-text index, BM25, of the same records."""
    connection = apsw.Connection(str(folder / "fts5.db"))
    connection.execute("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL")
    connection.execute("CREATE VIRTUAL TABLE w USING fts5(words, content='', tokenize='porter unicode61')")
    began = time.perf_counter()
    for start in range(0, len(rows), 10_000):
        with connection:
            some = enumerate(rows[start : start + 10_000], start + 1)
            connection.executemany("INSERT INTO w (rowid, words) VALUES (?, ?)", some)
    took = time.perf_counter() - began

    def search(question: str) -> object:
        words = " OR ".join(f'"{word}"' for word in dict.fromkeys(plain(question)) if word not in STOP_WORDS)
        return connection.execute("SELECT rowid FROM w WHERE w MATCH ? ORDER BY bm25(w) LIMIT 10", (words,)).fetchall()

    return {"index_records_s": len(rows) / took, **timed(search, asked)}


def measured(data: Path, count: int, folder: Path) -> dict[str, Any]:
    """All figures."""
    rows, asked, result = list(made(texts(data), count)), questions(data), dict[str, Any]()

    def said(what: str) -> None:
        print(what, file=sys.stderr)

    with Memory(folder / "memory") as memory:
        began = time.perf_counter()
        memory.store_many((f"k{number}", text) for number, text in enumerate(rows))
        result["store_records_s"] = count / (time.perf_counter() - began)
        said("stored")
        began = time.perf_counter()
        memory.derived.keyword.catch_up()
        result["words_records_s"] = count / (time.perf_counter() - began)
        said("words indexed")
        result["words"] = timed(lambda question: memory.search(question, by="words"), asked)
        encoder = Words()
        memory.derived._encoders["words"] = encoder
        began = time.perf_counter()
        memory.embed("words", lambda done, total: done % 65_536 == 0 and said(f"{done:,} of {total:,} embedded"))
        result["vectors_records_s"] = count / (time.perf_counter() - began)
        result["words_and_meaning"] = timed(memory.search, asked)
        result["embeddings"] = memory.stats()["embeddings"]
    result["query_embedding"] = timed(lambda question: encoder.real.encode_queries([question, question]), asked)
    result["bytes"] = sum(path.stat().st_size for path in (folder / "memory").rglob("*") if path.is_file())
    began = time.perf_counter()
    with Memory(folder / "memory") as memory:
        memory.derived._encoders["words"] = encoder
        memory.search("the first question")
        result["opening_and_first_search_ms"] = 1e3 * (time.perf_counter() - began)
    result["peak_rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    result["fts5"] = fts5(folder, rows, asked)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measured(given.data, given.records, Path(folder))
    if given.json:
        print(json.dumps(result, indent=1, default=str))
        return
    print(f"{given.records:,} records")
    for name, figures in result.items():
        line = ", ".join(f"{k} {v:,.2f}" if isinstance(v, float) else f"{k} {v}" for k, v in figures.items()) if (
            isinstance(figures, dict)
        ) else f"{figures:,.0f}"  # fmt: skip
        print(f"  {name:30}  {line}")


if __name__ == "__main__":
    main()
