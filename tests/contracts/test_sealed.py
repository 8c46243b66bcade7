"""What sealed records promise beyond the contract of records: nothing of them lies open, what was changed
is told, keys are rotated while others work, and what has lost its key is gone."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import random
import stat
import threading
from collections.abc import Callable, Iterator
from functools import reduce
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from extmem.errors import InvalidInput, MemoryFormatError, StorageError, WrongKey
from extmem.records import keys as keys_module
from extmem.records.base import Record, Records
from extmem.records.keys import ID, master_key, new_master_key, write_key_file
from extmem.records.ram import RamRecords
from extmem.records.sealed import Sealed
from extmem.records.vault import SEALS, is_sealed, unpacked

KEY, OTHER = b"k" * 32, b"o" * 32


@pytest.fixture
def inner() -> Iterator[Records]:
    opened = RamRecords()
    yield opened
    opened.close()


def at(records: Records, name: str) -> Records:
    return reduce(lambda place, part: place.within(part), filter(None, name.split("/")), records)


def inner_of(inner: Records, sealed: Records) -> Records:
    """The inner records of a sealed namespace."""
    return at(inner, sealed._place)


def pieces(inner: Records) -> dict[str, set[bytes]]:
    """The ids of the keys that anything in each inner namespace is sealed with."""
    found: dict[str, set[bytes]] = {}
    for table, row in inner.dump():
        if table == "records":
            place, piece = row[1], row[5] if row[4] == 1 else unpacked(json.loads(row[9]))
        elif table == "states":
            place, piece = row[0], row[3] if row[2] == 1 else unpacked(json.loads(row[7]))
        else:
            place, piece = row[0], row[2] if table == "files" else unpacked(json.loads(row[3]))
        found.setdefault(place, set()).add(piece[:ID])
    return found


def fill(records: Records, word: str, count: int = 3) -> None:
    """A bit of everything."""
    for number in range(count):
        records.put(Record(f"{word} {number}", {"n": number}, 2, 1.0, 2.0, {"m": word}, word, 0.5, due=9e15))
        records.keep(Record(f"{word} {number}", number, 1, 1.0))
    records.put(Record(f"{word} waiting", None, due=9e15))
    for name in "cab":
        records.ledger_put(f"kind {word}", name, {"note": word + name})
    with records.transaction():
        records.write_file("datastores/file", word.encode() * 100)


def filled(records: Records, word: str, count: int = 3) -> bool:
    """Whether all that `fill` wrote is there."""
    for number in range(count):
        found = records.find(f"{word} {number}")
        assert found is not None
        assert found._replace(id=0) == Record(
            f"{word} {number}", {"n": number}, 2, 1.0, 2.0, {"m": word}, word, 0.5, due=9e15
        )
        assert records.states(found.key) == [Record(found.key, number, 1, 1.0)]
    assert records.find(f"{word} waiting")._replace(id=0) == Record(f"{word} waiting", None, due=9e15)
    assert list(records.ledger(f"kind {word}").items()) == [(name, {"note": word + name}) for name in "cab"]
    assert records.read_file("datastores/file") == word.encode() * 100
    return True


# Nothing lies open


def test_no_word_of_what_is_stored_reaches_the_inner_records(inner):
    markers = [f"mark{random.Random(n).getrandbits(64):016x}" for n in range(13)]
    key, value, deep, about, author, space, below, kind, name, note, content, past, waits = markers
    plain = RamRecords()
    for records in (plain, Sealed(inner, KEY)):
        place = records.within(space).within(below)
        place.put(Record(key, value, metadata={about: about}, author=author))
        place.add_new([(f"{key} too", {"list": [deep]})], Record("", None, metadata={about: 1}, author=author))
        place.keep(Record(key, past, metadata={about: about}, author=author))
        place.put(Record(waits, None, metadata={about: waits}, author=author))
        place.ledger_put(kind, name, {"note": note})
        place.write_file("datastores/file", content.encode())
    for marker in markers:
        assert marker in laid_open(plain), "the search finds what lies open"
        assert marker not in laid_open(inner)


def laid_open(records: Records) -> str:
    """Everything the records hold, base64 taken off."""
    said = []
    for _, row in records.dump():
        for cell in row:
            said.append(cell.decode("latin-1") if isinstance(cell, bytes) else str(cell))
            if isinstance(cell, str) and '"sealed"' in cell:
                said.append(base64.b64decode(json.loads(cell)["sealed"]).decode("latin-1"))
    return "\n".join(said)


def test_the_same_thing_twice_looks_different_each_time(inner):
    records = Sealed(inner, KEY)
    for place in (records, records.within("a")):
        for key in ("one", "two"):
            place.put(Record(key, "the same"))
    rows = [(row[1], row[3], row[5]) for table, row in inner.dump() if table == "records" and row[1] != SEALS]
    assert len({value for _, _, value in rows}) == 4
    assert len({key for _, key, _ in rows}) == 4, "a key in two namespaces cannot be told to be the same"
    records.put(Record("one", "the same"))
    assert inner.get(rows[0][1]) != rows[0][2]


def test_a_subkey_seals_a_limited_number_of_messages(inner, monkeypatch):
    monkeypatch.setattr(keys_module, "SEALS", 4)
    records = Sealed(inner, KEY)
    records.add_new([(str(n), n) for n in range(20)], Record("", None))
    heads = [row[5][: keys_module.SALT] for table, row in inner.dump() if table == "records" and row[1] == ""]
    assert len(heads) == 20 and len(set(heads)) == 5
    assert records.get_many([str(n) for n in range(20)]) == {str(n): n for n in range(20)}


def test_reading_an_empty_namespace_writes_nothing(inner):
    records = Sealed(inner, KEY)
    before = list(inner.dump()), inner.generation()
    place = records.within("nobody").within("home")
    assert place.get("k") is None and place.find("k") is None and place.get_many(["k"]) == {}
    assert list(place.keys()) == list(place.iterate()) == place.since(0, 9) == place.due(9e99) == []
    assert place.states("k") == [] and place.ledger("kind") == {} and len(place) == 0 and place.by_id(1) is None
    assert not place.delete("k") and place.files("datastores") == [] and place.namespaces() == []
    with pytest.raises(MemoryFormatError, match="missing"):
        place.read_file("datastores/file")
    assert place.check() == records.check() == []
    assert list(inner.dump()) == before[0]


def test_big_files_and_values_come_back(inner):
    records = Sealed(inner, KEY)
    content = random.Random(0).randbytes(8 << 20)
    with records.transaction():
        records.write_file("datastores/file", content)
    records.put(Record("k", content))
    assert records.read_file("datastores/file") == records.get("k") == content


# It behaves as any records do


NAMES = ("", "a", "a/b", "c")
KEYS = ("", "k", "k2", "ключ\0", "中", "😀")
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5), st.binary(max_size=5),
    st.lists(st.integers(), max_size=2), st.dictionaries(st.text(max_size=2), st.none(), max_size=2),
)  # fmt: skip
MOMENTS = st.sampled_from([None, 5.0, 9e15, -1.5])
RECORDS = st.builds(
    Record, st.sampled_from(KEYS), VALUES, st.integers(1, 4), st.floats(0, 9e9), st.floats(0, 9e9),
    st.sampled_from([None, {}, {"a": [1, None, {"b": "\0"}]}]), st.sampled_from([None, "", "ann"]),
    st.sampled_from([0.0, 0.5, 1.0]), MOMENTS, MOMENTS, MOMENTS, MOMENTS, id=st.just(0),
)  # fmt: skip
WHICH = st.sampled_from([0, 1])
NAME = st.sampled_from(NAMES)


class SealedAndPlain(RuleBasedStateMachine):
    """Two handles, each with a vault of its own, on the same inner records, and plain records beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.plain, self.key, self.keys_made = RamRecords(), RamRecords(), KEY, 0
        self.sealed = [Sealed(self.inner, lambda: self.key), Sealed(self.inner, lambda: self.key)]

    def both(self, which: int, name: str, do: Callable[[Records], Any]) -> None:
        told = [do(at(self.sealed[which], name)), do(at(self.plain, name))]
        assert told[0] == told[1]

    @rule(which=WHICH, name=NAME, record=RECORDS)
    def put(self, which, name, record):
        self.both(which, name, lambda place: place.put(record)._replace(id=0))

    @rule(which=WHICH, name=NAME, record=RECORDS)
    def put_again_under_its_id(self, which, name, record):
        def do(place: Records) -> object:
            found = place.find(record.key)
            return (
                found is not None and place.put(record._replace(id=found.id)).id == found.id == place.find(found.key).id
            )

        self.both(which, name, do)

    @rule(which=WHICH, name=NAME, keys=st.sets(st.sampled_from(KEYS)), value=VALUES, like=RECORDS)
    def add_new(self, which, name, keys, value, like):
        items = [(key, 0 if value is None else value) for key in sorted(keys)]
        self.both(which, name, lambda place: place.add_new(items, like))

    @rule(which=WHICH, name=NAME, key=st.sampled_from(KEYS))
    def delete(self, which, name, key):
        self.both(which, name, lambda place: place.delete(key))

    @rule(which=WHICH, name=NAME, record=RECORDS)
    def keep(self, which, name, record):
        self.both(which, name, lambda place: place.find(record.key) and place.keep(record))

    @rule(which=WHICH, name=NAME, kind=st.sampled_from("xy"), noted=st.sampled_from("mn"), note=st.integers())
    def note(self, which, name, kind, noted, note):
        self.both(which, name, lambda place: place.ledger_put(kind, noted, {"note": note}))

    @rule(which=WHICH, name=NAME, kind=st.sampled_from("xy"), noted=st.sampled_from("mn"))
    def strike_out(self, which, name, kind, noted):
        self.both(which, name, lambda place: place.ledger_remove(kind, noted))

    @rule(which=WHICH, name=NAME, file=st.sampled_from(["datastores/1", "datastores/2"]), content=st.binary(max_size=9))
    def write_file(self, which, name, file, content):
        self.both(which, name, lambda place: place.write_file(file, content))

    @rule(which=WHICH, name=NAME, file=st.sampled_from(["datastores/1", "datastores/2"]))
    def delete_file(self, which, name, file):
        self.both(which, name, lambda place: place.delete_file(file))

    @rule(which=WHICH, name=NAME)
    def drop(self, which, name):
        self.both(which, name, lambda place: place.drop())

    @rule(which=WHICH, name=NAME, record=RECORDS, dropped=NAME)
    def fail(self, which, name, record, dropped):
        def do(records: Records) -> None:
            with pytest.raises(RuntimeError), records.transaction():
                at(records, name).put(record)
                at(records, dropped).drop()
                at(records, name).put(record)
                assert at(records, name).find(record.key)._replace(id=0) == record
                raise RuntimeError

        self.both(which, "", do)

    @rule(which=WHICH, name=NAME)
    def rotate_keys(self, which, name):
        at(self.sealed[which], name).rotate_keys()

    @rule(which=WHICH)
    def rotate_master(self, which):
        self.keys_made += 1
        new = bytes([self.keys_made % 256]) * 32
        self.sealed[which].rotate_master(new)
        self.key = new
        self.sealed[which] = Sealed(self.inner, lambda: self.key)

    @invariant()
    def the_same_is_there(self):
        for sealed in self.sealed:
            assert sealed.namespaces() == self.plain.namespaces()
            for name in NAMES:
                assert shown(at(sealed, name)) == shown(at(self.plain, name))

    def teardown(self):
        copy = RamRecords()
        copy.load(self.inner.dump())
        assert all(shown(at(Sealed(copy, self.key), name)) == shown(at(self.plain, name)) for name in NAMES)


