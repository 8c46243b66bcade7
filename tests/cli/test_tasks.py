"""answer, classify, domain: what they print, to people and to machines, and how they refuse."""

from __future__ import annotations

from pathlib import Path

import pytest
from shell import declined, run, said, told


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    said("store", "tower", "The Eiffel Tower stands in Paris. It was finished in 1889.", folder=tmp_path)
    return tmp_path


def test_an_answer_for_machines_says_where_it_is_from(folder: Path) -> None:
    found = told("answer", "When was the Eiffel Tower finished?", folder=folder)
    assert found["answer"] == "It was finished in 1889."
    assert found["citations"] == [{"key": "tower", "start": 34, "end": 58, "weight": 1.0}]
    assert found["confidence"] > 0.27
    unknown = told("answer", "Who discovered Neptune?", folder=folder, status=1)
    assert (unknown["answer"], unknown["citations"]) == (None, [])
    asked = run("answer", "-", folder=folder, input="When was the Eiffel Tower finished?\n")
    assert asked.stdout.splitlines()[0] == "It was finished in 1889."


def test_a_domain_names_what_it_cannot_read_and_does_the_rest(folder: Path) -> None:
    (folder / "notes").mkdir()
    (folder / "notes" / "good.md").write_text("# Pears\n\nPears are green.\n")
    (folder / "notes" / "bad.pdf").write_bytes(b"%PDF-1.4")
    done = run("domain", "notes", "--words", folder=folder)
    assert done.returncode == 0
    assert done.stdout == "./extmem.mem: 1 file, 1 passage, 1 new, 0 forgotten\n"
    assert done.stderr.count("\n") == 1
    assert "bad.pdf is not a whole PDF" in done.stderr
    added = told("domain", "notes", "--words", folder=folder)
    assert (added["files"], added["new"], len(added["refused"]), added["missing"]) == (1, 0, 1, [])
    (folder / "notes" / "good.md").write_text("A bank identifier code (BIC) names a bank.\n")
    assert [one["term"] for one in told("domain", "notes", "--words", "--glossary", folder=folder)["terms"]] == ["BIC"]
    assert told("domain", folder=folder) == {"files": {"notes/good.md": 1}}
    assert told("domain", "--glossary", folder=folder)["terms"][0]["key"] == "notes/good.md, line 1"


def test_labels_are_remembered_trained_and_told(folder: Path) -> None:
    (folder / "examples.tsv").write_text(
        "text\tlabel\nripe apple\tfruit\nripe pear\tfruit\nsteel saw\ttool\nsteel axe\ttool\n"
    )
    found = told("classify", "a ripe fig", "--examples", "examples.tsv", "--train", "--model", "", folder=folder)
    assert found["remembered"] == 4
    assert found["trained"] == {"fruit": 2, "tool": 2}
    assert found["label"] == "fruit"
    assert list(found["probabilities"]) == ["fruit", "tool"]
    assert found["citations"][0]["key"].startswith("example/")
    shown = said("classify", "a steel saw", "--model", "", folder=folder).splitlines()
    assert shown[0].endswith("%  tool")
    assert "steel saw" in shown[2]


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (("answer", "why?", "--memory", "nowhere"), "there is no memory at nowhere"),
        (("answer", "why?", "--where", "{"), "is not JSON"),
        (("answer", "Eiffel Tower finished?", "--writer", "no such model"), "is not a folder, and no causal model"),
        (("classify", "text", "--model", ""), "no record has a label"),
        (("classify",), "nothing to do"),
        (("classify", "text", "--examples", "nowhere.csv"), "nowhere.csv does not exist"),
        (("domain", "nowhere"), "nowhere does not exist"),
    ],
)
def test_what_cannot_be_done_is_refused_in_a_line(folder: Path, words: tuple[str, ...], cause: str) -> None:
    assert cause in declined(*words, folder=folder)


def test_what_fails_makes_no_memory(tmp_path: Path) -> None:
    missing = ("classify", "--examples", "missing.csv")
    for words in (("answer", "why?"), ("classify", "text"), ("domain",), ("domain", "nowhere"), missing):
        declined(*words, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_theme_is_written_on_from_what_is_found(folder: Path, corpus: Path, model: object) -> None:
    words = ("write", "The Eiffel Tower", "--writer", str(corpus.parent / "model"), "--max-tokens", "12")
    shown = said(*words, folder=folder).splitlines()
    assert "Paris" in shown[0]
    assert " %  tower [" in shown[1].replace("%", " %")
    found = told(*words, folder=folder)
    assert (found["text"], found["found"]) == (shown[0], ["tower"])
    assert {one["key"] for one in found["citations"]} == {"tower"}
    assert told("write", "volcanoes", *words[2:], folder=folder, status=1) == {
        "text": None, "citations": [], "found": [],
    }  # fmt: skip
    assert "not a writer" in declined("write", "volcanoes", "--writer", "", folder=folder)
