"""A folder becomes a knowledge base: every passage says where it stands, and what changed is read again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from extmem import Memory
from extmem.errors import CorpusError
from extmem.tasks.domain import WORDS, Domain, Term


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    top = tmp_path / "fruit"
    (top / "more").mkdir(parents=True)
    (top / "apples.md").write_text("# Apples\n\nApples are red.\n\n## Storing\n\nKeep them cool.\n")
    (top / "long.txt").write_text("".join(f"Sentence number {number} is about plums.\n" for number in range(100)))
    (top / "more" / "pears.csv").write_text("name,colour\nConference,green\nWilliams,yellow\n")
    return top


def test_every_passage_says_where_it_stands(folder: Path) -> None:
    memory = Memory()
    added = Domain(memory).read(folder)
    assert (added.files, added.refused, added.missing, added.forgotten) == (3, (), (), 0)
    assert added.passages == added.new == len(memory)
    assert "fruit/apples.md, line 5, Apples / Storing" in memory
    assert memory.retrieve("fruit/more/pears.csv, line 3, Williams") == "name: Williams\ncolour: yellow"
    lines = (folder / "long.txt").read_text().split("\n")
    for record in memory.scan("fruit/long.txt"):
        line = record.metadata["line"]
        assert record.key == f"fruit/long.txt, line {line}"
        assert record.value.split("\n")[0] == lines[line - 1]
        assert len(record.value.split()) <= WORDS
    said = [line for record in memory.scan("fruit/long.txt") for line in record.value.split("\n")]
    assert sorted(said) == sorted(lines[:-1])


def test_a_long_row_is_of_one_line_though_its_text_has_more(tmp_path: Path) -> None:
    memory, text = Memory(), "One sentence of a row.\\n" * 60
    (tmp_path / "rows.jsonl").write_text(f'{{"text": "first"}}\n{{"text": "{text}"}}\n{{"text": "last"}}\n')
    Domain(memory).read(tmp_path / "rows.jsonl")
    assert [record.metadata["line"] for record in memory.scan()] == [1, *[2] * (len(memory) - 2), 3]
    assert "rows.jsonl, line 2 (2)" in memory


def test_reading_again_changes_what_changed_and_nothing_else(folder: Path) -> None:
    memory = Memory()
    domain = Domain(memory)
    memory.store("note", "mine")
    domain.read(folder)
    before = {key: memory.record(key).id for key in memory}
    assert domain.read(folder).new == 0
    assert {key: memory.record(key).id for key in memory} == before
    (folder / "apples.md").write_text("# Apples\n\nApples are green.\n")
    again = domain.read(folder)
    assert (again.new, again.forgotten) == (1, 1)
    assert [hit.value for hit in memory.search("apples green", where={"metadata.file": "fruit/apples.md"})] == [
        "# Apples\n\nApples are green."
    ]
    assert memory.search("cool") == []
    assert memory.retrieve("note") == "mine"


def test_a_file_that_is_gone_is_named_and_forgotten_only_when_asked(folder: Path) -> None:
    domain = Domain(Memory())
    domain.read(folder)
    (folder / "apples.md").unlink()
    assert domain.read(folder).missing == ("fruit/apples.md",)
    assert domain.documents()["fruit/apples.md"] == 2
    assert domain.read(folder, prune=True).forgotten == 2
    assert "fruit/apples.md" not in domain.documents()


def test_what_cannot_be_read_is_named_and_the_rest_is_done(folder: Path) -> None:
    memory = Memory()
    (folder / "broken.pdf").write_bytes(b"%PDF-1.4")
    (folder / "binary.txt").write_bytes(b"\0\1")
    (folder / "empty.md").write_text("")
    added = Domain(memory).read(folder)
    assert added.files == 3
    assert [Path(line.split(" ")[0]).name for line in added.refused] == ["binary.txt", "broken.pdf", "empty.md"]
    assert memory.search("apples red")


def test_a_name_that_is_not_text_is_named_and_the_rest_is_done(folder: Path) -> None:
    Path(os.fsdecode(bytes(folder / "n") + b"\xff.txt")).write_text("Quinces are yellow.")
    added = Domain(Memory()).read(folder)
    assert added.files == 3
    assert [line.partition("fruit/")[2] for line in added.refused] == [
        r"n\udcff.txt' has a name that is not UTF-8: rename it."
    ]


def test_a_file_that_can_no_longer_be_read_keeps_what_is_remembered(folder: Path) -> None:
    domain = Domain(Memory())
    domain.read(folder)
    (folder / "apples.md").write_bytes(b"\0")
    assert len(domain.read(folder, prune=True).refused) == 1
    assert domain.documents()["fruit/apples.md"] == 2


def test_a_file_does_not_take_the_place_of_another_of_its_name(folder: Path, tmp_path: Path) -> None:
    memory = Memory()
    Domain(memory).read(folder)
    other = tmp_path / "other" / "fruit"
    other.mkdir(parents=True)
    (other / "apples.md").write_text("Apples are blue.")
    (other / "more.txt").write_text("More about fruit.")
    added = Domain(memory).read(other)
    assert (added.files, len(added.refused)) == (1, 1)
    assert "goes by the name of" in added.refused[0]
    assert "fruit/apples.md, line 1, Apples" in memory
    memory.store("fruit/new.txt, line 1", "mine")
    (folder / "new.txt").write_text("Theirs.")
    assert "is another record's" in Domain(memory).read(folder).refused[0]
    assert memory.retrieve("fruit/new.txt, line 1") == "mine"


def test_a_folder_that_was_moved_is_read_again(folder: Path, tmp_path: Path) -> None:
    domain = Domain(Memory())
    domain.read(folder)
    (tmp_path / "there").mkdir()
    moved = folder.rename(tmp_path / "there" / "fruit")
    assert domain.read(moved).refused == ()


def test_the_glossary_has_what_was_defined_and_what_passages_explain(folder: Path) -> None:
    (folder / "lungs.txt").write_text("Chronic obstructive pulmonary disease (COPD) is common.\nCOPD is treated.\n")
    memory = Memory()
    domain = Domain(memory)
    domain.read(folder)
    domain.define("pome", "A fruit as the apple is.")
    assert domain.glossary() == [
        Term("COPD", "Chronic obstructive pulmonary disease", "fruit/lungs.txt, line 1"),
        Term("pome", "A fruit as the apple is.", "glossary/pome"),
    ]
    domain.remove("fruit/lungs.txt")
    memory.forget("glossary/pome")
    assert domain.glossary() == []


@pytest.mark.parametrize(("name", "said"), [("nowhere", "does not exist"), ("empty", "holds no file that is read")])
def test_nothing_to_read_is_said(name: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match=said):
        Domain(Memory()).read(tmp_path / name)