def shown(place: Records) -> list[Any]:
    """All that a namespace shows; ids by their order."""
    found = [place.find(key) for key in KEYS]
    ids = sorted(place.ids())
    return [
        [record and record._replace(id=0) for record in found],
        [place.get(key) for key in KEYS],
        [record and place.by_id(record.id) == record for record in found],
        place.get_many(KEYS),
        [place.states(key) for key in KEYS],
        list(place.keys()), list(place.keys("k")), list(place.keys("k", "k")), list(place.keys(after="k2")),
        [record._replace(id=ids.index(record.id)) for record in place.iterate()],
        [record._replace(id=ids.index(record.id)) for record in place.since(0, 99)],
        [record.key for record in place.since(ids[0], 1)] if ids else [],
        len(place), sorted(place.due(5.0)), place.namespaces(),
        [list(place.ledger(kind).items()) for kind in "xy"],
        {name: place.read_file(name) for name in sorted(place.files("datastores"))},
    ]  # fmt: skip


TestSealedAndPlain = SealedAndPlain.TestCase
TestSealedAndPlain.settings = settings(max_examples=40, stateful_step_count=25, deadline=None, derandomize=True)


# Keys


def test_another_key_is_told_at_opening_and_changes_nothing(inner):
    fill(Sealed(inner, KEY).within("a"), "w")
    before = list(inner.dump()), inner.generation()
    with pytest.raises(WrongKey, match="key"):
        Sealed(inner, OTHER)
    assert (list(inner.dump()), inner.generation()) == before
    assert filled(Sealed(inner, KEY).within("a"), "w")


