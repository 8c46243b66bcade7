"""Export and import: everything that is known of a record goes there and back, whenever it is interrupted."""

from __future__ import annotations

import gzip
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extmem import Memory
from extmem.errors import ExtmemError, InvalidInput
from extmem.exchange.importing import Imported, import_from
from extmem.exchange.lines import export, write


def filled(memory: Memory) -> Memory:
    for place in (
        memory,
        memory.namespace("alice"),
        memory.namespace("alice").namespace("work"),
        memory.namespace("中"),
    ):
        place.keep_history()
        place.store_many([(f"key {number:03}", f"value {number}") for number in range(60)], author="ann", trust=0.5)
        place.store("key 007", b"\0\xff", metadata={"page": [1, None, "\0"]})
        place.store("ceo", "Ann", valid_from=1.0)
        place.store("ceo", "Bob", valid_from=2.0, valid_to=9e9)
        place.store("past", "over", valid_from=1.0, valid_to=2.0)
        place.store("soon", "x", ttl=10**6)
        place.store("odd", {"nan": float("nan"), "big": 10**40, "": [True, 1.0]})
        place.store("", "empty key\nline\u2028")
        place.store("forgotten", "x")
        place.forget("forgotten")
    return memory


def everything(memory: Memory) -> str:
    """All that a memory answers, but for ids, as text: NaN equals NaN there."""
    said = []
    for name in ["", *memory.namespaces()]:
        here = memory.at(name) if name else memory
        keys = sorted([*here.keys(), *here.records.waiting()])
        said.append((name, [[r._replace(id=0) for r in here.history(key)] for key in keys]))
        said.append([here.retrieve(key, as_of=1.5) for key in keys])
    return repr(said)


def test_what_is_exported_is_imported_as_it_was(tmp_path):
    memory = filled(Memory(tmp_path / "m"))
    count = export(memory, tmp_path / "all.jsonl")
    lines = (tmp_path / "all.jsonl").read_text().split("\n")
    assert json.loads(lines[0]) == {"extmem": "export", "format": 1}
    assert len(lines) == count + 2 == 4 * 65 + 2
    for place in (None, tmp_path / "other"):
        other = Memory(place)
        assert import_from(other, tmp_path / "all.jsonl") == Imported(count, 0, "lines")
        assert everything(other) == everything(memory)
        assert other.records.ledger("import") == {} and other.verify() == []
        assert other.search("value 59")[0].key == "key 059"
    assert not (tmp_path / "all.jsonl.partial").exists()


def test_a_namespace_exports_itself_and_what_is_below_and_nothing_else(tmp_path):
    memory = filled(Memory())
    export(memory.namespace("alice"), tmp_path / "hers.jsonl")
    other = Memory()
    import_from(other, tmp_path / "hers.jsonl")
    assert other.namespaces() == ["work"]
    assert everything(other) == everything(memory.namespace("alice"))


def test_importing_twice_adds_nothing_and_what_is_there_is_superseded(tmp_path):
    memory = Memory()
    memory.store_many((f"k{number}", number) for number in range(10))
    export(memory, tmp_path / "a.jsonl")
    other = Memory()
    other.store("k3", "old")
    for _ in range(2):
        import_from(other, tmp_path / "a.jsonl")
    assert dict(other.items()) == dict(memory.items())
    assert (other.record("k3").version, other.record("k4").version) == (2, 1)


def test_importing_twice_adds_nothing_to_a_key_with_history_or_validity(tmp_path):
    memory = Memory()
    memory.store("ceo", "Ann", valid_from=1.0)
    memory.store("ceo", "Bob", valid_from=2.0)
    memory.keep_history()
    for value in (1, 2):
        memory.store("k", value)
    export(memory, tmp_path / "a.jsonl")
    for other in (memory, Memory(tmp_path / "m")):
        for _ in range(2):
            assert import_from(other, tmp_path / "a.jsonl").records == 2
        assert [record.value for record in other.history("k")] == [1, 2]
        assert [record.value for record in other.history("ceo")] == ["Ann", "Bob"]
        assert (other.record("k").version, other.record("ceo").version) == (2, 2)


