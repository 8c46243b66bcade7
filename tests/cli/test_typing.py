"""What a person types and sees: help, dates, standard input, terminals, pipes, errors for machines."""

from __future__ import annotations

import os
import pty
import re
import subprocess

import pytest
from shell import EXTMEM, declined, run, said, told

from extmem import Memory


def seen(*words: str, folder) -> str:
    """What a terminal is sent."""
    mine, theirs = pty.openpty()
    subprocess.run([EXTMEM, *words], cwd=folder, stdout=theirs, stderr=theirs, check=False)
    os.close(theirs)
    sent = b""
    try:
        while some := os.read(mine, 65536):
            sent += some
    except OSError:  # Linux's end of a terminal
        pass
    os.close(mine)
    return sent.decode().replace("\r\n", "\n")


def test_help_is_printed_without_words_and_names_the_command(tmp_path):
    bare = run(folder=tmp_path)
    assert (bare.returncode, bare.stderr) == (2, "")
    assert bare.stdout == said("--help", folder=tmp_path) == said("-h", folder=tmp_path)
    assert "Usage: extmem store" in said("store", "-h", folder=tmp_path)
    assert said("--version", folder=tmp_path) == "extmem 0.1.0\n"
    for words, path in ((("store",), "extmem store"), (("list", "--nope"), "extmem list"), (("nope",), "extmem")):
        assert declined(*words, folder=tmp_path).endswith(f"(see: {path} --help)")


def test_no_command_is_cut_in_the_list_and_all_take_json(tmp_path):
    from typer.main import get_command

    from extmem.cli import app

    listed = re.sub(r"\n {10,}", " ", said("--help", folder=tmp_path))
    assert "..." not in listed.split("Commands:")[1]
    for name, command in get_command(app).commands.items():
        first = re.split(r"(?<=\.)\s", command.help)[0]
        assert len(first) <= 60, name
        assert first in listed, name
        assert any("--json" in parameter.opts for parameter in command.params), name


def test_errors_are_one_object_for_machines(tmp_path):
    lost = told("list", "--memory", "m", folder=tmp_path, status=2)
    assert (lost["kind"], "there is no memory at m" in lost["error"]) == ("InvalidInput", True)
    assert "Missing argument" in told("store", folder=tmp_path, status=2)["error"]
    assert "VALUE" in told("store", "k", "v", "--ttl", "VALUE", folder=tmp_path, status=2)["error"]
    said("store", "k", "v", folder=tmp_path)
    conflict = told("store", "k", "w", "--expect", "4", folder=tmp_path, status=1)
    assert (conflict["kind"], "version 4 was expected" in conflict["error"]) == ("VersionConflict", True)
    assert "version 4 was expected" in declined("store", "k", "w", "--expect", "4", folder=tmp_path, status=1)
    assert said("store", "j", "--", "--json", folder=tmp_path) == ""
    assert said("retrieve", "j", folder=tmp_path) == "--json\n"
    assert "--json" in told("export", "-", folder=tmp_path, status=2)["error"]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory):
    """A folder with a memory m of more keys than a pipe holds."""
    folder = tmp_path_factory.mktemp("many")
    with Memory(folder / "m") as memory:
        memory.store_many((f"key {number:06}", "v") for number in range(20_000))
    return folder


@pytest.mark.parametrize("words", ["list", "list --json", "export -", "retrieve 'key 000001'", "stats", "--help"])
@pytest.mark.parametrize("reader", ["head -c 1", "true"])
def test_a_pipe_that_nobody_reads_ends_quietly(many, words, reader):
    typed = f'"{EXTMEM}" {words} | {reader} > /dev/null; echo ${{PIPESTATUS[0]}}'
    ended = subprocess.run(
        ["bash", "-c", typed], cwd=many, capture_output=True, text=True, env={**os.environ, "EXTMEM_MEMORY": "m"}
    )
    assert (ended.stdout, ended.stderr) == ("0\n", "")


@pytest.mark.parametrize("words", ["list", "stats --json"])
def test_an_output_that_is_full_is_one_line(many, words):
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [EXTMEM, *words.split(), "--memory", "m"], cwd=many, stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert ended.returncode == 2
    assert ended.stderr.count("\n") <= 1
    assert "Traceback" not in ended.stderr