@pytest.mark.parametrize(
    "what",
    [
        lambda records: records.put(Record("k", "open")),
        lambda records: records.put(Record("k", None)),
        lambda records: records.within("a").put(Record("k", "open")),
        lambda records: records.ledger_put("kind", "name", {}),
        lambda records: records.write_file("datastores/file", b""),
    ],
)
def test_a_memory_that_lies_open_is_not_taken_for_a_sealed_one(inner, what):
    what(inner)
    before = list(inner.dump())
    with pytest.raises(InvalidInput, match="not encrypted"):
        Sealed(inner, KEY)
    assert list(inner.dump()) == before
    assert not is_sealed(inner)


def test_a_sealed_memory_is_told_from_others(inner):
    assert not is_sealed(inner)
    Sealed(inner, KEY)
    assert is_sealed(inner), "from the moment it was opened with a key"
    Sealed(inner, KEY).drop()
    assert is_sealed(inner), "empty or not"


def test_a_memory_of_another_format_is_refused(inner):
    Sealed(inner, KEY)
    inner.ledger_put("seal", "memory", {**inner.ledger("seal")["memory"], "format": 2})
    with pytest.raises(MemoryFormatError, match="format 2"):
        Sealed(inner, KEY)


def test_a_key_is_given_as_bytes_file_variable_or_function(tmp_path, monkeypatch):
    key = new_master_key()
    forms = [key, key.hex().encode(), key.hex().upper().encode() + b"\n", base64.b64encode(key)]
    forms += [base64.urlsafe_b64encode(key) + b"\r\n"]
    for form in forms:
        (tmp_path / "key").write_bytes(form)
        for source in (form, tmp_path / "key", str(tmp_path / "key"), lambda form=form: form):
            assert master_key(source) == key
        if form != key:
            monkeypatch.setenv("A_KEY", form.decode())
            assert master_key("env:A_KEY") == master_key(form.decode) == key


