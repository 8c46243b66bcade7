"""A disk that is full or read-only, no file descriptors left, a clock that goes back: a clear line, nothing lost."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from extmem import Memory
from extmem.errors import StorageError


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 3 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def refused(work) -> str:
    with pytest.raises(StorageError) as error:
        work()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_full_disk_is_told_and_loses_nothing(disk):
    with Memory(disk / "m") as memory:
        memory.store("before", "here")
        memory.search("here")
        (disk / "ballast").write_bytes(os.urandom(1 << 20))

        def fill() -> None:
            for number in range(10**6):
                memory.store(f"k{number}", "x" * 5000)

        assert "disk is full" in refused(fill)
        stored = dict(memory.items())
        assert "disk is full" in refused(lambda: memory.store_many((f"m{n}", "y" * 9000) for n in range(1000)))
        assert dict(memory.items()) == stored and memory.retrieve("before") == "here"
    with Memory(disk / "m") as memory:
        assert dict(memory.items()) == stored
        (disk / "ballast").unlink()
        memory.store("after", "there is room again")
        assert memory.search("room")[0].key == "after" and memory.verify() == []


def test_a_read_only_disk_is_read_and_not_written(disk, tmp_path):
    with Memory(disk / "m") as memory:
        memory.store_many((f"k{number}", f"fruit {number}") for number in range(100))
        memory.search("fruit")
        memory.store("late", "never searched before")
        memory.store("brief", "brief", ttl=0.5)
        memory.store("later", "begins", valid_from=time.time() + 0.5)
    time.sleep(0.6)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    with Memory(disk / "m") as memory:
        assert memory.retrieve("k7") == "fruit 7" and len(memory) == 102
        assert list(memory)[-3:] == ["k99", "late", "later"] and len(list(memory.items())) == 102
        assert memory.verify() == []
        assert memory.search("7")[0].key == "k7"
        assert "brief" not in list(memory) and memory.retrieve("brief") is None and memory.search("brief") == []
        assert memory.search("never searched before")[0].key == "late"
        memory.snapshot(tmp_path / "copy")
        for work in (lambda: memory.store("new", 1), lambda: memory.forget("k7"), lambda: memory.store("k7", "else")):
            assert "may not be written" in refused(work)
    assert "read-only" in refused(lambda: Memory(disk / "new"))
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    with Memory(disk / "m") as memory:
        assert memory.store("new", 1) == 1


def test_without_file_descriptors_there_is_a_clear_line_and_the_memory_goes_on(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Memory(tmp_path / "m") as memory:
        memory.store("k", "here")
        opened = []
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
            with contextlib.suppress(OSError):
                while True:
                    opened.append(open(os.devnull))  # noqa: SIM115
            assert memory.retrieve("k") == "here", "this thread has its connection"
            memory.store("k2", "stored")
            said = refused(lambda: Memory(tmp_path / "m"))
            assert "cannot be opened" in said and "ulimit -n" in said
        finally:
            for file in opened:
                file.close()
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert Memory(tmp_path / "m").retrieve("k2") == "stored"


CLOCK = """
import sys, time
from extmem import Memory
real, ahead = time.time, float(sys.argv[2])
time.time = lambda: real() + ahead
with Memory(sys.argv[1]) as memory:
    memory.keep_history()
    memory.store("k", sys.argv[3])
    memory.store("short", "x", ttl=1)
"""


def test_a_clock_that_goes_back_loses_nothing_and_turns_nothing_round(tmp_path):
    for ahead, value in ((0, "first"), (-86_400, "second"), (-3_600, "third"), (-(10**9), "fourth")):
        subprocess.run([sys.executable, "-c", CLOCK, tmp_path / "m", str(ahead), value], check=True)
    with Memory(tmp_path / "m") as memory:
        assert memory.retrieve("k") == "fourth"
        assert [r.value for r in memory.history("k")] == ["first", "second", "third", "fourth"]
        times = [r.updated for r in memory.history("k")]
        assert times == sorted(times)
        assert memory.retrieve("k", as_of=times[-1]) == "fourth"
        assert memory.verify() == []
