"""extmem.Client against a real server: the contract of Memory, every verb, and servers that refuse or are not there."""

from __future__ import annotations

import inspect
import math
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from itertools import count

import pytest
from serving import key, served

from contracts.test_memory import (  # noqa: F401  one suite for every implementation
    VALUES,
    same,
    test_a_list_changed_after_storing_does_not_change_the_memory,
    test_a_value_that_would_not_come_back_as_it_went_in_is_refused_and_the_old_one_stays,
    test_alice_never_sees_bobs_by_any_operation,
    test_search_ranks_by_words_and_refuses_k_below_one,
    test_storing_while_iterating_ends,
)
from extmem import Client, Memory, Record
from extmem.client.client import WITHOUT
from extmem.errors import InvalidInput, StorageError, VersionConflict, WrongKey
from extmem.exchange import lines
from extmem.exchange.importing import import_from

_numbers = count()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    place = tmp_path_factory.mktemp("client") / "m"
    with Memory(place) as handle:
        handle.store("apple", "A fruit")
    with served(place, "--body", "2000000") as running:
        yield running


@pytest.fixture(scope="module")
def whole(server):
    with Client(f"http://127.0.0.1:{server.port}", key(server.folder)) as opened:
        yield opened


@pytest.fixture
def memory(whole):
    """A namespace of its own."""
    return whole.namespace(f"n{next(_numbers)}")


@pytest.fixture
def twin(memory, server):
    """The same namespace, opened where it lies."""
    with Memory(server.folder) as opened:
        yield opened.at(memory._path)


def known(record: Record | None) -> Record | None:
    """A record without what is the server's own."""
    return record and record._replace(id=0, due=None)


def is_json(value):
    return not isinstance(value, float) or math.isfinite(value)


@pytest.mark.parametrize("value", list(filter(is_json, VALUES)), ids=repr)
def test_a_value_comes_back_as_it_went_in(memory, value):
    memory.store("k", value)
    assert same(memory.retrieve("k"), value)


@pytest.mark.parametrize("value", [math.nan, math.inf, [-math.inf]])
def test_what_json_has_no_number_for_is_refused_and_the_old_value_stays(memory, value):
    memory.store("k", 1.0)
    with pytest.raises(InvalidInput):
        memory.store("k", value)
    assert memory.retrieve("k") == 1.0


def test_every_public_verb_of_memory_is_there_with_its_parameters_or_named_as_left_out():
    verbs = [name for name in vars(Memory) if not name.startswith("_")] + ["__len__", "__contains__", "__iter__"]
    for name in verbs:
        method = getattr(Memory, name)
        if name in WITHOUT:
            assert not hasattr(Client, name), name
        else:
            mine = str(inspect.signature(getattr(Client, name))).split("->")[0]
            assert mine == str(inspect.signature(method)).split("->")[0], name
    assert set(WITHOUT) <= set(verbs)


def test_what_only_a_memory_can_do_is_said_in_one_line(memory):
    for name in WITHOUT:
        with pytest.raises(AttributeError, match=f"a Client has no {name}: ") as caught:
            getattr(memory, name)
        assert "\n" not in str(caught.value)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        memory.nonsense  # noqa: B018


def test_what_is_known_of_a_value_is_what_the_memory_knows(memory, twin):
    assert memory.store("a/ü %?#", "one", metadata={"n": [1]}, author="ann", trust=0.5, ttl=1000) == 1
    assert memory.store("a/ü %?#", "two", expect=1) == 2
    memory.store("raw", b"\0\xff")
    for name in ("a/ü %?#", "raw", "none"):
        assert known(memory.record(name)) == known(twin.record(name))
    with pytest.raises(VersionConflict, match="is of version 2, version 1 was expected") as caught:
        memory.store("a/ü %?#", "three", expect=1)
    assert (caught.value.subject, caught.value.version) == ("a/ü %?#", 2)
    assert "raw" in memory and "none" not in memory
    assert memory.retrieve_many(["raw", "none", "a/ü %?#"]) == {"raw": b"\0\xff", "a/ü %?#": "two"}


