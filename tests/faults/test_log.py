"""The write-ahead log cut off or flipped at every place of its last commit: what a kill leaves opens at
once with all that was acknowledged; what a flipped bit leaves is never taken for what a kill leaves."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from figures import Figures

from extmem import Memory
from extmem.errors import MemoryFormatError, StorageError

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