def test_what_is_no_key_is_refused_in_one_line_that_shows_none(tmp_path, monkeypatch):
    key = new_master_key()
    monkeypatch.setenv("HALF", key.hex()[:32] + "zz")
    (tmp_path / "long").write_bytes(key + b"\n")
    (tmp_path / "empty").write_bytes(b"")
    sources = [
        b"", key[:31], key * 2, key.hex(), base64.b64encode(key).decode(), key.hex()[:50], "env:HALF", "env:NOT_SET",
        tmp_path / "nothing", tmp_path, tmp_path / "long", tmp_path / "empty", lambda: None, lambda: key.hex() + "0",
        None, 3, "", "\0",
    ]  # fmt: skip
    for source in sources:
        with pytest.raises(InvalidInput) as refused:
            Sealed(RamRecords(), source)
        said = str(refused.value)
        assert said and "\n" not in said
        for shown_key in (key.hex(), base64.b64encode(key).decode(), repr(key)):
            for start in range(0, 24, 8):
                assert shown_key[start : start + 8] not in said + repr(refused.value.subject)


def test_a_key_file_is_for_its_owner_only_and_never_written_over(tmp_path):
    key = new_master_key()
    write_key_file(tmp_path / "key", key)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert master_key(tmp_path / "key") == key
    with pytest.raises(InvalidInput, match="another path"):
        write_key_file(tmp_path / "key", new_master_key())
    assert master_key(tmp_path / "key") == key
    with pytest.raises(StorageError):
        write_key_file(tmp_path / "nowhere" / "key", key)


# Tampering


def two_records(inner: Records) -> tuple[Records, Record, Record]:
    records = Sealed(inner, KEY)
    for key in ("one", "two"):
        records.put(Record(key, f"value of {key}", metadata={"m": key}, due=9e15))
    one, two = inner.since(0, 9)
    return records, one, two


def everywhere(records: Records, key: str) -> list[Callable[[], Any]]:
    """All ways to read a record."""
    number = max(records.ids())
    return [
        lambda: records.get(key), lambda: records.get_many([key]), lambda: records.find(key),
        lambda: records.by_id(number), lambda: list(records.iterate()), lambda: records.since(0, 9),
        lambda: list(records.keys()), lambda: records.due(9e15),
    ]  # fmt: skip


def test_two_values_that_were_swapped_are_told(inner):
    records, one, two = two_records(inner)
    inner.put(one._replace(value=two.value))
    inner.put(two._replace(value=one.value))
    for read in everywhere(records, "one"):
        with pytest.raises(MemoryFormatError, match="cannot be opened"):
            read()
    assert records.delete("one") and records.delete("two") and len(records) == 0


def test_a_flipped_bit_anywhere_is_told(inner):
    records = Sealed(inner, KEY)
    records.put(Record("k", "v"))
    (outer,) = inner.since(0, 9)
    for place in range(len(outer.value)):
        changed = bytearray(outer.value)
        changed[place] ^= 1 << place % 8
        for value in (bytes(changed), outer.value[:place], outer.value + bytes(place + 1)):
            inner.put(outer._replace(value=value))
            for handle in (records, Sealed(inner, KEY)):
                with pytest.raises(MemoryFormatError):
                    handle.get("k")
                with pytest.raises(MemoryFormatError):
                    handle.find("k")
    for value in ("text", 3, [], {"sealed": "AA=="}, None):
        inner.put(outer._replace(value=value))
        with pytest.raises(MemoryFormatError):
            records.find("k")
    inner.put(outer)
    assert records.get("k") == "v"


