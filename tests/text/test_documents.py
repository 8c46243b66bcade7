"""Files become documents, or one line says why not."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from extmem.errors import CorpusError
from extmem.text.documents import Document, read_documents, split_corpus


def test_a_file_is_one_document_without_byte_order_mark_and_with_plain_line_ends(tmp_path: Path) -> None:
    file = tmp_path / "诗.txt"
    file.write_bytes("\ufeff床前明月光\r\n疑是地上霜\r".encode())
    assert list(read_documents(file)) == [Document("诗.txt", "床前明月光\n疑是地上霜\n")]
    assert list(read_documents(str(file))) == list(read_documents(file))


def test_a_compressed_file_reads_as_the_file_it_was(tmp_path: Path) -> None:
    (tmp_path / "a.md.gz").write_bytes(gzip.compress(b"# title\n"))
    assert list(read_documents(tmp_path / "a.md.gz")) == [Document("a.md", "# title\n")]


def test_a_single_file_of_any_suffix_is_read_as_text(tmp_path: Path) -> None:
    (tmp_path / "notes.log").write_text("one\n")
    assert list(read_documents(tmp_path / "notes.log")) == [Document("notes.log", "one\n")]


def test_json_lines_are_documents_with_their_own_keys_or_their_line_number(tmp_path: Path) -> None:
    lines = [{"text": "a", "key": "k"}, {"content": "b", "id": 7}, {"value": "c\r\nd"}, {"text": ""}]
    content = "\n\n".join(json.dumps(line) for line in [*lines, {"text": "e", "id": 0}])
    (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress(content.encode()))
    assert list(read_documents(tmp_path / "x.jsonl.gz")) == [
        Document("k", "a"),
        Document("7", "b"),
        Document("x.jsonl:5", "c\nd"),
        Document("0", "e"),
    ]


def test_a_folder_is_read_in_order_without_hidden_unknown_and_empty_files(tmp_path: Path) -> None:
    for name in ("b.txt", "a/z.rst", "a/.hidden/x.txt", ".x.txt", "picture.png", "a.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "empty.txt").write_text(" \n")
    assert [document.key for document in read_documents(tmp_path)] == ["a.md", "a/z.rst", "b.txt"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("nul.txt", b"abc\x00def", "byte 3 is NUL"),
        ("latin.txt", b"\xef\xbb\xbfcaf\xe9 au lait", "byte 6"),
        ("bad.jsonl", b'{"text": "a"}\n{"text": \n', "line 2 is not JSON"),
        ("list.jsonl", b'{"text": "a"}\n\n["a"]', 'line 3 has no "text"'),
        ("half.jsonl", b'{"text": "\\ud800"}', "line 1 holds half a character"),
        ("empty.txt", b"", "is empty"),
        ("blank.txt", b" \n\n", "is empty"),
        ("cut.txt.gz", gzip.compress(b"some text", mtime=0)[:-9], "not a whole gzip file"),
        ("plain.txt.gz", b"some text", "not a whole gzip file"),
    ],
)
def test_what_cannot_be_read_is_told_in_a_line(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError) as caught:
        list(read_documents(tmp_path / name))
    assert says in str(caught.value) and name in str(caught.value) and "\n" not in str(caught.value)
    assert caught.value.subject == tmp_path / name


def test_a_missing_path_and_a_folder_with_nothing_to_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="does not exist"):
        read_documents(tmp_path / "nowhere")
    with pytest.raises(CorpusError, match="holds no text"):
        split_corpus(tmp_path)


@pytest.mark.parametrize("stem", ["valid", "val", "dev"])
def test_a_corpus_that_is_split_stays_split_and_its_test_set_is_never_read(tmp_path: Path, stem: str) -> None:
    (tmp_path / "train.jsonl.gz").write_bytes(gzip.compress(b'{"text": "a"}\n{"text": "b"}'))
    (tmp_path / f"{stem}.txt").write_text("c")
    (tmp_path / "test.txt").write_bytes(b"\x00")
    (tmp_path / "README.md").write_bytes(b"\x00")
    corpus = split_corpus(tmp_path)
    assert [document.text for document in corpus.train] == ["a", "b"]
    assert corpus.valid == [Document(f"{stem}.txt", "c")]


def test_every_twentieth_document_is_held_out(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text("\n".join(json.dumps({"text": f"text {n}"}) for n in range(1, 46)))
    corpus = split_corpus(tmp_path / "x.jsonl")
    assert [document.text for document in corpus.valid] == ["text 20", "text 40"]
    assert len(corpus.train) == 43


@pytest.mark.parametrize(
    ("text", "ends_with"), [("nine words of text\n" * 100, "\n"), ("word " * 500, " "), ("漢" * 1000, "漢")]
)
def test_of_few_documents_the_end_is_held_out(tmp_path: Path, text: str, ends_with: str) -> None:
    (tmp_path / "x.txt").write_text(text, encoding="utf-8")
    corpus = split_corpus(tmp_path / "x.txt")
    assert corpus.train[0].text + corpus.valid[0].text == text
    assert corpus.train[0].text.endswith(ends_with)
    assert 0.03 < len(corpus.valid[0].text) / len(text) < 0.07


def test_a_text_too_short_to_hold_out_a_part_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("word")
    with pytest.raises(CorpusError, match="too short"):
        split_corpus(tmp_path / "x.txt")