def test_a_value_comes_from_standard_input(tmp_path):
    for given, kept in (("one\n two\r\n\n", "one\n two\r\n"), ("x", "x"), ("x\r\n", "x"), ("多\t\x1b\n", "多\t\x1b")):
        typed = subprocess.run([EXTMEM, "store", "k", "-"], cwd=tmp_path, input=given.encode(), capture_output=True)
        assert (typed.returncode, typed.stdout, typed.stderr) == (0, b"", b"")
        with Memory(tmp_path / "extmem.mem") as memory:
            assert memory.retrieve("k") == kept
    bad = subprocess.run([EXTMEM, "store", "k", "-"], cwd=tmp_path, input=b"ab\xff", capture_output=True)
    assert (bad.returncode, bad.stdout) == (2, b"")
    assert bad.stderr == b"error: standard input is not UTF-8 text (at byte 2): convert it.\n"
    assert "standard input" in said("store", "--help", folder=tmp_path)


def test_a_terminal_sees_control_characters_escaped_and_a_pipe_gets_them(tmp_path):
    with Memory(tmp_path / "m") as memory:
        memory.store("k\x1b[2J", "a\tb\x07\n\x9b31m\x7f")
    assert seen("list", "--memory", "m", folder=tmp_path) == "k\\x1b[2J\n"
    assert seen("retrieve", "k\x1b[2J", "--memory", "m", folder=tmp_path) == "a\tb\\x07\n\\x9b31m\\x7f\n"
    assert said("list", "--memory", "m", folder=tmp_path) == "k\x1b[2J\n"
    assert said("retrieve", "k\x1b[2J", "--memory", "m", folder=tmp_path) == "a\tb\x07\n\x9b31m\x7f\n"
    shown = seen("retrieve", "k\x1b[2J", "--memory", "m", "--json", folder=tmp_path)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", shown)
    assert told("retrieve", "k\x1b[2J", "--memory", "m", folder=tmp_path)["value"] == "a\tb\x07\n\x9b31m\x7f"
    assert "\x1b[2J" not in seen("list", "--memory", "\x1b[2J", folder=tmp_path)


def test_moments_and_times_are_what_they_say(tmp_path):
    from datetime import datetime

    for typed, seconds in (("90", 90), ("90s", 90), ("10m", 600), ("2h", 7200), ("7d", 604800), ("0.5m", 30)):
        said("store", typed, "v", "--ttl", typed, folder=tmp_path)
        record = told("retrieve", typed, folder=tmp_path)
        kept = datetime.fromisoformat(record["expires"]) - datetime.fromisoformat(record["created"])
        assert abs(kept.total_seconds() - seconds) <= 1
    for typed in ("10x", "m", "ten", "1 week"):
        assert f"{typed!r} is not a time" in declined("store", "k", "v", "--ttl", typed, folder=tmp_path)
    assert "more than 0" in declined("store", "k", "v", "--ttl", "0m", folder=tmp_path)
    assert "'soon' is not a date" in declined("store", "k", "v", "--valid-from", "soon", folder=tmp_path)
    assert "is not JSON" in declined("store", "k", "v", "--metadata", "{", folder=tmp_path)
    assert "without a zone it is UTC" in re.sub(r"\s+", " ", said("store", "--help", folder=tmp_path))
    said("store", "job", "cook", "--valid-from", "2020-01-01", "--valid-to", "2021-01-01T00:00Z", folder=tmp_path)
    env = {"TZ": "Asia/Tokyo"}
    assert said("retrieve", "job", "--as-of", "2020-01-01T00:00", folder=tmp_path, env=env) == "cook\n"
    assert run("retrieve", "job", "--as-of", "2019-12-31T23:59", folder=tmp_path, env=env).returncode == 1
    (line,) = said("history", "job", folder=tmp_path).splitlines()
    assert line.endswith("-  from 2020-01-01T00:00:00+00:00  until 2021-01-01T00:00:00+00:00  cook")


def test_search_prints_rank_and_three_digits(tmp_path):
    with Memory(tmp_path / "m") as memory:
        memory.store_many([("apple", "a red fruit"), ("pear", "a fruit\nthat is green, and sweet")])
    lines = said("search", "fruit", "--memory", "m", folder=tmp_path).splitlines()
    assert [line.split()[0] for line in lines] == ["1", "2"]
    for line in lines:
        digits = line.split()[1]
        assert re.fullmatch(r"\d+(\.\d+)?", digits)
        assert len(digits.replace(".", "").lstrip("0")) == 3
    assert lines[0].split(maxsplit=2)[2] == "apple  a red fruit"
