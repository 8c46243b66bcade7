"""How many rounds a fault is tried, from which seed, and the table of what came of it.

Knows: the environment: EXTMEM_FAULTS=full for the long run, EXTMEM_SEED=… to replay one. Does not know:
any fault. `scripts/faults` prints the table at the end; docs/reliability.md holds it.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter

FULL = os.environ.get("EXTMEM_FAULTS") == "full"
SEED = int(os.environ.get("EXTMEM_SEED", random.SystemRandom().randrange(10**6) if FULL else 1))
HEAD = ("fault", "rounds", "checked", "right", "clear errors", "wrong", "seed", "seconds", "")
TABLE: list[tuple[str, ...]] = []


def rounds(short: int, full: int = 1000) -> int:
    """How often this fault is tried."""
    return full if FULL else short


class Figures:
    """What came of one fault, counted: "right" answers, "clear" errors, "wrong" ones."""

    def __init__(self, fault: str) -> None:
        self.fault, self.began = fault, time.monotonic()
        self.outcomes: Counter[str] = Counter()
        self.rounds = self.checked = 0
        self.wrong: list[str] = []

    def fail(self, said: str) -> None:
        """Notes a wrong answer, with what it takes to replay it."""
        self.outcomes["wrong"] += 1
        self.wrong.append(said)

    def close(self, note: str = "") -> None:
        """Enters the line in the table; fails where something was wrong."""
        seconds = time.monotonic() - self.began
        counts = [f"{self.rounds:,}", f"{self.checked:,}"]
        counts += [f"{self.outcomes[name]:,}" for name in ("right", "clear", "wrong")]
        TABLE.append((self.fault, *counts, str(SEED), f"{seconds:.0f}", note))
        shown = "\n".join(self.wrong[:12])
        assert not self.wrong, f"{len(self.wrong)} of {self.rounds} rounds, EXTMEM_SEED={SEED}:\n{shown}"


def table() -> str:
    """All lines so far, as Markdown."""
    lines = [HEAD, tuple("---" for _ in HEAD), *TABLE]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
