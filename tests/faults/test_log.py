"""The write-ahead log cut off or flipped at every place of its last commit: what a kill leaves opens at
once with all that was acknowledged; what a flipped bit leaves is never taken for what a kill leaves."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from figures import Figures

from extmem import Memory
from extmem.errors import MemoryFormatError, StorageError
from extmem.records.database import Database

FRAME = 24 + 4096


def states(folder: Path, recycled: bool) -> tuple[Path, bytes, bytes, dict[str, str]]:
    """A folder whose memory was killed; its log before and after the last commit; what was stored before."""
    with Memory(folder / "live") as memory:
        for number in range(3000 if recycled else 3):  # the log is begun anew after 2,000 frames
            memory.store(f"k{number % 50}", f"value {number}")
        before = (folder / "live/records.db-wal").read_bytes()
        stored = dict(memory.items())
        memory.store("last", "stored last")
        shutil.copytree(folder / "live", folder / "killed")
    (folder / "killed/records.db-shm").unlink()
    after = (folder / "killed/records.db-wal").read_bytes()
    assert recycled == (len(after) == len(before))
    return folder / "killed", before, after, stored


def opened(killed: Path, log: bytes) -> dict[str, str]:
    """What is there with this log."""
    folder = shutil.copytree(killed, killed.with_name("tried"))
    try:
        (folder / "records.db-wal").write_bytes(log)
        with Memory(folder) as memory:
            return dict(memory.items())
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("recycled", [True, False])
def test_a_log_cut_off_anywhere_opens_with_all_that_was_acknowledged(tmp_path, recycled):
    killed, before, after, stored = states(tmp_path, recycled)
    both = stored | {"last": "stored last"}
    assert opened(killed, before) == stored and opened(killed, after) == both
    differ = [place for place in range(len(after)) if before[place : place + 1] != after[place : place + 1]]
    frames = range((differ[0] - 32) // FRAME * FRAME + 32, differ[-1] + FRAME, FRAME)
    figures, seen = Figures(f"the last commit's log torn, {'begun anew' if recycled else 'first run'}"), set()
    for start in frames:
        for place in {start + part for part in (1, 4, 8, 16, 23, 24, 25, 2000, 4096, FRAME)}:
            found = opened(killed, after[:place] + before[place:])
            seen.add("last" in found)
            figures.rounds, figures.checked = figures.rounds + 1, figures.checked + len(stored)
            if found in (stored, both):
                figures.outcomes["right"] += 1
            else:
                figures.fail(f"torn at {place}: {len(found)} records")
    assert seen == {True, False}
    figures.close()


@pytest.mark.parametrize("tables", [True, False])
def test_a_flipped_bit_in_a_young_memorys_log_is_never_taken_for_an_empty_memory(tmp_path, monkeypatch, tables):
    if tables:  # as a kill right after the tables were made leaves it
        monkeypatch.setattr(Database, "_checkpoint", lambda self, how, wait=0: False)
    stored = {f"k{number}": f"value {number}" for number in range(3)}
    with Memory(tmp_path / "live") as memory:
        for key, value in stored.items():
            memory.store(key, value)
        killed = shutil.copytree(tmp_path / "live", tmp_path / "killed")
    monkeypatch.undo()
    (killed / "records.db-shm").unlink()
    log = (killed / "records.db-wal").read_bytes()
    assert opened(killed, log) == stored
    frames = range(32, len(log), FRAME)
    places = [*range(32), *(start + part for start in frames for part in (0, 3, 5, 9, 13, 17, 21, 30, 2000, 4100))]
    figures = Figures(f"a young memory's log flipped, {'with' if tables else 'without'} its tables")
    for place in places:
        flipped = bytearray(log)
        flipped[place] ^= 16
        figures.rounds, figures.checked = figures.rounds + 1, figures.checked + len(stored)
        try:
            found = opened(killed, bytes(flipped))
        except (MemoryFormatError, StorageError) as error:
            assert "records.db" in str(error)
            figures.outcomes["clear"] += 1
            continue
        if found == stored:
            figures.outcomes["right"] += 1
        else:
            figures.fail(f"flipped at {place}: {found}")
    figures.close()


def test_a_database_that_is_missing_beside_its_log_is_no_new_memory(tmp_path):
    with Memory(tmp_path / "live") as memory:
        memory.store("a", "b")
        killed = shutil.copytree(tmp_path / "live", tmp_path / "killed")
    log = (killed / "records.db-wal").read_bytes()
    for leave in (lambda path: path.unlink(), lambda path: path.write_bytes(b"")):
        leave(killed / "records.db")
        with pytest.raises(MemoryFormatError, match="missing or empty"):
            Memory(killed)
        assert (killed / "records.db-wal").read_bytes() == log
        (killed / "records.db").write_bytes(b"")


@pytest.mark.parametrize("recycled", [True, False])
def test_a_flipped_bit_in_the_last_commit_is_never_taken_for_a_kill(tmp_path, recycled):
    killed, before, after, stored = states(tmp_path, recycled)
    both = stored | {"last": "stored last"}
    differ = [place for place in range(len(after)) if before[place : place + 1] != after[place : place + 1]]
    figures = Figures(f"the last commit's log flipped, {'begun anew' if recycled else 'first run'}")
    for start in range((differ[0] - 32) // FRAME * FRAME + 32, differ[-1], FRAME):
        for place in (*range(start, start + 24), start + 30, start + FRAME - 1):
            for bit in (1, 16, 128):
                log = bytearray(after)
                log[place] ^= bit
                figures.rounds += 1
                try:
                    right = opened(killed, bytes(log)) == both
                except (MemoryFormatError, StorageError) as error:
                    assert "records.db" in str(error)
                    figures.outcomes["clear"] += 1
                    continue
                figures.checked += len(both)
                if right:
                    figures.outcomes["right"] += 1
                else:
                    figures.fail(f"flipped {bit} at {place}: the last store is gone")
    figures.close()
