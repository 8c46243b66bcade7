"""Every operation of a memory, in any order, in every place it can lie, through two handles at once:
always what the model of dicts says."""

from __future__ import annotations

import itertools
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from figures import FULL, SEED, Figures
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from model import Conflict, Model, Value

from extmem import Memory
from extmem.errors import InvalidInput, VersionConflict
from extmem.indexes.datastore import Entries

KEYS = st.sampled_from(["", "a", "ab", "b", "apple", "b\0", "中文", "😀", "a" * 2000])
TEXTS = st.sampled_from(["", "apple", "apple pear", "pear plum", "plum " * 300])
VALUES = TEXTS | st.integers(-3, 3) | st.booleans() | st.binary(max_size=3) | st.lists(TEXTS, max_size=2)
SPACES = st.sampled_from(["", "alice", "alice/work", "bob", "alic"])
MOMENTS = st.none() | st.integers(-50, 50).map(float)  # seconds from now
SAID = st.fixed_dictionaries(
    {
        "metadata": st.none() | st.fixed_dictionaries({"page": st.integers(0, 2)}),
        "author": st.none() | st.sampled_from(["ann", "bob"]),
        "trust": st.sampled_from([0.0, 0.5, 1.0]),
        "ttl": st.none() | st.sampled_from([5.0, 60.0]),
    }
)
TIMES = st.none() | st.tuples(MOMENTS, MOMENTS)
HANDLE, EXPECT = st.booleans(), st.none() | st.integers(0, 2)
SIMPLE = st.tuples(st.sampled_from(["store", "store", "forget"]), SPACES, KEYS, VALUES)
_numbers = itertools.count()


