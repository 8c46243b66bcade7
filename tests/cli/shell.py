"""How the tests type commands: real processes, but for those that only refuse."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

EXTMEM = str(Path(sys.executable).with_name("extmem"))


def run(*words: str, folder: Path, env: dict[str, str] | None = None, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [EXTMEM, *words], cwd=folder, capture_output=True, text=True, env={**os.environ, **(env or {})}, **options
    )


def declined(*words: str, folder: Path, status: int = 2) -> str:
    """The one line of a command that refuses, typed within this process: most of its time would be its imports'."""
    from extmem.cli import main

    out, err = io.StringIO(), io.StringIO()
    with typed(words, folder), redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as end:
        main()
    return refused(subprocess.CompletedProcess(words, end.value.code, out.getvalue(), err.getvalue()), status)


@contextmanager
def typed(words: Sequence[str], folder: Path) -> Iterator[None]:
    before, place = sys.argv, Path.cwd()
    sys.argv = [EXTMEM, *words]
    os.chdir(folder)
    try:
        yield
    finally:
        sys.argv = before
        os.chdir(place)


def said(*words: str, folder: Path, **options) -> str:
    """What a command prints that succeeds, and says nothing on stderr."""
    done = run(*words, folder=folder, **options)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def told(*words: str, folder: Path, status: int = 0, **options) -> dict:
    """The one JSON object of a command under --json."""
    done = run(*words, "--json", folder=folder, **options)
    assert (done.returncode, done.stderr) == (status, ""), done
    assert done.stdout.count("\n") == 1
    return json.loads(done.stdout)


def refused(said: subprocess.CompletedProcess, status: int = 2) -> str:
    assert said.returncode == status, said.stderr
    assert said.stdout == ""
    lines = said.stderr.strip().splitlines()
    assert len(lines) == 1, said.stderr
    assert lines[0].startswith("error:")
    return lines[0]