@pytest.mark.parametrize("place", ["RAM", "disk"])
def test_what_begins_and_ends_meanwhile_is_exported_once_and_what_has_expired_is_not(tmp_path, place):
    memory, soon = Memory(None if place == "RAM" else tmp_path / "m"), time.time() + 2
    for here in (memory, memory.namespace("alice")):
        here.store("begins", 1, valid_from=soon)
        here.store("ends", 1, valid_from=1.0, valid_to=soon)
        here.store("expires", 1, ttl=0.5)
        here.store("stays", 1)
    time.sleep(0.6)
    assert memory.records.find("expires") is not None, "nothing has settled"
    count = export(memory, tmp_path / "a.jsonl", lambda done: time.sleep(done and max(0.0, soon + 0.1 - time.time())))
    keys = [json.loads(line).get("key") for line in (tmp_path / "a.jsonl").read_text().splitlines()[1:]]
    assert keys == ["begins", "ends", "stays"] * 2 and count == 6


CHANGE = """
import sys
from extmem import Memory
memory = Memory(sys.argv[1])
memory.drop_namespace("b")
memory.namespace("c").store("new", 1)
memory.namespace("a").forget("k0299")
memory.namespace("a").store("k0298", "x")
"""


def test_an_export_is_of_one_moment_whatever_others_do_meanwhile(tmp_path):
    memory = Memory(tmp_path / "m")
    for name in ("a", "b"):
        memory.namespace(name).store_many((f"k{number:04}", number) for number in range(300))
    begins = time.time() + 1
    memory.namespace("b").store("begins", "later", valid_from=begins)

    def others(done: int) -> None:
        if done == 1:
            subprocess.run([sys.executable, "-c", CHANGE, str(tmp_path / "m")], check=True)
            time.sleep(max(0.0, begins + 0.2 - time.time()))

    whole = io.BytesIO()
    write(memory, whole)
    assert export(memory, tmp_path / "a.jsonl", others) == 601
    assert (tmp_path / "a.jsonl").read_bytes() == whole.getvalue()
    assert export(memory, tmp_path / "a.jsonl") == 300
    assert memory.store("k", "and it can be written again") == 1


def test_only_its_owner_may_read_an_export(tmp_path):
    memory, path, draft = filled(Memory()), tmp_path / "a.jsonl", tmp_path / "a.jsonl.partial"
    modes, old = set(), os.umask(0)
    try:
        for file in (path, draft):
            file.touch(0o666)
        for _ in range(2):  # the second time there is no draft
            export(memory, path, lambda _: modes.add(draft.stat().st_mode & 0o777))
    finally:
        os.umask(old)
    assert {*modes, path.stat().st_mode & 0o777} == {0o600}
    with pytest.raises(InvalidInput, match="is a folder"):
        export(memory, tmp_path)


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    ).filter(lambda value: value is not None)
    | st.binary(),
    key=st.text(),
)
def test_any_value_goes_there_and_back(value, key, tmp_path_factory):
    folder, memory, other = tmp_path_factory.mktemp("any"), Memory(), Memory()
    memory.store(key, value)
    export(memory, folder / "a.jsonl")
    import_from(other, folder / "a.jsonl")
    assert repr(dict(other.items())) == repr({key: value})
    assert type(other.retrieve(key)) is type(value)


RUN = """
import sys
from extmem import Memory
from extmem.exchange import importing, lines
importing.RECORDS = 50
tell = lambda done: print(done, flush=True)
memory = Memory(sys.argv[2])
if sys.argv[1] == "in":
    importing.import_from(memory, sys.argv[3], progress=tell)
else:
    lines.export(memory, sys.argv[3], tell)
"""


