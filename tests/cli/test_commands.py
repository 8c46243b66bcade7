"""The commands as a person types them: real processes, exit statuses, one line for an error."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import time

import pytest
from shell import EXTMEM, declined, refused, run


def test_store_retrieve_list_search_forget(tmp_path):
    assert run("store", "apple", "A fruit", "--memory", "m", folder=tmp_path).returncode == 0
    said = run("retrieve", "apple", "--memory", "m", folder=tmp_path)
    assert (said.stdout, said.stderr, said.returncode) == ("A fruit\n", "", 0)
    missing = run("retrieve", "pear", "--memory", "m", folder=tmp_path)
    assert (missing.stdout, missing.returncode) == ("", 1)
    assert run("list", "--memory", "m", folder=tmp_path).stdout == "apple\n"
    assert json.loads(run("list", "--memory", "m", "--json", folder=tmp_path).stdout) == {"keys": ["apple"]}
    found = json.loads(run("search", "fruit", "--memory", "m", "--json", folder=tmp_path).stdout)
    assert found["hits"][0]["key"] == "apple"
    assert run("forget", "apple", "--memory", "m", folder=tmp_path).returncode == 0
    assert run("forget", "apple", "--memory", "m", folder=tmp_path).returncode == 1


def test_the_memory_is_extmem_mem_or_what_the_environment_says(tmp_path):
    run("store", "k", "here", folder=tmp_path)
    assert (tmp_path / "extmem.mem" / "records.db").exists()
    run("store", "k", "there", folder=tmp_path, env={"EXTMEM_MEMORY": "other"})
    assert run("retrieve", "k", folder=tmp_path).stdout == "here\n"
    assert run("retrieve", "k", "--memory", "other", folder=tmp_path).stdout == "there\n"


def test_reading_a_memory_that_is_not_there_says_so_and_makes_none(tmp_path, model, corpus):
    trained, held = str(corpus.parent / "model"), str(corpus.parent / "held-out.txt")
    (tmp_path / "emptied").mkdir()
    for words in (
        ("retrieve", "k"), ("forget", "k"), ("search", "k"), ("list",), ("stats",), ("verify",), ("namespaces",),
        ("verify", "--repair"), ("keep-history",), ("export", "f"), ("export", "-"), ("snapshot", "f"),
        ("history", "k"), ("duplicates",), ("drop", "n"), ("salvage", "f"), ("rotate",),
        ("evaluate", trained, held), ("generate", trained, "The"),
    ):  # fmt: skip
        place = "emptied" if words[0] in ("list", "stats", "verify") else "m"
        line = declined(*words, "--memory", place, folder=tmp_path)
        assert f"there is no memory at {place}: check the path, or store something first." in line
    assert "there is no memory at s" in declined("restore", "s", "--memory", "m", folder=tmp_path)
    assert "''" in declined("list", "--memory", "", folder=tmp_path)
    assert list(tmp_path.rglob("*")) == [tmp_path / "emptied"]


def test_a_command_closes_the_memory_even_after_an_error(tmp_path):
    run("store", "a", "b", "--memory", "m", folder=tmp_path)
    for words, status in (
        (("retrieve", "a"), 0), (("search", "b"), 0), (("list",), 0), (("stats",), 0), (("verify",), 0),
        (("search", "b", "--k", "0"), 2), (("store", "a", "c", "--expect", "7"), 1), (("forget", "a"), 0),
    ):  # fmt: skip
        assert run(*words, "--memory", "m", folder=tmp_path).returncode == status
        assert [path.name for path in (tmp_path / "m").iterdir()] == ["records.db"]


def test_a_namespace_without_a_name_is_refused(tmp_path):
    run("store", "k", "root", "--memory", "m", folder=tmp_path)
    for name in ("", "/", "a//b", "a/"):
        for words in (("store", "k", "v"), ("retrieve", "k"), ("forget", "k"), ("list",), ("stats",), ("export", "f")):
            line = declined(*words, "--memory", "m", "--namespace", name, folder=tmp_path)
            assert f"{name!r} is not a namespace" in line
        assert "is not a namespace" in declined("drop", name, "--memory", "m", folder=tmp_path)
    declined("store", "k", "v", "--memory", "new", "--namespace", "", folder=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    run("store", "k", "inner", "--memory", "m", "--namespace", "team/alice", folder=tmp_path)
    assert run("namespaces", "--memory", "m", folder=tmp_path).stdout == "team/alice\n"
    assert run("retrieve", "k", "--memory", "m", folder=tmp_path).stdout == "root\n"


def test_several_keys_are_forgotten_at_once(tmp_path):
    for key in "abcd":
        run("store", key, "v", "--memory", "m", folder=tmp_path)
    said = run("forget", "a", "b", "x", "--memory", "m", "--json", folder=tmp_path)
    assert (json.loads(said.stdout), said.returncode) == ({"keys": ["a", "b", "x"], "forgotten": 2}, 0)
    said = run("forget", "c", "--memory", "m", "--json", folder=tmp_path)
    assert json.loads(said.stdout) == {"key": "c", "forgotten": True}
    said = run("forget", "c", "--memory", "m", "--json", folder=tmp_path)
    assert (json.loads(said.stdout), said.returncode) == ({"key": "c", "forgotten": False}, 1)
    assert run("forget", "x", "y", "--memory", "m", folder=tmp_path).returncode == 1
    assert run("list", "--memory", "m", folder=tmp_path).stdout == "d\n"


@pytest.mark.parametrize("text", ["[bold]x[/bold]", ":smile:\ta\x0bb", "多行\n文字", "a  b " * 60])
def test_a_value_is_printed_as_it_is(tmp_path, text):
    run("store", "k", text, folder=tmp_path)
    assert run("retrieve", "k", folder=tmp_path).stdout == text + "\n"


def test_memorize_evaluate_generate(tmp_path, model, corpus):
    texts = corpus.parent
    folder = str(texts / "model")
    said = run("memorize", folder, str(texts / "manual.txt"), "--memory", "m", "--json", folder=tmp_path)
    assert json.loads(said.stdout)["entries"] > 500
    again = run("memorize", folder, str(texts / "manual.txt"), "--memory", "m", "--json", folder=tmp_path)
    assert json.loads(again.stdout)["entries"] == 0
    (store,) = json.loads(run("stats", "--memory", "m", "--json", folder=tmp_path).stdout)["datastores"]
    shown = f"{store['entries']:,} entries of model {store['fingerprint']}"
    assert shown in run("stats", "--memory", "m", folder=tmp_path).stdout
    held = str(texts / "held-out.txt")
    table = run("evaluate", folder, held, "--memory", "m", folder=tmp_path)
    assert "+ datastore" in table.stdout
    figures = json.loads(run("evaluate", folder, held, "--memory", "m", "--json", folder=tmp_path).stdout)
    assert figures["perplexity"]["memory"] < figures["perplexity"]["model"]
    without = json.loads(run("evaluate", folder, held, "--json", folder=tmp_path).stdout)
    assert without["perplexity"]["datastore"] is None
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    assert [path.name for path in (tmp_path / "m").iterdir() if path.name.startswith("records")] == ["records.db"]
    assert without["perplexity"]["model"] == pytest.approx(figures["perplexity"]["model"])
    said = run("generate", folder, "The with statement", "--memory", "m", "--json", folder=tmp_path)
    tokens = json.loads(said.stdout)["tokens"]
    text = (texts / "manual.txt").read_text()
    cited = [(token["text"], place) for token in tokens for place in token["citations"]]
    assert cited
    for word, place in cited:
        assert place["key"] == "manual.txt"
        assert text[place["start"] : place["end"]] == word or word == "<unk>"
    assert all(sum(c["weight"] for c in t["citations"]) <= t["memory_share"] + 1e-6 for t in tokens)


def test_bad_input_gets_one_line(tmp_path, model, corpus):
    folder = str(corpus.parent / "model")
    (tmp_path / "empty").mkdir()
    (tmp_path / "blob.txt").write_bytes(bytes(range(256)))
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "checkpoint.json").write_text("{}")
    (tmp_path / "file").write_text("x")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "model.json").write_text('{"format": 99}')
    (tmp_path / "short.txt").write_text("one two three four five six. " * 60)
    for words, expected in [
        (("train", "empty", "--out", "m"), "holds"),
        (("train", "nowhere", "--out", "m"), "does not exist"),
        (("train", "blob.txt", "--out", "m"), "blob.txt"),
        (("train", "short.txt", "--out", "m", "--vocabulary", "5000"), "of 5000 words is larger"),
        (("train", str(corpus), "--out", folder), "holds a trained model"),
        (("evaluate", "nowhere", "short.txt"), "holds no model"),
        (("evaluate", "half", "short.txt"), "interrupted"),
        (("evaluate", "old", "short.txt"), "format 99"),
        (("generate", folder, "qwertyuiop asdfgh"), "qwertyuiop"),
        (("generate", folder, "  "), "empty"),
        (("generate", folder, "the", "--top-p", "3"), "top_p"),
        (("store", "k", "v", "--memory", "file"), "file"),
        (("evaluate",), "Missing"),
        (("nonsense",), "nonsense"),
    ]:
        assert expected in declined(*words, folder=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "blob.txt", "empty", "file", "half", "old", "short.txt"
    ]  # fmt: skip


def test_a_datastore_of_another_model_is_refused(tmp_path, model, corpus):
    from extmem import Memory

    with Memory(tmp_path / "m") as memory, memory.transaction():
        memory.records.ledger_put("datastore", "0123456789abcdef", {"dim": 32})
    said = run(
        "evaluate", str(corpus.parent / "model"), str(corpus.parent / "held-out.txt"), "--memory", "m", folder=tmp_path
    )
    assert "another model" in refused(said)


SMALL = ("--units", "16", "--embedding", "16", "--epochs", "3", "--batch", "4", "--slots", "2", "--capacity", "20")


def test_training_killed_and_started_again_ends_with_the_same_weights(tmp_path, corpus):
    whole = json.loads(run("train", str(corpus), "--out", "whole", *SMALL, "--json", folder=tmp_path).stdout)
    process = subprocess.Popen(
        [EXTMEM, "train", str(corpus), "--out", "cut", *SMALL], cwd=tmp_path, stderr=subprocess.DEVNULL
    )
    deadline = time.time() + 120
    while not (tmp_path / "cut" / "checkpoint.json").exists() and time.time() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "cut" / "model.json").exists()
    assert "interrupted" in declined("generate", "cut", "the", folder=tmp_path)
    resumed = json.loads(run("train", str(corpus), "--out", "cut", *SMALL, "--json", folder=tmp_path).stdout)
    assert resumed["fingerprint"] == whole["fingerprint"]


def test_ctrl_c_is_one_line_and_loses_nothing(tmp_path, corpus):
    process = subprocess.Popen(
        [EXTMEM, "train", str(corpus), "--out", "m", *SMALL, "--epochs", "500", "--patience", "500"],
        cwd=tmp_path, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )  # fmt: skip
    deadline = time.time() + 120
    while not (tmp_path / "m" / "checkpoint.json").exists() and time.time() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    said = process.communicate()[1]
    assert process.returncode == 2
    assert "stopped" in said.strip().splitlines()[-1]
    assert "Traceback" not in said
    assert (tmp_path / "m" / "checkpoint.json").exists()


def test_a_disk_that_is_full_leaves_what_was_there(tmp_path, model, corpus):
    def small_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))

    said = run("train", str(corpus), "--out", "m", *SMALL, folder=tmp_path, preexec_fn=small_files)
    assert said.returncode == 2
    assert "raise the file size limit" in said.stderr.strip().splitlines()[-1]
    assert not (tmp_path / "m" / "model.json").exists()
    run("memorize", str(corpus.parent / "model"), str(corpus.parent / "manual.txt"), "--memory", "mem", folder=tmp_path)
    before = json.loads(run("stats", "--memory", "mem", "--json", folder=tmp_path).stdout)
    big = str(corpus)
    full = run(
        "memorize", str(corpus.parent / "model"), big, "--memory", "mem", folder=tmp_path, preexec_fn=small_files
    )
    assert full.returncode == 2
    assert json.loads(run("stats", "--memory", "mem", "--json", folder=tmp_path).stdout) == before
    assert run("verify", "--memory", "mem", folder=tmp_path).returncode == 0
