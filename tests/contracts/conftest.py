"""Every contract is held by every implementation: records and memories, in all the places they can lie."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from extmem import Memory
from extmem.opening import open_plain
from extmem.records.base import Records
from extmem.records.sealed import Sealed

KEY = bytes(range(32))
_numbers = itertools.count()


def where(kind: str, request: pytest.FixtureRequest, folder: Path) -> str | Path | None:
    """A new place of this kind."""
    if kind.endswith("postgres"):
        return f"{request.getfixturevalue('postgres').url}?extmem_schema=test_{next(_numbers)}"
    return None if kind.endswith("ram") else folder / "memory"


@pytest.fixture(params=["ram", "folder", "postgres", "sealed ram", "sealed folder", "sealed postgres"])
def records(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Records]:
    inner = open_plain(where(request.param, request, tmp_path))
    opened = Sealed(inner, KEY) if request.param.startswith("sealed") else inner
    yield opened
    opened.close()


@pytest.fixture(params=["ram", "folder", "postgres", "sealed folder"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str | Path | None:
    return where(request.param, request, tmp_path)


@pytest.fixture
def key(request: pytest.FixtureRequest, place: object) -> bytes | None:
    """What the memory is encrypted with."""
    return KEY if "sealed" in request.node.callspec.id else None


@pytest.fixture
def memory(place: str | Path | None, key: bytes | None) -> Iterator[Memory]:
    with Memory(place, key=key) as opened:
        yield opened
