"""How many near-duplicates `Memory.duplicates` finds, and how many of its pairs are none.

    python benchmarks/duplicates.py ../shared/data/medquad/pairs.jsonl.gz answer
    python benchmarks/duplicates.py TEXTS.txt

Real texts (a field of JSON lines, or lines of text) are stored; of every tenth one a copy is stored beside it in
which a part of the words is replaced, left out or doubled at random. Found: the part of those copies that is reported
with its original. False: the part of all other reported pairs, those among real texts, that are less than 0.6 alike by
difflib (Ratcliff and Obershelp 1988, on words), a measure that shares nothing with shingles. The default threshold was
chosen on the first half of the texts; the table is of the second half.
"""

from __future__ import annotations

import argparse
import difflib
import gzip
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

from extmem import Memory

EDITS = (0.01, 0.02, 0.05, 0.1, 0.2)
THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
ALIKE = 0.6
JUDGED = 1000  # pairs at each threshold, drawn at random


def texts(path: Path, field: str | None, first: bool) -> list[str]:
    """The texts of at least ten words, each once, of one half of the file."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as file:
        lines = [json.loads(line)[field] if field else line for line in file]
    half = lines[: len(lines) // 2] if first else lines[len(lines) // 2 :]
    return [text for text in dict.fromkeys(half) if isinstance(text, str) and len(text.split()) >= 10]


def edited(text: str, part: float, chance: random.Random, words: list[str]) -> str:
    """The text with this part of its words, one at least, replaced, left out or doubled."""
    parts = text.split()
    for place in chance.sample(range(len(parts)), max(1, round(part * len(parts)))):
        kind = chance.randrange(3)
        parts[place] = (chance.choice(words), "", f"{parts[place]} {parts[place]}")[kind]
    return " ".join(filter(None, parts))


def alike(one: str, other: str) -> float:
    """Similarity of two texts by difflib, on words."""
    return difflib.SequenceMatcher(None, one.split(), other.split(), autojunk=False).ratio()


def measure(found: list[str], seed: int) -> dict[str, Any]:
    """Rates for every threshold."""
    chance = random.Random(seed)
    words = [word for text in found for word in text.split()[:20]]
    memory, copies = Memory(), {}
    for number, text in enumerate(found):
        memory.store(f"{number:06}", text)
        if number % 10 == 0:
            part = EDITS[number // 10 % len(EDITS)]
            copies[f"{number:06}"] = part
            memory.store(f"{number:06} copy", edited(text, part, chance, words))
    begun = time.perf_counter()
    pairs = memory.duplicates(min(THRESHOLDS))
    seconds = time.perf_counter() - begun
    planted = [pair for pair in pairs if pair.other == f"{pair.key} copy"]
    others = [pair for pair in pairs if "copy" not in pair.key + pair.other]
    rows = []
    for threshold in THRESHOLDS:
        reached = {pair.key for pair in planted if pair.similarity >= threshold}
        rate = {part: [key in reached for key, p in copies.items() if p == part] for part in EDITS}
        real = [pair for pair in others if pair.similarity >= threshold]
        judged = chance.sample(real, min(JUDGED, len(real)))
        false = sum(alike(str(memory.retrieve(p.key)), str(memory.retrieve(p.other))) < ALIKE for p in judged)
        rows.append(
            {
                "threshold": threshold,
                "found": {part: sum(hits) / len(hits) for part, hits in rate.items()},
                "pairs among real texts": len(real),
                "false": false / max(1, len(judged)),
            }
        )
    return {"texts": len(found), "copies": len(copies), "seconds": seconds, "seed": seed, "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("field", nargs="?")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", action="store_true", help="the first half, to choose on")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    result = measure(texts(given.path, given.field, given.first), given.seed)
    if given.json:
        print(json.dumps(result))
        return
    print(f"{result['texts']} texts, {result['copies']} edited copies, compared in {result['seconds']:.1f} s")
    found = " | ".join(f"found, {part:.0%} edited" for part in EDITS)
    print(f"| threshold | {found} | pairs among real texts | false |")
    print("|---" * (len(EDITS) + 3) + "|")
    for row in result["rows"]:
        rates = " | ".join(f"{rate:.1%}" for rate in row["found"].values())
        print(f"| {row['threshold']} | {rates} | {row['pairs among real texts']} | {row['false']:.1%} |")


if __name__ == "__main__":
    sys.exit(main())
