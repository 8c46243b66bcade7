"""PrefEval and LoCoMo through the chat's own memory: is the preference a question must respect recalled, and the turns
that answer; what the rules read out of what people say; do contradictions resolve to the newest.

PrefEval: 505 stated preferences are said to one chat, a turn each; of each question the preference that it must
respect is to be among the first k recalled, of all 505. "alone": each for itself; "as recalled": as the chat does,
where those that say nearly the same come as one, so that 5 recalled are more than 5; "MiniLM, joined": its ranking,
with the same joined. A statement of which the rules read nothing counts as not recalled. The constants of the ranking
were found on topics 0, 2, 4, …: "developed"; but figures of the others, "held", were seen as well. LoCoMo: as
benchmarks/search.py, with every turn said in the chat; the rules read what the first speaker says. Extraction: of
PrefEval's statements the part that a preference is read from; of what states none (captions of Multi30k, questions of
PrefEval) the part that one is read from all the same. Ten thousand turns: one user, a folder, by words alone.
"""

from __future__ import annotations

import gzip
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, median

import numpy as np
from bm25 import Bm25

from extmem import Memory
from extmem.tasks.chat import Chat
from extmem.tasks.preferences import BEARS, Preference
from extmem.text.stated import stated
from search import locomo, recall

KS = (1, 5, 10)
FACTS = (
    ("Where do I live?", "I live in Paris.", "I moved to Lyon.", "Lyon"),
    ("What is my favourite colour?", "My favourite colour is blue.", "My favorite color is green.", "green"),
    ("Where do I work?", "I work at a bakery.", "I work at the town hall now.", "town hall"),
    ("How old am I?", "I am 33 years old.", "I'm 34 years old.", "34"),
    ("What is my name?", "My name is Ann Lee.", "My name is Ann Smith.", "Smith"),
    ("Do I like coffee?", "I like coffee.", "I don't like coffee any more.", "any more"),
    ("What is my dog's name?", "My dog's name is Rex.", "My dog's name is Bello.", "Bello"),
    ("我住在哪里？", "我住在北京。", "我搬到了上海。", "上海"),
    ("我最喜欢的颜色是什么？", "我最喜欢的颜色是蓝色。", "我最喜欢的颜色是绿色。", "绿色"),
    ("我喜不喜欢咖啡？", "我喜欢咖啡。", "我讨厌咖啡。", "讨厌"),
)
WORDS = ("door", "roof", "gate", "red", "blue", "green", "old", "new", "tall", "wide", "loud")
Rows = dict[str, dict[str, float | None]]


def rows(data: Path, say: Callable[[str], None]) -> Rows:
    return prefeval(data, say) | conversations(data, say) | contradictions() | extraction(data) | many(say)


def read(data: Path) -> tuple[list[str], list[str], list[int]]:
    """PrefEval's preferences, questions, and the numbers of their topics."""
    topics = [json.loads(path.read_text()) for path in sorted((data / "prefeval").glob("*.json"))]
    pairs = [(pair["preference"], pair["question"], n) for n, topic in enumerate(topics) for pair in topic]
    stated, asked, numbers = zip(*pairs, strict=True)
    return list(stated), list(asked), list(numbers)


def prefeval(data: Path, say: Callable[[str], None]) -> Rows:
    preferences, questions, topics = read(data)
    chat = Chat(Memory(), "someone")
    with chat.memory.transaction():
        turns = [chat.record(text)[0] for text in preferences]
    chat.recall(questions[0])
    vectors = chat.memory.derived.vectors()
    assert vectors is not None
    every = chat.preferences.every()
    ids = np.array([one.id for one in every])
    say(f"chat: PrefEval, {len(preferences)} statements, {len(every)} preferences read")
    ranks: dict[str, list[int]] = {name: [] for name in ("BM25", "MiniLM", "MiniLM, joined", "alone", "as recalled")}
    words, sizes = Bm25(preferences), []
    said, asked = vectors.encoder.encode(preferences), vectors.encoder.encode_queries(questions)
    for number, question in enumerate(questions):
        ranks["BM25"].append(words.ranked(question).index(number))
        ranks["MiniLM"].append(int(np.sum(said @ asked[number] > said[number] @ asked[number])))
        near = vectors.beginnings(ids) @ asked[number]
        by_meaning = [every[at] for at in np.argsort(-near, kind="stable")[: 4 * max(KS)]]
        ranks["MiniLM, joined"].append(place(chat.preferences.together(by_meaning, max(KS)), turns[number]))
        ranked = chat.preferences.ranked(question)
        ranks["alone"].append(place(ranked, turns[number]))
        recalled = chat.preferences.together([one for one in ranked if one.score >= BEARS], max(KS))
        ranks["as recalled"].append(place(recalled, turns[number]))
        sizes.append(mean(1 + len(one.alike) for one in recalled[:5]) if recalled else 1.0)
    ranks["without memory"] = [len(questions)] * len(questions)
    parts = {"": 0, ", developed": 1, ", held": 2}
    found: Rows = {}
    for name, some in ranks.items():
        for part, which in parts.items():
            kept = [rank for rank, topic in zip(some, topics, strict=True) if not which or topic % 2 == which - 1]
            found[f"PrefEval, {name}{part}"] = {f"recall@{k}": mean(rank < k for rank in kept) for k in KS}
    found["PrefEval, as recalled"]["in one"] = mean(sizes)
    return found