@pytest.mark.parametrize("direction", ["in", "out"])
def test_killed_anywhere_and_run_again_it_is_as_if_it_had_not_been(tmp_path, direction):
    memory = Memory(tmp_path / "m")
    memory.store_many((f"k{number:05}", f"value {number} " * 20) for number in range(4000))
    whole = tmp_path / "whole.jsonl"
    export(memory, whole)
    arguments = (
        ["in", tmp_path / "new", whole] if direction == "in" else ["out", tmp_path / "m", tmp_path / "out.jsonl"]
    )
    for wait in (1, 30, None):
        child = subprocess.Popen([sys.executable, "-c", RUN, *map(str, arguments)], stdout=subprocess.PIPE, text=True)
        with child:
            if wait is not None:
                for _ in range(wait):
                    child.stdout.readline()
                child.send_signal(signal.SIGKILL)
            child.stdout.read()
    if direction == "in":
        assert list(Memory(tmp_path / "new").scan()) == [
            r._replace(id=Memory(tmp_path / "new").record(r.key).id) for r in memory.scan()
        ]
    else:
        assert (tmp_path / "out.jsonl").read_bytes() == whole.read_bytes()


def test_an_export_never_goes_on_where_another_memory_left_off(tmp_path):
    memory, path = Memory(), tmp_path / "a.jsonl"
    alice, bob = memory.namespace("alice"), memory.namespace("bob")
    for here in (alice, bob):
        here.store_many((f"k{number}", f"{here.records.namespace}'s {number}") for number in range(9))
    export(alice, path)
    whole = path.read_bytes()
    for left in [whole[:cut] for cut in range(0, len(whole), 50)] + [b"another's file\n" * 3]:
        path.with_name("a.jsonl.partial").write_bytes(left)
        assert export(bob, path) == 9
        assert b"alice" not in path.read_bytes()
    path.with_name("a.jsonl.partial").write_bytes(whole)
    alice.forget("k8")
    assert export(alice, path) == 8
    assert b"alice's 8" not in path.read_bytes()


def test_a_broken_line_is_named_and_after_mending_it_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr("extmem.exchange.importing.RECORDS", 10)
    memory = Memory()
    memory.store_many((f"k{number:02}", number) for number in range(40))
    path = tmp_path / "a.jsonl"
    export(memory, path)
    good = path.read_text().split("\n")
    for broken in ("{", '{"key": 3, "value": 1}', '{"key": "k"}', '{"key": "k", "bytes": "?"}', "[1]",
                   '{"key": "\\ud800", "value": 1}', '{"key": "k", "value": 1, "updated": "today"}'):  # fmt: skip
        other = Memory(tmp_path / f"m{len(broken)}")
        path.write_text("\n".join([*good[:26], broken, *good[27:]]))
        with pytest.raises(InvalidInput) as error:
            import_from(other, path)
        assert "line 27" in str(error.value) or "surrogate" in str(error.value)
        assert len(other) == 20, "whole batches are kept"
        path.write_text("\n".join(good))
        assert import_from(other, path).records == 40
        assert dict(other.items()) == dict(memory.items())


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"value": None}, "value"),
        ({"version": 0}, "version"),
        ({"version": "2"}, "version"),
        ({"version": True}, "version"),
        ({"version": 2**70}, "version"),
        ({"created": float("nan")}, "created"),
        ({"created": 10**400}, ""),
        ({"updated": float("inf")}, "updated"),
        ({"updated": "today"}, "updated"),
        ({"expires": float("inf")}, "expires"),
        ({"valid_from": [1]}, "valid_from"),
        ({"valid_to": float("nan")}, "valid_to"),
        ({"trust": None}, "left out, not null"),
        ({"trust": 1.5}, "trust"),
        ({"trust": "high"}, "trust"),
        ({"metadata": ["a"]}, "metadata"),
        ({"author": 7}, "author"),
        ({"states": []}, "states is a list"),
        ({"states": [1]}, "a state is an object"),
        ({"states": [{"value": 1, "version": 2}, {"value": 2, "version": 2}]}, "versions of states ascend"),
    ],
)
def test_a_line_that_no_memory_would_have_written_is_refused(tmp_path, said, why):
    line = json.dumps({"key": "k", "value": 1, "version": 1, "created": 1.0, "updated": 1.0, **said})
    (tmp_path / "a.jsonl").write_text(f'{{"extmem": "export", "format": 1}}\n{line}\n')
    memory = Memory()
    with pytest.raises(InvalidInput, match=f"line 2 is not a record of an export .*{why}") as error:
        import_from(memory, tmp_path / "a.jsonl")
    assert "\n" not in str(error.value) and len(memory) == 0