def test_values_that_were_valid_once_are_asked_for_by_their_moment(memory, twin):
    memory.keep_history()
    then = datetime(2020, 1, 1, tzinfo=timezone.utc)
    memory.store("capital", "Bonn", valid_from=then)
    memory.store("capital", "Berlin", valid_from=then + timedelta(days=1), author="bob")
    assert memory.retrieve("capital", as_of=then) == "Bonn"
    assert memory.retrieve("capital", as_of=0) is None
    assert memory.retrieve("capital") == "Berlin"
    assert memory.history("capital") == [known(record) for record in twin.history("capital")]
    memory.store("mood", "good")
    memory.store("mood", "better")
    assert [record.value for record in memory.history("mood")] == ["good", "better"]
    memory.keep_history(False)
    memory.store("day", 1)
    memory.store("day", 2)
    assert [record.value for record in memory.history("day")] == [2]


def test_many_are_stored_in_their_order_all_or_none(memory, twin):
    memory.store_many([("a", 1), ("b", b"2"), ("a", 3)], author="ann", metadata={"x": 1})
    assert [(r.key, r.value, r.author) for r in memory.scan()] == [("a", 3, "ann"), ("b", b"2", "ann")]
    copied = Record("c", {"v": 1}, 7, 10.0, 20.0, {"m": 1}, "eve", 0.25, valid_from=5.0)
    memory.store_many([copied, ("d", 1)], trust=0.5)
    assert known(memory.record("c")) == copied
    assert memory.record("d").trust == 0.5
    with pytest.raises(InvalidInput):
        memory.store_many([("e", 1), copied._replace(key="f", trust=7)])
    assert memory.forget_many(["a", "c", "none"]) == 2
    assert (memory.forget("b"), memory.forget("b")) == (True, False)
    assert dict(memory.items()) == dict(twin.items()) == {"d": 1}


def test_keys_come_in_their_order_page_by_page(memory):
    names = sorted(f"k{n}" for n in range(1001))
    memory.store_many((name, name) for name in names)
    assert list(memory) == names and len(memory) == 1001
    assert list(memory.keys("k99", after="k990")) == [
        name for name in names if name.startswith("k99") and name > "k990"
    ]
    assert [record.key for record in memory.scan(where={"value": {"$in": {"k7", "k8"}}})] == ["k7", "k8"]


def test_hits_are_those_of_the_memory(memory, twin):
    for number, text in enumerate(["the sky is blue", "it was red at dawn", "and grey at noon"]):
        memory.store(f"turn {number}", text, metadata={"session": "s", "n": number})
    assert memory.search("sky dawn", around=1) == twin.search("sky dawn", around=1)
    late = {"metadata.n": {"$gte": 1}, "updated": {"$gte": datetime(2020, 1, 1)}}
    assert memory.search("dawn", 1, late, by="words") == twin.search("dawn", 1, late, by="words") != []
    for wrong in ({"nothing": 1}, {"value": b"x"}):
        with pytest.raises(InvalidInput):
            memory.search("dawn", where=wrong)


def test_namespaces_are_dropped_with_all_within_them(memory):
    deep = memory.at("team/alice")
    deep.store("job", "cook")
    assert (memory.namespaces(), deep.retrieve("job")) == (["team/alice"], "cook")
    assert memory.drop_namespace("team") == 1
    assert memory.namespaces() == [] and deep.retrieve("job") is None
    for name in ("", "a//b"):
        with pytest.raises(InvalidInput):
            memory.drop_namespace(name)


def test_an_export_comes_back_by_an_import(memory, twin, tmp_path):
    memory.store("job", b"cook", author="ann")
    memory.namespace("deep").store("x", [1])
    assert memory.export(tmp_path / "one") == lines.export(twin, tmp_path / "two") == 2
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    other = memory.namespace("copy")
    assert other.import_(tmp_path / "one") == import_from(Memory(), tmp_path / "one")
    assert known(other.record("job")) == known(memory.record("job"))
    (tmp_path / "t.csv").write_text("key,value\na,1\n")
    assert other.import_(tmp_path / "t.csv").kind == "csv"
    (tmp_path / "bad").write_bytes((tmp_path / "one").read_bytes() + b"rubbish\n")
    with pytest.raises(InvalidInput, match="line 4"):
        other.import_(tmp_path / "bad")
    assert memory.stats()["records"] == 1 and memory.stats() == twin.stats()


