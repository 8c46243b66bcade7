"""Keys and values at the ends of what text and bytes can be, in every place a memory can lie."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from figures import Figures, rounds

from extmem import Memory
from extmem.errors import InvalidInput

MB = 1_000_000
_numbers = itertools.count()


@pytest.fixture(params=["ram", "folder", "postgres", "sealed"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, object]:
    """What to open a memory with."""
    if request.param == "postgres":
        return {"place": f"{request.getfixturevalue('postgres').url}?extmem_schema=extreme_{next(_numbers)}"}
    return {"place": None if request.param == "ram" else tmp_path / "m"} | (
        {"key": bytes(32)} if request.param == "sealed" else {}
    )


@pytest.fixture
def memory(place: dict[str, object]) -> Iterator[Memory]:
    with Memory(**place) as opened:
        yield opened


def planes() -> list[str]:
    """For each of Unicode's 17 planes its first, middle and last characters; surrogates are none."""
    found = []
    for plane in range(17):
        codes = [plane << 16 | low for low in (0x0000, 0x0001, 0x00E9, 0x4E2D, 0x7FFF, 0xD7FF, 0xE000, 0xFFFD, 0xFFFF)]
        found.append("".join(map(chr, codes)))
    return found


def again(memory: Memory, place: dict[str, object]) -> Iterator[Memory]:
    """The handle, then a new one where there can be one."""
    yield memory
    if place["place"] is not None:
        with Memory(**place) as other:
            yield other


def test_empty_and_nul_and_every_plane_come_back_exactly(memory, place):
    texts = ["", "\0", "a\0b", "\0\0", " ", "\n\r\t", "\ufeff", "e\u0301", "\u00e9", "\u202e", "'\";--", *planes()]
    values = [*texts, b"", b"\0", bytes(range(256)), {"": [""]}, {"\0": "\0"}, [], {}, 0, -0.0, 1e308, 2**70, False]
    stored = {f"{key} {number}" if number else key: value for key in texts for number, value in enumerate(values)}
    memory.store_many(stored.items(), metadata={"\0": planes()}, author="\0")
    for handle in again(memory, place):
        assert list(handle.keys()) == sorted(stored)
        assert handle.retrieve_many(stored) == stored
        for key in texts:
            assert handle.retrieve(key) == "" and handle.record(key).metadata == {"\0": planes()}
            assert list(handle.keys(key)) == sorted(other for other in stored if other.startswith(key))
        assert handle.verify() == []
    assert memory.forget_many(texts) == len(texts) and memory.retrieve("\0") is None
    assert len(memory) == len(stored) - len(texts)


def test_ten_megabytes_as_key_and_value(memory, place):
    long, wide = "key " * (10 * MB // 4), "中" * (10 * MB // 3)
    data = bytes(range(250)) * (10 * MB // 250)
    for key, value in ((long, "of a long key"), (long + "2", wide), ("bytes", data), (wide, data), ("json", [long])):
        assert memory.store(key, value) == 1
    for handle in again(memory, place):
        assert handle.retrieve(long) == "of a long key" and handle.retrieve(long + "2") == wide
        assert handle.retrieve("bytes") == data == handle.retrieve(wide) and handle.retrieve("json") == [long]
        assert list(handle.keys("key ")) == [long, long + "2"] and long in handle
        assert handle.record("bytes").version == 1
    assert memory.store(long, "another") == 2 and memory.forget(long + "2") and len(memory) == 4


@pytest.mark.parametrize("half", ["\ud800", "a\udfff", "\udc80b"])
def test_half_a_surrogate_pair_is_refused_everywhere(memory, half):
    memory.store("k", "v")
    for work in (
        lambda: memory.store(half, "x"),
        lambda: memory.store("x", half),
        lambda: memory.store("x", {"a": [half]}),
        lambda: memory.store("x", {half: 1}),
        lambda: memory.store("x", "x", metadata={"a": half}),
        lambda: memory.store("x", "x", author=half),
        lambda: memory.store_many([("fine", "x"), ("x", half)]),
        lambda: memory.retrieve(half),
        lambda: memory.retrieve_many([half]),
        lambda: memory.forget(half),
        lambda: list(memory.keys(half)),
        lambda: memory.namespace(half),
    ):
        with pytest.raises(InvalidInput) as error:
            work()
        assert "surrogate" in str(error.value) and "\n" not in str(error.value)
    assert dict(memory.items()) == {"k": "v"} and memory.namespaces() == []


def test_very_many_keys_with_one_prefix(memory, request):
    where = request.node.callspec.params["place"]
    many, prefix = rounds(20_000, MB if where in ("ram", "folder") else 100_000), "the same long prefix of a key " * 4
    figures = Figures(f"{many:,} keys with one prefix, {where}")
    memory.store_many((f"{prefix}{number:07}", number) for number in range(many))
    memory.store("the same", "another")
    keys = memory.keys(prefix)
    assert [next(keys) for _ in range(3)] == [f"{prefix}{number:07}" for number in range(3)]
    assert sum(1 for _ in memory.keys(prefix)) == many == len(memory) - 1
    assert list(memory.keys(prefix, after=f"{prefix}{many - 2:07}")) == [f"{prefix}{many - 1:07}"]
    for number in range(0, many, many // 1000):
        figures.rounds, figures.checked = figures.rounds + 1, figures.checked + 1
        if memory.retrieve(f"{prefix}{number:07}") == number:
            figures.outcomes["right"] += 1
        else:
            figures.fail(f"key {number}: {memory.retrieve(f'{prefix}{number:07}')!r}")
    assert memory.forget(f"{prefix}{7:07}") and len(memory) == many
    figures.close("read and iterated in order")