def test_what_was_changed_in_the_future_is_taken_as_changed_now(tmp_path):
    said = {"key": "k", "value": 1, "created": 9e9, "updated": 9e9}
    for line in (said, {**said, "states": [{"value": 1, "updated": 9e9}]}):
        (tmp_path / "a.jsonl").write_text(f'{{"extmem": "export", "format": 1}}\n{json.dumps(line)}\n')
        memory = Memory()
        assert import_from(memory, tmp_path / "a.jsonl").records == 1
        assert memory.retrieve("k") == 1 and memory.record("k").updated <= time.time()


@pytest.mark.parametrize("first", ["{", "[1]", '{"key": "k", "value": 1}'])
def test_a_file_that_does_not_begin_as_an_export_is_not_taken_for_one(tmp_path, first):
    (tmp_path / "a.jsonl").write_text(first)
    with pytest.raises(InvalidInput, match="jsonl is not an export"):
        import_from(Memory(), tmp_path / "a.jsonl", "lines")


def test_a_newer_export_is_refused(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"extmem": "export", "format": 2}\n')
    with pytest.raises(ExtmemError, match="format 2"):
        import_from(Memory(), tmp_path / "a.jsonl")


def test_an_import_needs_no_more_memory_for_more_records(tmp_path):
    """Peak of resident memory, for 5,000 and for 100,000 records of 500 bytes (2.5 and 50 MB)."""
    measure = (
        "import resource, sys\nfrom extmem import Memory\nfrom extmem.exchange.importing import import_from\n"
        "import_from(Memory(sys.argv[1]), sys.argv[2])\nprint(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peaks = []
    for count in (5_000, 100_000):
        path = tmp_path / f"{count}.jsonl.gz"
        with gzip.open(path, "wt", compresslevel=1) as file:
            file.writelines(json.dumps({"id": f"k{n}", "text": "x" * 500}) + "\n" for n in range(count))
        words = [sys.executable, "-c", measure, str(tmp_path / f"m{count}"), str(path)]
        peaks.append(int(subprocess.run(words, capture_output=True, text=True, check=True).stdout))
    assert peaks[1] < peaks[0] + 40_000, f"{peaks} KiB"


def test_the_commands_export_and_import(tmp_path):
    extmem = str(Path(sys.executable).with_name("extmem"))
    environment = {**os.environ, "EXTMEM_MEMORY": str(tmp_path / "m")}
    filled(Memory(tmp_path / "m")).close()
    begun = time.time()
    for words in (["export", "a.jsonl"], ["import", "a.jsonl", "--memory", "other", "--json"], ["export", "-"]):
        said = subprocess.run([extmem, *words], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert said.returncode == 0, said.stderr
        if "--json" in words:
            assert json.loads(said.stdout) == {"records": 260, "repeated": 0, "kind": "lines", "skipped": 0}
    assert said.stdout == (tmp_path / "a.jsonl").read_text()
    assert everything(Memory(tmp_path / "other")) == everything(Memory(tmp_path / "m"))
    assert time.time() - begun < 60
