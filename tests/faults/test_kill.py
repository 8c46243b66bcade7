"""kill -9 at random moments of a random workload: what was acknowledged is there, the one operation in
flight is there whole or not at all, and the memory opens at once."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from figures import SEED, Figures, rounds
from workload import answers, apply, difference, operation

from extmem import Memory
from extmem.errors import ExtmemError

HERE = Path(__file__).parent
KILLS = 10  # of one folder, one after another
NURSERY = """
import os, sys
import faiss, numpy
from extmem import Memory
from workload import apply, operation
for line in sys.stdin:
    folder, seed, first = line.rsplit(" ", 2)
    child = os.fork()
    if not child:
        memory = Memory(folder)
        for number in range(int(first), 10**9):
            apply(memory, operation(int(seed), number))
            os.write(1, f"{number}\\n".encode())
    os.write(1, f"started {child}\\n".encode())
    os.waitpid(child, 0)
    os.write(1, b"killed\\n")
"""


@pytest.fixture
def nursery() -> Iterator[subprocess.Popen[str]]:
    """A process that has imported everything and forks a worker for each line it is given."""
    words = [sys.executable, "-c", NURSERY]
    with subprocess.Popen(words, cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.stdin.close()


def acknowledged(nursery: subprocess.Popen[str], folder: Path, seed: int, first: int, delay: float) -> int:
    """Has a worker do operations from `first` on, kills it after a while; the number of the next one."""
    print(folder, seed, first, file=nursery.stdin, flush=True)
    done, lines = first, iter(nursery.stdout.readline, "killed\n")
    for line in lines:
        if line.startswith("started"):
            time.sleep(delay)
            os.kill(int(line.split()[1]), signal.SIGKILL)
        else:
            done = int(line) + 1
    return done


def test_what_was_acknowledged_outlives_a_kill_and_nothing_is_half_there(nursery, tmp_path):
    figures, slowest, both = Figures("kill -9"), 0.0, 0
    for turn in range(rounds(40) // KILLS):
        seed, folder, number = SEED * 1000 + turn, tmp_path / f"m{turn}", 0
        moments, model = random.Random(seed), Memory()
        for kill in range(KILLS):
            reached = acknowledged(
                nursery, folder, seed, number, moments.choice((0.005, 0.02, 0.08)) * moments.random() * 2
            )
            for done in range(number, reached):
                apply(model, operation(seed, done))
            expected = answers(model)
            began = time.perf_counter()
            try:
                memory = Memory(folder)
            except ExtmemError as error:
                figures.fail(f"workload {seed}, kill {kill}, after {reached}: {error}")
                break
            memory.retrieve("a")
            slowest = max(slowest, time.perf_counter() - began)
            with memory:
                found, said = answers(memory), memory.verify()
            figures.rounds += 1
            figures.checked += reached - number
            number = reached
            without = difference(found, expected)
            if without:  # the one in flight was done as well
                apply(model, operation(seed, number))
                expected, number, both = answers(model), number + 1, both + 1
            if found == expected and not said:
                figures.outcomes["right"] += 1
            else:
                kind = operation(seed, reached)
                told = f"without it {without}; with it {difference(found, expected)}"
                figures.fail(f"workload {seed}, kill {kill}, after {reached}, in flight {kind}: {said} {told}")
                break
        else:
            shutil.rmtree(folder)
    assert slowest < 5, "it opens at once"
    figures.close(f"opened within {slowest * 1000:.0f} ms; {both} in flight were whole")