@pytest.mark.parametrize(
    "change",
    [{"version": 2}, {"created": 1.0}, {"updated": 1.0}, {"expires": 9e15}, {"valid_from": 5.0}, {"valid_to": 5.0},
     {"due": 8e15}, {"due": None}],
)  # fmt: skip
def test_a_version_or_time_that_was_changed_is_told(inner, change):
    records, _, two = two_records(inner)
    inner.put(two._replace(**change))
    for read in everywhere(records, "two")[2:6]:
        with pytest.raises(MemoryFormatError, match="'two'"):
            read()


def test_a_value_whose_moment_was_put_off_is_not_shown(inner):
    records = Sealed(inner, KEY)
    records.put(Record("k", "v", due=5.0))
    inner.put(inner.since(0, 9)[0]._replace(due=None))
    assert records.get("k") is None and records.get_many(["k"]) == {}


def test_records_states_notes_and_files_that_were_moved_are_told(inner):
    records = Sealed(inner, KEY)
    a, b = records.within("a"), records.within("b")
    for place in (a, b):
        fill(place, "w", 2)
    inner_a, inner_b = inner_of(inner, a), inner_of(inner, b)
    one, other = inner_a.since(0, 9), inner_b.since(0, 9)
    inner_b.put(one[0]._replace(id=0))
    assert b.get("w 0") == {"n": 0}
    inner_b.put(other[0]._replace(value=one[0].value))
    with pytest.raises(MemoryFormatError):
        b.get("w 0")
    (state,) = inner_a.states(one[0].key)
    inner_a.put(one[0]._replace(value=state.value))
    with pytest.raises(MemoryFormatError):
        a.get("w 0")
    inner_a.keep(state._replace(version=2))
    with pytest.raises(MemoryFormatError, match="version"):
        a.states("w 0")
    kind = a._vault.seal(a._place).kind("kind w")
    notes = inner_a.ledger(kind)
    first, second, _ = notes
    inner_a.ledger_put(kind, first, notes[second])
    with pytest.raises(MemoryFormatError):
        a.ledger("kind w")
    inner_a.write_file("datastores/other", inner_a.read_file("datastores/file"))
    for place, name in ((a, "datastores/other"), (a, "datastores/file")):
        inner_a.write_file("datastores/file", inner_b.read_file("datastores/file"))
        with pytest.raises(MemoryFormatError):
            place.read_file(name)


def test_seals_that_were_swapped_are_told(inner):
    records = Sealed(inner, KEY)
    a, b = records.within("a"), records.within("b")
    a.put(Record("k", "hers"))
    b.put(Record("k", "his"))
    seals = inner.within(SEALS)
    one, other = seals.find(a._place), seals.find(b._place)
    seals.put(one._replace(value=other.value))
    for read in (lambda: at(Sealed(inner, KEY), "a").get("k"), lambda: Sealed(inner, KEY).namespaces()):
        with pytest.raises(MemoryFormatError):
            read()


# Erasing


def test_what_has_lost_its_key_is_gone_and_can_be_dropped(inner):
    records = Sealed(inner, KEY)
    for name in ("a", "a/b", "c"):
        fill(at(records, name), "w")
    place = records.within("a")
    inner.within(SEALS).delete(place._place)
    for handle in (Sealed(inner, KEY).within("a"), Sealed(inner, KEY).within("a")):
        for use in (
            lambda h: h.get("k"), lambda h: h.find("k"), lambda h: h.get_many(["k"]), lambda h: list(h.keys()),
            lambda h: list(h.iterate()), lambda h: h.since(0, 9), lambda h: h.states("k"), lambda h: h.ledger("kind"),
            lambda h: h.read_file("datastores/file"), lambda h: h.due(9e15), lambda h: h.put(Record("k", 1)),
            lambda h: h.add_new([("k", 1)], Record("", None)), lambda h: h.keep(Record("k", 1)),
            lambda h: h.delete("k"), lambda h: h.ledger_put("kind", "name", {}),
        ):  # fmt: skip
            with pytest.raises(MemoryFormatError, match="key of namespace 'a' is gone: what was in it is erased"):
                use(handle)
    with pytest.raises(MemoryFormatError, match="gone"):
        place.put(Record("k", "written with the key that a handle still had"))
    assert records.namespaces() == ["a/b", "c"]
    assert len(records.check()) == 1 and "gone" in records.check()[0]
    assert filled(at(records, "a/b"), "w")
    records.rotate_keys()
    assert records.within("a").drop() == 6
    assert records.check() == [] and records.namespaces() == ["c"]
    records.within("a").put(Record("k", "anew"))
    assert Sealed(inner, KEY).within("a").get("k") == "anew"