class Machine(RuleBasedStateMachine):
    """A memory beside its model. The clock stands still but for `wait`."""

    place: Any
    key: bytes | None = None
    server: str = ""
    figures: Figures

    @initialize()
    def open(self) -> None:
        self.real, self.model = time.time, Model()
        self.model.now = 1_000_000_000.0
        time.time = lambda: self.model.now
        self.folder = Path(tempfile.mkdtemp())
        self.address = self.new_place("m")
        self.memories = [Memory(self.address, key=self.key)]
        self.memories.append(Memory(self.address, key=self.key) if self.address else self.memories[0])
        type(self).figures.rounds += 1

    def new_place(self, name: str) -> Any:
        if self.place == "postgres":
            return f"{self.server}?extmem_schema=machine_{next(_numbers)}"
        return None if self.place == "ram" else self.folder / name

    def teardown(self) -> None:
        if hasattr(self, "real"):
            for memory in self.memories:
                memory.close()
            time.time = self.real
            shutil.rmtree(self.folder)

    def at(self, handle: bool, space: str) -> Memory:
        memory = self.memories[handle]
        return memory.at(space) if space else memory

    def same(self, found: object, expected: object) -> None:
        type(self).figures.checked += 1
        assert found == expected

    def value(self, value: object, said: dict[str, Any], times: tuple[float | None, float | None] | None) -> Value:
        now = self.model.now
        begins, ends = (None if moment is None else now + moment for moment in times or (None, None))
        expires = None if said["ttl"] is None else now + said["ttl"]
        return Value(value, 1, now, now, said["metadata"], said["author"], said["trust"], expires, begins, ends)

    # What writes

    @rule(
        handle=HANDLE,
        space=SPACES,
        key=KEYS,
        value=VALUES,
        said=SAID,
        times=TIMES,
        expect=st.none() | st.integers(0, 2),
    )
    def store(self, handle, space, key, value, said, times, expect) -> None:
        new = self.value(value, said, times)
        words = {**said, "valid_from": new.valid_from, "valid_to": new.valid_to, "expect": expect}
        if new.valid_to is not None and new.valid_to <= new.begins:
            with pytest.raises(InvalidInput):
                self.at(handle, space).store(key, value, **words)
            return
        try:
            expected = self.model.store(space, key, new, expect)
        except Conflict:
            with pytest.raises(VersionConflict):
                self.at(handle, space).store(key, value, **words)
            return
        self.same(self.at(handle, space).store(key, value, **words), expected)

    @rule(handle=HANDLE, space=SPACES, items=st.lists(st.tuples(KEYS, VALUES), max_size=5), said=SAID)
    def store_many(self, handle, space, items, said) -> None:
        for key, value in items:
            self.model.store(space, key, self.value(value, said, None))
        self.at(handle, space).store_many(items, **said)

    @rule(handle=HANDLE, space=SPACES, key=KEYS)
    def forget(self, handle, space, key) -> None:
        self.same(self.at(handle, space).forget(key), self.model.forget(space, key))

    @rule(handle=HANDLE, space=SPACES, keys=st.lists(KEYS, max_size=4, unique=True))
    def forget_many(self, handle, space, keys) -> None:
        self.same(self.at(handle, space).forget_many(keys), sum(self.model.forget(space, key) for key in keys))

    @rule(handle=HANDLE, steps=st.lists(SIMPLE, max_size=4), fails=st.booleans())
    def transaction(self, handle, steps, fails) -> None:
        before = self.model.copy()
        try:
            with self.memories[handle].transaction():
                for kind, space, key, value in steps:
                    if kind == "store":
                        new = self.value(value, {"metadata": None, "author": None, "trust": 1.0, "ttl": None}, None)
                        self.same(self.at(handle, space).store(key, value), self.model.store(space, key, new))
                    else:
                        self.same(self.at(handle, space).forget(key), self.model.forget(space, key))
                    self.same(self.at(handle, space).retrieve(key), _value(self.model.at(space, key)))
                if fails:
                    raise KeyError("given up")
        except KeyError:
            self.model = before

    @rule(handle=HANDLE, space=SPACES, on=st.booleans())
    def keep_history(self, handle, space, on) -> None:
        (self.model.historic.add if on else self.model.historic.discard)(space)
        self.at(handle, space).keep_history(on)

    @rule(handle=HANDLE, space=st.sampled_from(["alice", "bob", "alic"]))
    def drop_namespace(self, handle, space) -> None:
        self.same(self.memories[handle].drop_namespace(space), self.model.drop(space))

    @rule(handle=HANDLE, space=SPACES, key=KEYS, count=st.integers(1, 20))
    def memorize(self, handle, space, key, count) -> None:
        here, memory = self.model.at(space, key), self.at(handle, space)
        if here is None:
            return
        with memory.transaction():
            record = memory.record(key)
            if not memory.datastore("model", 4).holds(record.id):
                keys = np.random.default_rng(count).normal(size=(count, 4)).astype(np.float32)
                entries = Entries(record.id, keys, np.arange(count), np.zeros((count, 2), int))
                memory.datastore("model", 4).append([entries])
                self.model.entries.setdefault(space, {})[key, here.version] = count

    @rule(handle=HANDLE, space=SPACES, work=st.sampled_from(["surrogate", "type", "depth", "namespace", "metadata"]))
    def refused(self, handle, space, work) -> None:
        memory = self.at(handle, space)
        deep: list[object] = []
        for _ in range(200):
            deep = [deep]
        with pytest.raises(InvalidInput):
            if work == "surrogate":
                memory.store_many([("a", "new"), ("\ud800", "x")])
            elif work == "type":
                memory.store("a", object())
            elif work == "depth":
                memory.store("a", deep)
            elif work == "namespace":
                memory.namespace("a/b")
            else:
                memory.store("a", "x", metadata={"a": object()})

    @rule(seconds=st.sampled_from([0.5, 3.0, 30.0, 100.0]))
    def wait(self, seconds) -> None:
        self.model.now += seconds

    @rule(handle=HANDLE)
    def reopen(self, handle) -> None:
        if self.address:
            self.memories[handle].close()
            self.memories[handle] = Memory(self.address, key=self.key)

    @rule(handle=HANDLE)
    def move_to_a_snapshot(self, handle) -> None:
        if self.address:
            place = self.new_place(f"copy {next(_numbers)}")
            self.memories[handle].snapshot(place)
            for memory in self.memories:
                memory.close()
            self.address, self.memories = place, [Memory(place, key=self.key) for _ in "12"]

    @rule(handle=HANDLE)
    def repair(self, handle) -> None:
        self.memories[handle].repair()

    # What reads

    @rule(handle=HANDLE, space=SPACES, key=KEYS, moment=MOMENTS)
    def read(self, handle, space, key, moment) -> None:
        memory, here = self.at(handle, space), self.model.at(space, key)
        self.same(memory.retrieve(key), _value(here))
        self.same(key in memory, here is not None)
        self.same(_record(memory.record(key)), _said(here))
        as_of = None if moment is None else self.model.now + moment
        self.same(_record(memory.record(key, as_of=as_of)), _said(self.model.at(space, key, as_of)))
        slot = self.model.slot(space, key)
        self.same([_record(record) for record in memory.history(key)], [_said(v) for v in slot.values] if slot else [])

    @rule(handle=HANDLE, space=SPACES, prefix=st.sampled_from(["", "a", "b", "中"]), after=st.none() | KEYS)
    def read_many(self, handle, space, prefix, after) -> None:
        memory, there = self.at(handle, space), self.model.records(space)
        wanted = [key for key in there if key.startswith(prefix) and (after is None or key > after)]
        self.same(list(memory.keys(prefix, after)), wanted)
        self.same(list(memory.items(prefix, after)), [(key, there[key].value) for key in wanted])
        self.same(memory.retrieve_many([*there, "not there"]), {key: value.value for key, value in there.items()})
        fits = [key for key in wanted if there[key].trust >= 0.5 and there[key].author == "ann"]
        found = memory.scan(prefix, after, where={"trust": {"$gte": 0.5}, "author": "ann"})
        self.same([record.key for record in found], fits)

    @rule(handle=HANDLE, space=SPACES, word=st.sampled_from(["apple", "pear", "plum"]))
    def search(self, handle, space, word) -> None:
        hits = self.at(handle, space).search(word, k=100)
        self.same({hit.key for hit in hits}, self.model.search(space, word))
        self.same([hit.value for hit in hits], [self.model.records(space)[hit.key].value for hit in hits])

    @rule(handle=HANDLE, space=SPACES)
    def read_entries(self, handle, space) -> None:
        datastore = self.at(handle, space).datastore("model", 4)
        self.same(len(datastore), self.model.memorized(space))

    @rule(handle=HANDLE)
    def verify(self, handle) -> None:
        self.same(self.memories[handle].verify(), [])

    @invariant()
    def holds_as_many(self) -> None:
        if hasattr(self, "real"):
            for handle, space in itertools.product((False, True), ("", "alice")):
                self.same(len(self.at(handle, space)), len(self.model.records(space)))
                self.same(self.at(handle, space).namespaces(), self.model.below(space))


def _value(here: Value | None) -> object:
    return None if here is None else here.value


def _said(here: Value | None) -> object:
    return None if here is None else (type(here.value), *here)


def _record(record: Any) -> object:
    return None if record is None else (type(record.value), *(getattr(record, name) for name in Value._fields))


@pytest.mark.parametrize("place", ["ram", "folder", "postgres", "sealed"])
def test_every_operation_is_what_the_model_says(place, request) -> None:
    figures = Figures(f"any operations, {place} against a model")
    server = request.getfixturevalue("postgres").url if place == "postgres" else ""
    about = {"place": place, "key": bytes(32) if place == "sealed" else None, "server": server, "figures": figures}
    machine = seed(SEED)(type(f"Machine_{place}", (Machine,), about))
    examples = (150 if place == "postgres" else 600) if FULL else 8
    most = settings(
        max_examples=examples, stateful_step_count=50, derandomize=False, database=None, deadline=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    run_state_machine_as_test(machine, settings=most)
    figures.outcomes["right"] = figures.checked
    figures.close("answers compared")