@pytest.mark.parametrize("size", [10, 300_000])
def test_a_disk_that_fails_in_the_middle_of_an_export_is_named_and_not_the_server(memory, whole, tmp_path, size):
    memory.store("job", "x" * size)
    memory.store("more", "x" * size)
    (tmp_path / "out.partial").symlink_to("/dev/full")
    with pytest.raises(StorageError, match="the disk is full") as caught:
        memory.export(tmp_path / "out")
    assert str(tmp_path / "out") in str(caught.value)
    assert whole._wire.address not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_threads_share_a_client_and_lose_no_count(memory):
    def add(_):
        while True:
            record = memory.record("n")
            try:
                memory.store("n", (record.value if record else 0) + 1, expect=record.version if record else 0)
                return
            except VersionConflict:
                pass

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(add, range(40)))
    assert memory.retrieve("n") == 40


def test_a_connection_that_the_server_closed_meanwhile_is_opened_anew(server, tmp_path):
    with Memory(tmp_path / "m") as handle:
        handle.store("apple", "A fruit")
    with served(tmp_path / "m") as first:
        client = Client(f"http://127.0.0.1:{first.port}", key(tmp_path / "m"))
        first.stop()
        with served(tmp_path / "m", "--port", str(first.port)):
            assert client.retrieve("apple") == "A fruit"
        with pytest.raises(StorageError, match="cannot be reached"):
            client.retrieve("apple")


def test_a_key_opens_its_namespaces_and_no_more(server):
    address = f"http://127.0.0.1:{server.port}"
    alice = Client(address, key(server.folder, "team/alice", may="write"))
    alice.store("mine", 1)
    alice.namespace("deep").store("mine", 2)
    assert repr(alice) == f"<Client {address}, namespace 'team/alice'>"
    assert (alice.namespaces(), alice.at("deep").retrieve("mine")) == (["deep"], 2)
    reader = Client(address, key(server.folder, "team", may="read"), namespace="team/alice")
    assert reader.retrieve("mine") == 1
    with pytest.raises(WrongKey, match="may only read"):
        reader.store("mine", 2)
    with pytest.raises(WrongKey, match="needs admin"):
        alice.drop_namespace("deep")
    with pytest.raises(InvalidInput, match="no namespace 'bob'"):
        Client(address, alice._wire._key, namespace="bob")
    for wrong in ("em_no", "ü", "a\nb", ""):
        with pytest.raises(WrongKey) as caught:
            Client(address, wrong)
        assert "\n" not in str(caught.value)


def test_a_body_beyond_the_servers_limit_is_refused_in_one_line(memory):
    with pytest.raises(InvalidInput, match="a body may have"):
        memory.store("k", "x" * 30_000_000)
    assert memory.retrieve("k") is None


def test_a_server_that_is_not_there_or_does_not_answer_is_one_line(whole):
    for address in ("nonsense", "ftp://x", "http://", "http://x:y", "http://a@b", None):
        with pytest.raises(InvalidInput):
            Client(address, "em_x")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(StorageError, match=r"did not answer within 0\.2 s"):
            Client(address, "em_x", timeout=0.2)
    with pytest.raises(StorageError, match="cannot be reached"):
        Client(address, "em_x")


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "is no extmem server"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}", "answered 404, and is no extmem server"),
        (b"SSH-2.0\r\n\r\n", "broke off"),
        (b"", "broke off"),
        (b"HTTP/1.1 503 x\r\nContent-Length: 50\r\n\r\n"
         b'{"error": {"type": "Busy", "message": "too many"}}', "too many"),
    ],
    ids=range(5),
)  # fmt: skip
def test_another_server_and_a_busy_one_are_one_line(said, cause):
    with socket.create_server(("127.0.0.1", 0)) as other:

        def answer():
            one, _ = other.accept()
            with one:
                one.recv(10_000)
                one.sendall(said)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(StorageError, match=cause) as caught:
            Client(f"http://127.0.0.1:{other.getsockname()[1]}", "em_x")
        thread.join()
    assert "\n" not in str(caught.value)