def test_a_copy_of_what_was_dropped_cannot_be_read(inner):
    records = Sealed(inner, KEY)
    alice = records.within("alice")
    alice.put(Record("k", "hers"))
    place = inner_of(inner, alice)
    copy = place.since(0, 9)
    assert alice.drop() == 1
    assert inner.namespaces() == [] and len(inner.within(SEALS)) == 0
    for record in copy:
        place.put(record)
    for handle in (alice, Sealed(inner, KEY).within("alice")):
        with pytest.raises(MemoryFormatError, match="gone"):
            handle.get("k")
    place.drop()
    alice.put(Record("k", "anew"))
    for record in copy:
        place.put(record._replace(id=0))
    assert alice.get("k") == "anew", "nor does it stand in the way of what came after it"


def test_a_handle_meets_what_another_dropped_and_made_anew(inner):
    one, other = (Sealed(inner, KEY).within("a") for _ in range(2))
    fill(one, "old")
    assert filled(other, "old")
    one.drop()
    assert other.get("old 0") is None and list(other.keys()) == [] and other.ledger("kind old") == {}
    fill(one, "new")
    assert filled(other, "new")
    one.drop()
    fill(other, "newest")
    assert filled(one, "newest")


def test_a_first_write_that_is_rolled_back_leaves_no_key(inner):
    records = Sealed(inner, KEY)
    before = list(inner.dump())
    with pytest.raises(RuntimeError), records.transaction():
        records.within("a").put(Record("k", "v"))
        assert records.within("a").get("k") == "v"
        raise RuntimeError
    assert list(inner.dump()) == before
    records.within("a").put(Record("k", "v"))
    assert Sealed(inner, KEY).within("a").get("k") == "v"


# Others at the same time


def together(*tasks: Callable[[], object]) -> None:
    """Runs tasks in threads at once; raises what any of them raised."""
    barrier, raised = threading.Barrier(len(tasks)), []

    def run(task: Callable[[], object]) -> None:
        try:
            barrier.wait()
            task()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if raised:
        raise raised[0]


def test_handles_that_make_a_namespace_at_once_agree_on_its_keys(inner):
    for attempt in range(10):
        handles = [Sealed(inner, KEY).within(f"space {attempt}") for _ in range(3)]

        def write(number: int, handles: list[Records] = handles) -> None:
            for count in range(5):
                handles[number].put(Record(f"{number} {count}", number))

        together(*(lambda n=n: write(n) for n in range(3)))
        for handle in (*handles, Sealed(inner, KEY).within(f"space {attempt}")):
            assert len(list(handle.iterate())) == 15


def test_handles_that_open_a_new_memory_at_once_agree_on_its_keys():
    for _ in range(10):
        inner, opened = RamRecords(), []
        together(*[lambda inner=inner, opened=opened: opened.append(Sealed(inner, KEY))] * 3)
        for number, handle in enumerate(opened):
            handle.within("a").put(Record(str(number), number))
        assert all(list(handle.within("a").keys()) == ["0", "1", "2"] for handle in opened)


def test_keys_are_rotated_while_others_read_and_write(inner):
    records, writer, reader = (Sealed(inner, KEY) for _ in range(3))
    names = ("", "a", "a/b")
    for name in names:
        fill(at(records, name), "w", 400)
    ids = {name: at(records, name).ids() for name in names}
    before, done, written = pieces(inner), threading.Event(), []

    def rotate() -> None:
        try:
            for _ in range(2):
                records.rotate_keys()
        finally:
            done.set()

    def write() -> None:
        count = 0
        while not done.is_set() or not count:
            name = names[count % 3]
            at(writer, name).put(Record(f"new {count}", count))
            at(writer, name).put(Record(f"again {count % 7}", count))
            at(writer, "fresh").put(Record(f"new {count}", count))
            written.append((name, f"new {count}", count))
            count += 1

    def read() -> None:
        count = 0
        while not done.is_set() or not count:
            place = at(reader, names[count % 3])
            assert place.get(f"w {count % 400}") == {"n": count % 400}
            assert place.find(f"w {count % 400}").author == "w"
            assert place.states(f"w {count % 400}")[0].value == count % 400
            assert place.read_file("datastores/file") == b"w" * 100
            assert list(place.ledger("kind w")) == ["c", "a", "b"]
            assert len(place.since(0, 20)) == 20
            count += 1

    together(rotate, write, read)
    for handle in (records, writer, reader, Sealed(inner, KEY)):
        for name in names:
            assert filled(at(handle, name), "w", 400)
            assert ids[name] <= at(handle, name).ids(), "ids stay"
        assert all(at(handle, name).get(key) == value for name, key, value in written)
    after = pieces(inner)
    for place, used in before.items():
        assert len(after[place]) == 1 + (place == ""), "the root has the note that the master key seals as well"
        assert not after[place] & used or place == "", "nothing is left of the old keys"


