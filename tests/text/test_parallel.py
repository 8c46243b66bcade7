"""Parallel files are read pair by pair, and what does not match is named with its line."""

from __future__ import annotations

import gzip

import pytest

from extmem.errors import CorpusError
from extmem.text.parallel import Pair, read_pairs


def test_the_nth_line_goes_with_the_nth_in_two_files_or_in_one(tmp_path):
    (tmp_path / "a.en").write_text("A man.\r\nCafe\u0301 open.\n", encoding="utf-8")
    (tmp_path / "a.de.gz").write_bytes(gzip.compress(b"Ein Mann.\n Das Lokal ist offen. \n"))
    (tmp_path / "a.tsv").write_text("A man.\tEin Mann.\tCC-BY\nCafé open.\tDas Lokal ist offen.\n", encoding="utf-8")
    expected = [Pair("A man.", "Ein Mann."), Pair("Café open.", "Das Lokal ist offen.")]
    assert read_pairs(tmp_path / "a.en", tmp_path / "a.de.gz") == expected
    assert read_pairs(tmp_path / "a.tsv") == expected


@pytest.mark.parametrize(
    ("source", "target", "cause"),
    [
        ("one\ntwo\n", "eins\n", "has 2 lines and .* 1"),
        ("one\n\nthree\n", "eins\nzwei\ndrei\n", "line 2 is empty on one side"),
        ("one\n", " \n", "line 1 is empty"),
        ("", "", "no sentences"),
        ("A man sleeps.\nA dog runs home.\n", "A man sleeps.\nA big dog runs home.\n", "the same on both sides"),
    ],
)
def test_files_that_do_not_match_are_refused(tmp_path, source, target, cause):
    (tmp_path / "a").write_text(source)
    (tmp_path / "b").write_text(target)
    with pytest.raises(CorpusError, match=cause):
        read_pairs(tmp_path / "a", tmp_path / "b")


def test_a_line_without_a_tab_and_a_file_that_is_not_there_are_named(tmp_path):
    (tmp_path / "a.tsv").write_text("one\teins\ntwo\n")
    with pytest.raises(CorpusError, match="line 2 has no tab"):
        read_pairs(tmp_path / "a.tsv")
    with pytest.raises(CorpusError, match="is no file"):
        read_pairs(tmp_path / "a.tsv", tmp_path / "nowhere")
