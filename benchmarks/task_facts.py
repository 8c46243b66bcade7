"""CounterFact: 1,000 edited facts stored at once, in a memory with what was known before and 10,000 other records.

What was known is a record a fact, the statement for its key; its neighbours' facts lie there too ("neighbours there"),
or do not, so that what is edited must not be taken for an answer to what is asked of them ("neighbours not there").
The rule was found with the facts 0 to 499: "held" are the others.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path

from extmem import Memory
from extmem.tasks.answer import EDITED, answer, edit

OTHERS = 10_000
SORTS = ("prompt", "rephrase_prompt", "locality_prompt")
HELD = 500

Item = dict[str, str]
Rows = dict[str, dict[str, float | None]]


def rows(data: Path, say: Callable[[str], None]) -> Rows:
    items: list[Item] = json.loads((data / "counterfact" / "edit1k.json").read_text())
    with gzip.open(data / "medquad" / "pairs.jsonl.gz", "rt", encoding="utf-8") as file:
        others = [json.loads(line)["answer"] for line in islice(file, OTHERS)]
    found: Rows = {}
    for near in (True, False):
        memory = Memory()
        memory.store_many((f"answer {number}", text) for number, text in enumerate(others))
        memory.store_many((item["prompt"], item["ground_truth"]) for item in items)
        if near:
            memory.store_many((item["locality_prompt"], item["locality_ground_truth"]) for item in items)
        say(f"facts: {len(memory):,} records, 9 questions for each of {len(items):,} facts")
        before = asked(memory, items)
        for item in items:
            edit(memory, item["prompt"], item["target_new"])
        after = asked(memory, items)
        memory.forget_many(EDITED + item["prompt"] for item in items)
        again = asked(memory, items)
        where = "neighbours there" if near else "neighbours not there"
        for part, some in (("developed", range(HELD)), ("held", range(HELD, len(items))), ("all", range(len(items)))):
            found[f"{where}, {part}: before"] = figures(items, before, before, before, some)
            found[f"{where}, {part}: edited"] = figures(items, before, after, again, some)
            say(f"facts: {where}, {part}: {found[f'{where}, {part}: edited']}")
    return found


def asked(memory: Memory, items: list[Item]) -> dict[str, list[str | None]]:
    """What the memory says to every question of every sort."""
    return {sort: [answer(memory, item[sort]).text for item in items] for sort in SORTS}


def figures(
    items: list[Item],
    before: dict[str, list[str | None]],
    now: dict[str, list[str | None]],
    again: dict[str, list[str | None]],
    some: range,
) -> dict[str, float | None]:
    """Of some facts: how often the edited one is the answer, its paraphrase's, the neighbour's is as it was, and all
    three are as before when the edit is forgotten."""

    def part(right: Callable[[int], bool]) -> float:
        return sum(map(right, some)) / len(some)

    prompt, rephrased, local = SORTS
    return {
        "efficacy": part(lambda n: now[prompt][n] == items[n]["target_new"]),
        "paraphrase": part(lambda n: now[rephrased][n] == items[n]["target_new"]),
        "neighbours unchanged": part(lambda n: now[local][n] == before[local][n]),
        "as before once forgotten": part(lambda n: all(again[sort][n] == before[sort][n] for sort in SORTS)),
    }
