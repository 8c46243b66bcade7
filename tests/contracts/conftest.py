"""Every contract is held by every implementation: records and memories, in all the places they can lie."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from extmem import Memory
from extmem.records.base import Records
from extmem.records.ram import RamRecords
from extmem.records.sealed import Sealed
from extmem.records.sqlite import SqliteRecords

KEY = bytes(range(32))


@pytest.fixture(params=["ram", "folder", "sealed ram", "sealed folder"])
def records(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Records]:
    inner: Records = RamRecords() if request.param.endswith("ram") else SqliteRecords(tmp_path / "records")
    opened = Sealed(inner, KEY) if request.param.startswith("sealed") else inner
    yield opened
    opened.close()


@pytest.fixture(params=["ram", "folder", "sealed folder"])
def place(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def key(place: str) -> bytes | None:
    """What the memory is encrypted with."""
    return KEY if place.startswith("sealed") else None


@pytest.fixture
def memory(place: str, key: bytes | None, tmp_path: Path) -> Iterator[Memory]:
    with Memory(None if place == "ram" else tmp_path / "memory", key=key) as opened:
        yield opened