def test_every_namespace_and_the_memory_itself_get_new_keys(inner):
    records = Sealed(inner, KEY)
    for name in ("", "a", "a/b"):
        fill(at(records, name), "w")
    before = pieces(inner)
    told = []
    records.within("a").rotate_keys(lambda done, total: told.append((done, total)))
    assert told[-1][0] == told[-1][1] > 0
    part = pieces(inner)
    inside = {records.within("a")._place, at(records, "a/b")._place}
    assert {place for place in before if part[place] != before[place]} == inside
    records.rotate_keys()
    after = pieces(inner)
    for place in before.keys() - {""}:
        assert len(after[place]) == 1 and not after[place] & (before[place] | part[place])
    master = {key for key in before[""] if key in after[""]}
    assert len(master) == 1 and len(after[""]) == 2, "only the master key is the same"
    assert records.within(SEALS).namespaces() == []


class Failing(RamRecords):
    """Records on a disk that takes a number of transactions more, and then none."""

    left = 10**9

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        if not self.in_transaction:
            if self.left == 0:
                raise StorageError("the disk is full")
            self.left -= 1
        with super().transaction():
            yield


def test_a_rotation_that_is_broken_off_anywhere_goes_on_when_it_is_called_again(monkeypatch):
    monkeypatch.setattr("extmem.records.rotation.AT_ONCE", 2)
    inner = Failing()
    for name in ("", "a"):
        fill(at(Sealed(inner, KEY), name), "w")
    before, finished, allowed = pieces(inner), False, 0
    while not finished:
        inner.left = allowed
        try:
            Sealed(inner, KEY).rotate_keys()
            finished = True
        except StorageError:
            allowed += 1
        inner.left = 10**9
        for name in ("", "a"):
            assert filled(at(Sealed(inner, KEY), name), "w")
    assert allowed > 3
    after = pieces(inner)
    assert all(len(used) == 1 + (place == "") for place, used in after.items())
    assert all(place == "" or not after[place] & used for place, used in before.items())


def test_a_rotation_goes_through_even_if_each_run_comes_only_one_transaction_further(monkeypatch):
    monkeypatch.setattr("extmem.records.rotation.AT_ONCE", 2)
    inner = Failing()
    fill(at(Sealed(inner, KEY), "a"), "w", 9)
    place = at(Sealed(inner, KEY), "a")._place
    before, runs = pieces(inner)[place], 0
    while pieces(inner)[place] & before:
        inner.left = 4  # the memory's key, the namespace's, and two of the rows
        with contextlib.suppress(StorageError):
            Sealed(inner, KEY).rotate_keys()
        inner.left, runs = 10**9, runs + 1
        assert runs < 30
    assert runs > 2
    Sealed(inner, KEY).rotate_keys()
    assert filled(at(Sealed(inner, KEY), "a"), "w", 9)


def test_a_new_master_key_changes_one_note_and_stops_nobody(inner):
    records, reader, env = Sealed(inner, KEY), Sealed(inner, KEY), Sealed(inner, KEY)
    fill(records.within("a"), "w")
    before = list(inner.dump())
    assert filled(reader.within("a"), "w")
    records.rotate_master(OTHER)
    assert [(table, row[:3]) for table, row in inner.dump() if (table, row) not in before] == [
        ("ledger", ("", "seal", "memory"))
    ]
    for handle in (records, reader, env):
        assert filled(handle.within("a"), "w")
        handle.within("a").put(Record("more", 1))
        handle.within(f"new {id(handle)}").put(Record("k", 1))
    assert len(Sealed(inner, OTHER).namespaces()) == 4
    with pytest.raises(WrongKey):
        Sealed(inner, KEY)
    old = RamRecords()
    old.load(before)
    assert filled(Sealed(old, KEY).within("a"), "w"), "an older snapshot has the older key"


