"""Examples are read from files that name their columns; what has no text or no label is named with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from extmem.errors import CorpusError
from extmem.text.labelled import read_labelled


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'label,text\n1,"a, b"\n2,c\n'),
        ("a.tsv", "text\tlabel\na, b\t1\nc\t2\n"),
        ("a.jsonl", '{"text": "a, b", "label": 1}\n\n{"label": "2", "text": "c"}\n'),
    ],
)
def test_text_and_label_are_read(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    assert read_labelled(tmp_path / name) == [("a, b", "1"), ("c", "2")]


def test_blank_rows_are_passed_over_and_a_cell_may_be_long(tmp_path: Path) -> None:
    long = "word " * 50_000
    (tmp_path / "a.csv").write_text(f"text,label\n\n{long},x\n")
    assert read_labelled(tmp_path / "a.csv") == [(long, "x")]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "text,label\n", "holds no examples"),
        ("a.csv", "a,b\nc,d\n", "line 2 has no text or no label"),
        ("a.csv", "text,label\nc,\n", "line 2 has no text or no label"),
        ("a.jsonl", "[1]\n", "line 1 has no text or no label"),
        ("a.jsonl", '{"text": "a", "label": "b"}\n{', "line 2 is not JSON"),
        ("a.txt", "a\tb", "of a kind that is not read"),
    ],
)
def test_what_is_wrong_is_named(name: str, content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(CorpusError, match=said) as refused:
        read_labelled(tmp_path / name)
    assert str(tmp_path / name) in str(refused.value)
