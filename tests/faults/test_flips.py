"""Bits flipped in any file of a memory: the right answer, or a clear error that names the file; never a
wrong value, and an error does not go away by opening again. Repairing makes nothing worse."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from figures import SEED, Figures, rounds
from workload import WORDS, answers, at, difference

from extmem import Memory
from extmem.errors import ExtmemError, InvalidInput, WrongKey
from extmem.opening import salvaged

PAGE, HEAD, FRAME = 4096, 32, 24 + 4096  # of the database, of the log: its head, a page with its own
FILL = """
import os, signal, sys
from workload import apply, operation
from extmem import Memory
memory, seed = Memory(sys.argv[1]), int(sys.argv[2])
for number in range(90):
    apply(memory, operation(seed, number))
for space in ("", "alice"):
    apply(memory, ("memorize", space, seed))
if sys.argv[3] == "killed":
    for number in range(90, 120):
        memory.store(f"late {number % 7}", f"value {number} " * 20)
    os.kill(os.getpid(), signal.SIGKILL)
memory.close()
"""


def filled(folder: Path, how: str) -> dict[str, Any]:
    """A memory with something of everything, and what it answers."""
    ended = subprocess.run([sys.executable, "-c", FILL, folder, str(SEED), how], cwd=Path(__file__).parent).returncode
    assert ended == (-signal.SIGKILL if how == "killed" else 0)
    twin = shutil.copytree(folder, folder.with_name("twin"))
    with Memory(twin) as memory:
        truth = answers(memory)
        assert memory.verify() == []
    shutil.rmtree(twin)
    return truth


def flip(draw: random.Random, path: Path) -> str:
    """Flips up to four bits, half of the time where few bits mean much; where."""
    content, said = bytearray(path.read_bytes()), []
    for _ in range(draw.choice((1, 1, 2, 4))):
        if not content:
            return f"{path.name} is empty"
        place = draw.randrange(len(content))
        if draw.random() < 0.5 and path.name.endswith("-wal"):
            last = (len(content) - HEAD) // FRAME - 1
            place = draw.choice(
                (draw.randrange(HEAD), HEAD + draw.choice((0, last, last)) * FRAME + draw.randrange(24))
            )
        elif draw.random() < 0.5 and path.name.endswith(".db"):
            place = place // PAGE * PAGE + draw.choice((draw.randrange(100), PAGE - 1 - draw.randrange(8)))
        elif draw.random() < 0.5:
            place = draw.randrange(min(len(content), 200))
        content[place] ^= 1 << draw.randrange(8)
        said.append(place)
    path.write_bytes(content)
    return f"{path.name} at {said}"


def asked(folder: Path, truth: dict[str, Any]) -> tuple[list[str], list[str]]:
    """What every single answer is: errors of our own, and what is wrong."""
    errors: list[str] = []
    wrong: list[str] = []

    def ask(what: str, work: Callable[[], object], expected: object) -> None:
        try:
            if part := difference(work(), expected):
                wrong.append(f"{what} {part}")
        except ExtmemError as error:
            if isinstance(error, InvalidInput | WrongKey):
                wrong.append(f"{what}: {type(error).__name__} {error}")
            errors.append(str(error))
        except BaseException as error:
            wrong.append(f"{what}: {type(error).__name__} {error}")

    try:
        memory = Memory(folder)
    except ExtmemError as error:
        return [str(error)], []
    except BaseException as error:
        return [], [f"opening: {type(error).__name__} {error}"]
    with memory:
        ask("namespaces", memory.namespaces, truth["namespaces"])
        for space in ("", *truth["namespaces"]):
            handle, there = at(memory, space), truth[space]
            for key, value in zip(there["keys"], there["values"], strict=True):
                ask(f"{space} {key!r}", lambda: repr(handle.retrieve(key)), value)  # noqa: B023
            ask(f"{space} keys", lambda: list(handle.keys()), there["keys"])  # noqa: B023
            ask(f"{space} len", lambda: len(handle), there["len"])  # noqa: B023
            for word, found in zip(WORDS, there["search"], strict=False):
                ask(f"{space} search", lambda: {h.key for h in handle.search(word, k=1000)}, found)  # noqa: B023
            ask(f"{space} datastore", lambda: len(handle.datastore("model", 4)), there["entries"][0][0])  # noqa: B023
        ask("all", lambda: answers(memory), truth)
        try:
            errors += memory.verify() if not errors and not wrong else []
        except ExtmemError as error:
            errors.append(str(error))
        except BaseException as error:
            wrong.append(f"verify: {type(error).__name__} {error}")
    return errors, wrong


def repaired(folder: Path, truth: dict[str, Any], log: bool) -> list[str]:
    """What `extmem verify --repair` does, and what is wrong afterwards. Where the log was damaged its last
    changes are given up; otherwise the records are all there."""
    try:
        salvaged(folder)
        with Memory(folder) as memory:
            memory.repair()
            said = memory.verify()
            found = [] if log else [name for name in truth if _records(answers(memory), name) != _records(truth, name)]
        return [*said, *(f"after the repair, in {name!r}" for name in found)]
    except ExtmemError:
        return []  # beyond repair, and it says so
    except BaseException as error:
        return [f"the repair: {type(error).__name__} {error}"]


def _records(found: dict[str, Any], name: str) -> object:
    if name == "namespaces":
        return found[name]
    return {part: answer for part, answer in found[name].items() if part != "entries"}


@pytest.mark.parametrize("how", ["closed", "killed"])
def test_a_flipped_bit_is_the_right_answer_or_an_error_that_names_the_file(tmp_path, how):
    truth = filled(tmp_path / "whole", how)
    files = sorted(path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*") if path.is_file())
    assert len(files) >= 3 and any(path.name.endswith("-wal") for path in files) == (how == "killed")
    assert all(truth[space]["entries"][0][0] and truth[space]["len"] for space in ("", "alice"))
    figures, folder = Figures(f"flipped bits, {how} memory"), tmp_path / "flipped"
    for number in range(rounds(16, 500)):
        draw = random.Random(f"{SEED} {number}")
        shutil.copytree(tmp_path / "whole", folder)
        path = folder / draw.choice([*files, *(file for file in files if file.name.startswith("records.db"))])
        where = flip(draw, path)
        errors, wrong = asked(folder, truth)
        again, wrong_again = asked(folder, truth)
        named = path.name if path.suffix == ".safetensors" else "records.db"
        wrong += [f"does not name the file: {said}" for said in errors if named not in said and "keyword" not in said]
        wrong += [f"opened again: {said}" for said in wrong_again]
        if errors and not again:
            wrong.append(f"an error, and none when asked again: {errors[0]}")
        if not wrong:
            wrong += repaired(folder, truth, path.name.endswith("-wal"))
        figures.rounds += 1
        figures.checked += len(truth) + sum(len(truth[space]["keys"]) for space in ("", *truth["namespaces"]))
        if wrong:
            figures.fail(f"round {number}, {where}: {wrong[0]}")
        else:
            figures.outcomes["clear" if errors else "right"] += 1
        shutil.rmtree(folder)
    figures.close()