def test_a_master_key_that_is_none_or_was_replaced_changes_nothing(inner):
    records, late = Sealed(inner, KEY), Sealed(inner, KEY)
    before = list(inner.dump())
    with pytest.raises(InvalidInput):
        records.rotate_master(b"short")
    assert list(inner.dump()) == before
    records.rotate_master(OTHER)
    before = list(inner.dump())
    with pytest.raises(WrongKey):
        late.rotate_master(new_master_key())
    assert list(inner.dump()) == before


def test_who_knows_only_an_older_master_key_cannot_bring_it_back(inner):
    records, late = Sealed(inner, KEY), Sealed(inner, KEY)
    records.within("a").put(Record("k", "v"))
    records.rotate_master(OTHER)
    with pytest.raises(WrongKey):
        late.rotate_keys()
    with pytest.raises(WrongKey):
        list(late.within("a").dump())
    late.drop()
    with pytest.raises(WrongKey):
        Sealed(inner, KEY)
    assert Sealed(inner, OTHER).namespaces() == []


def test_keys_are_not_rotated_inside_a_transaction(inner):
    records = Sealed(inner, KEY)
    for rotate in (records.rotate_keys, lambda: records.rotate_master(OTHER)):
        with records.transaction(), pytest.raises(InvalidInput, match="transaction"):
            rotate()


def test_a_process_asks_its_source_again_for_a_key_that_was_replaced(inner, tmp_path):
    write_key_file(tmp_path / "key", KEY)
    records, knows, does_not = Sealed(inner, KEY), Sealed(inner, tmp_path / "key"), Sealed(inner, KEY)
    for handle in (records, knows, does_not):
        handle.within("a").put(Record("k", "v"))
        assert handle.within("a").get("k") == "v"
    records.rotate_master(OTHER)
    write_key_file(tmp_path / "new", OTHER)
    os.replace(tmp_path / "new", tmp_path / "key")
    records.rotate_keys()
    assert knows.within("a").get("k") == "v"
    with pytest.raises(WrongKey):
        does_not.within("a").get("k")
    knows.within("b").put(Record("k", "v"))
    with pytest.raises(WrongKey):
        does_not.within("c").put(Record("k", "v"))
    assert records.namespaces() == ["a", "b"]


# All of it


def test_a_snapshot_stays_sealed_and_is_opened_with_the_same_key(inner):
    records = Sealed(inner, KEY)
    for name in ("", "a", "a/b"):
        fill(at(records, name), "w")
    copy = RamRecords()
    copy.load(records.dump())
    assert is_sealed(copy) and sorted(copy.dump(), key=repr) == sorted(inner.dump(), key=repr)
    with pytest.raises(WrongKey):
        Sealed(copy, OTHER)
    taken = Sealed(RamRecords(), KEY)
    taken.load(records.dump())
    for there in (Sealed(copy, KEY), taken):
        assert there.namespaces() == ["a", "a/b"]
        assert all(filled(at(there, name), "w") for name in ("", "a", "a/b"))
        there.within("a").put(Record("more", 1))


def test_a_snapshot_that_is_open_or_of_another_key_is_not_taken_in():
    plain, sealed = RamRecords(), Sealed(RamRecords(), OTHER)
    plain.put(Record("k", "v"))
    sealed.put(Record("k", "v"))
    for rows, error in ((plain.dump, InvalidInput), (sealed.dump, WrongKey)):
        inner = RamRecords()
        records = Sealed(inner, KEY)
        before = list(inner.dump())
        with pytest.raises(error):
            records.load(rows())
        assert list(inner.dump()) == before
        records.put(Record("k", "mine"))
        with pytest.raises(InvalidInput, match="not empty"):
            records.load(rows())
        assert records.get("k") == Sealed(inner, KEY).get("k") == "mine"


def test_a_namespace_is_taken_out_as_a_sealed_memory_of_its_own(inner):
    records = Sealed(inner, KEY)
    for name in ("", "a", "a/b", "a/b/c", "d"):
        fill(at(records, name), f"marked {name}")
    copy = RamRecords()
    copy.load(records.within("a").dump())
    taken = Sealed(copy, KEY)
    assert taken.namespaces() == ["b", "b/c"]
    for name in ("", "b", "b/c"):
        assert filled(at(taken, name), f"marked a/{name}".rstrip("/"))
        assert at(taken, name).ids() == at(records, f"a/{name}".rstrip("/")).ids()
    assert taken.put(Record("new", 1)).id > max(at(records, "a/b/c").ids())
    mine, theirs = pieces(inner), pieces(copy)
    assert set().union(*mine.values()) & set().union(*theirs.values()) == theirs[""] & mine[""]
    assert "marked" not in laid_open(copy)
