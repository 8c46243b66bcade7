"""extmem chat: a message, lines from a pipe, a terminal; what it prints, and how it goes on when an answer fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from shell import EXTMEM, declined, run, said, told

from chat_server import StreamingServer, streaming_server
from extmem import Memory

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture
def server() -> Iterator[StreamingServer]:
    with streaming_server() as running:
        yield running


def talk(folder: Path, lines: str, *words: str) -> subprocess.CompletedProcess[str]:
    return run("chat", "--user", "alice", "--words", *words, folder=folder, input=lines)


def test_a_message_is_answered_and_the_next_run_remembers_it(tmp_path: Path) -> None:
    alice = ("chat", "--user", "alice", "--words")
    assert said(*alice, "I live in Paris.", folder=tmp_path) == "noted: I live in Paris\n"
    assert said(*alice, "I moved to Lyon.", folder=tmp_path) == "noted: I moved to Lyon\n"
    assert said(*alice, "Where do I live?", folder=tmp_path).splitlines() == [
        "I moved to Lyon",
        "  turn/00000003 [0:16]",
        "  turn/00000001 [0:16]",
    ]
    other = run("chat", "--user", "bob", "--words", "Where do I live?", folder=tmp_path)
    assert (other.returncode, other.stdout) == (1, "not in memory\n")


def test_lines_of_a_pipe_are_a_session_with_commands(tmp_path: Path) -> None:
    typed = ("I love hiking.", "", "I hate fog.", "/memories", "What do I like?", "When was I hiking?", "/recalled")
    done = talk(tmp_path, "\n".join((*typed, "/forget 1", "/memories", "/forget 9", "/what")))
    assert done.returncode == 0
    shown = done.stdout.splitlines()
    assert shown[:6] == [
        "noted: I love hiking",
        "noted: I hate fog",
        "  1  liking/fog: I hate fog.  (turn/00000003)",
        "  2  liking/hiking: I love hiking.  (turn/00000001)",
        "I love hiking",
        "  turn/00000001 [0:14]",
    ]
    assert "  1  liking/hiking: I love hiking.  (turn/00000001)" in shown
    assert "forgotten: preference/liking/fog" in done.stdout
    assert "there is no 9" in shown
    assert "/memories " in done.stdout
    assert any(line.startswith("  ") and "turn/00000001  I love hiking." in line for line in shown[6:])


def test_json_is_an_object_an_answer(tmp_path: Path) -> None:
    done = talk(tmp_path, "I love hiking.\nWhat do I like?\n/memories\n/forget turn/00000001\n", "--json")
    noted, found, memories, gone = map(json.loads, done.stdout.splitlines())
    assert noted["learned"][0]["value"] == "I love hiking."
    assert found["text"] == "I love hiking"
    assert found["citations"] == [{"key": "turn/00000001", "start": 0, "end": 14, "weight": 1.0}]
    assert memories["memories"][0]["turns"] == ["turn/00000001"]
    assert {"turn/00000001", "turn/00000002", "turn/00000004", "preference/liking/hiking"} == set(gone["forgotten"])
    one = told("chat", "--user", "alice", "--words", "What do I like?", folder=tmp_path, status=1)
    assert (one["text"], one["failed"]) == (None, None)


def test_a_preference_is_edited_as_any_record(tmp_path: Path) -> None:
    talk(tmp_path, "I live in Paris.\n")
    said("store", "preference/home", "I live in Rome", "--namespace", "alice", folder=tmp_path)
    done = talk(tmp_path, "I moved to Lyon.\nWhere do I live?\n/memories\n")
    assert done.stdout.splitlines() == [
        "noted",
        "I live in Rome",
        "  preference/home [0:14]",
        "  1  home: I live in Rome  (written by hand)",
    ]
    said("forget", "preference/home", "--namespace", "alice", folder=tmp_path)
    assert talk(tmp_path, "/memories\n").stdout == "nothing yet\n"


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (("--user", ""), "namespace ''"),
        (("--user", "a/b"), "namespace 'a/b'"),
        (("--user", "alice", " "), "says nothing"),
        (("--user", "alice", "--writer", "nowhere/at all", "Hello"), "nowhere"),
        (("--user", "alice", "--writer", "http://host", "Hello"), "http://host"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, words: tuple[str, ...], cause: str) -> None:
    assert cause in declined("chat", "--words", *words, folder=tmp_path)


def test_a_line_that_is_not_text_is_refused_and_those_before_it_are_kept(tmp_path: Path) -> None:
    done = subprocess.run(
        [EXTMEM, "chat", "--user", "alice", "--words"],
        cwd=tmp_path,
        input=b"I love tea.\n\xff\xfe\n",
        capture_output=True,
    )
    assert done.returncode == 2
    assert b"line 2 of standard input is not UTF-8" in done.stderr
    assert "liking/tea" in talk(tmp_path, "/memories\n").stdout


def test_an_endpoint_that_breaks_off_is_said_in_a_line_and_the_chat_goes_on(
    tmp_path: Path, server: StreamingServer
) -> None:
    done = talk(tmp_path, "I love hiking.\nAnd again?\n/memories\n", "--writer", server.spec("breaks"))
    assert done.returncode == 0
    assert done.stdout.splitlines()[:2] == ["You love ", "You love "]
    assert "liking/hiking: I love hiking." in done.stdout
    errors = done.stderr.strip().splitlines()
    assert len(errors) == 2
    assert all("broke off its answer" in line for line in errors)
    alone = run("chat", "--user", "alice", "--words", "Hi?", "--writer", server.spec("breaks"), folder=tmp_path)
    assert alone.returncode == 2
    assert alone.stderr.count("\n") == 1
    good = run("chat", "--user", "alice", "--words", "Hi?", "--writer", server.spec("good"), folder=tmp_path)
    assert good.returncode == 0
    assert good.stdout.splitlines()[0] == "You love hiking [1]."
    with Memory(tmp_path / "extmem.mem") as memory:
        halves = list(memory.namespace("alice").scan("turn/", where={"metadata.broken": True}))
        assert [half.value for half in halves] == ["You love "] * 3


def test_what_is_streamed_is_printed_as_it_comes_and_a_killed_chat_keeps_the_turn(
    tmp_path: Path, server: StreamingServer
) -> None:
    words = [EXTMEM, "chat", "--user", "alice", "--words", "--writer", server.spec("hangs"), "I love hiking."]
    process = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert os.read(process.stdout.fileno(), 100)  # while the server still waits
    assert server.halfway.wait(60)
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    process.stdout.close()
    with Memory(tmp_path / "extmem.mem") as memory:
        assert memory.verify() == []
        assert [turn.value for turn in memory.namespace("alice").scan("turn/")] == ["I love hiking."]
    assert "I love hiking." in talk(tmp_path, "/memories\n").stdout


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
def test_a_terminal_has_a_prompt_a_history_and_ends_with_the_input(tmp_path: Path) -> None:
    import pty

    talk(tmp_path, "I love hiking.\n")
    parent, child = pty.openpty()
    process = subprocess.Popen(
        [EXTMEM, "chat", "--user", "alice", "--words"], cwd=tmp_path, stdin=child, stdout=child, stderr=child
    )
    os.close(child)
    shown = b""

    def until(text: bytes) -> None:
        """Reads on until this is shown; what comes after it is left for the next."""
        nonlocal shown
        while text not in shown:
            shown += os.read(parent, 1000)
        shown = shown.partition(text)[2]

    until(b"> ")
    os.write(parent, b"\x1b[A")  # the arrow key up brings the last turn back
    until(b"I love hiking.")
    os.write(parent, b"\n")
    until(b"noted: I love hiking")
    until(b"> ")
    os.write(parent, b"/help\n")
    until(b"/recalled")
    until(b"> ")
    os.write(parent, b"\x04")
    assert process.wait(30) == 0
    os.close(parent)