def place(ranked: Sequence[Preference], turn: str) -> int:
    """The place at which a preference comes that was read from this turn."""
    for number, one in enumerate(ranked):
        if any(turn in each.turns for each in (one, *one.alike)):
            return number
    return 10**6


def conversations(data: Path, say: Callable[[str], None]) -> Rows:
    found: dict[int, list[float]] = {10: [], 25: []}
    for task in locomo(data):
        chat, keys = Chat(Memory(), str(task.records[0][2]["speaker"])), dict[str, str]()
        with chat.memory.transaction():
            for key, text, about in task.records:
                keys[key], _ = chat.record(text, str(about["speaker"]), str(about["time"]), about["session"])
        say(f"chat: LoCoMo {task.name}, {len(task.records)} turns, {len(chat.preferences.every())} preferences read")
        names = {turn: key for key, turn in keys.items()}
        for question in task.questions:
            turns = [names[hit.key] for hit in chat.recall(question.text, 25, 0).turns]
            for k, recalls in found.items():
                recalls.append(recall(turns, question.evidence, k))
    return {"LoCoMo, evidence": {f"recall@{k}": mean(some) for k, some in found.items()}, "LoCoMo, without memory": {
        f"recall@{k}": 0.0 for k in found}}  # fmt: skip


def contradictions() -> Rows:
    """What was said last is the answer, and both turns are cited; once it is forgotten what was said first is."""
    newest, cited, back = [], [], []
    for question, first, then, answer in FACTS:
        chat = Chat(Memory(), "someone", words=True)
        turns = [chat.say(text).turn for text in (first, then)]
        reply = chat.say(question)
        newest.append(answer in str(reply))
        cited.append([one.key for one in reply.citations] == turns[::-1])
        chat.forget(turns[1])
        back.append(str(chat.say(question)) == first.rstrip(".。"))
    row = {"the newest": mean(newest), "both cited": mean(cited), "forgotten, the older": mean(back)}
    return {f"contradictions, {len(FACTS)} written here": row}


def many(say: Callable[[str], None]) -> Rows:
    """Milliseconds of a statement and of a question, medians of 25, behind ten thousand turns and 1,000 preferences."""
    with tempfile.TemporaryDirectory() as place, Memory(Path(place) / "memory") as memory:
        chat = Chat(memory, "someone", words=True)
        with chat.memory.transaction():
            for number in range(10_000):
                liked = f" I like thing{number}." if number % 10 == 0 else ""
                chat.record(f"The {WORDS[number % 7]} of house {number} is {WORDS[number % 11]}.{liked}")
        chat.say("Which colour has house 7?")
        say("chat: ten thousand turns")
        took: dict[str, list[float]] = {"statement, ms": [], "question, ms": []}
        for number in range(25):
            for name, text in zip(took, (f"I like item{number}.", f"What is the door of house {number}?"), strict=True):
                began = time.perf_counter()
                chat.say(text)
                took[name].append(1e3 * (time.perf_counter() - began))
    return {"ten thousand turns": {name: median(some) for name, some in took.items()}}


def extraction(data: Path) -> Rows:
    preferences, questions, _ = read(data)
    with gzip.open(data / "multi30k" / "val.en.gz", "rt", encoding="utf-8") as file:
        captions = file.read().splitlines()
    turns = [text for task in locomo(data) for _, text, _ in task.records]
    found: Rows = {}
    for name, texts in (
        ("PrefEval's preferences", preferences),
        ("PrefEval's questions", questions),
        ("captions of Multi30k", captions),
        ("turns of LoCoMo", turns),
    ):
        found[f"{name}, {len(texts):,}"] = {"a preference read": mean(bool(stated(text)) for text in texts)}
    return found
