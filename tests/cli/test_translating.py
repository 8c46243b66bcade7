"""translate: training on parallel files, remembering, translating; what it prints, and how it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from shell import declined, run, said, told

import small_language
from extmem import LanguageModel


@pytest.fixture
def folder(translating: LanguageModel, tmp_path: Path) -> Path:
    """A translator, "model", and the pairs it was trained on."""
    translating.save(tmp_path / "model")
    small_language.write(tmp_path)
    return tmp_path


def test_a_translator_is_trained_on_parallel_files_and_remembers_them(folder: Path) -> None:
    options = ("--tokenizer", "bpe", "--vocabulary", "300", "--units", "8", "--embedding", "8", "--epochs", "1")
    trained = told("train", "small.xx", "--source", "small.en", "--out", "tiny", *options, folder=folder)
    assert trained["config"]["encoder"] == 1
    added = told("translate", "tiny", "--source", "small.en", "--target", "small.xx", folder=folder)
    assert added["pairs"] == 144
    source, target = small_language.pairs()[5]
    assert said("translate", "tiny", source, folder=folder) == f"{target}\n"


def test_a_translation_for_machines_says_where_each_token_is_from(folder: Path) -> None:
    (folder / "some.tsv").write_text("The old dog sees the cat.\tLo kanu vek vidar lo gatu.\n", encoding="utf-8")
    found = told("translate", "model", "The old dog finds the cat.", "--source", "some.tsv", folder=folder)
    assert (found["pairs"], found["entries"]) == (1, 8)
    (line,) = found["lines"]
    assert line["source"] == "The old dog finds the cat."
    assert line["translation"] == found["translation"]
    assert {one["key"] for token in line["tokens"] for one in token["citations"]} == {"The old dog sees the cat."}
    stored = said("translate", "model", "The old dog sees the cat.", "--cite", folder=folder).splitlines()
    assert stored[0] == "Lo kanu vek vidar lo gatu."
    assert stored[1] == "  Lo  100%  100% The old dog sees the cat. [0:2]"


def test_files_and_standard_input_are_translated_line_by_line(folder: Path) -> None:
    (folder / "asked.txt").write_text("The old dog sees the cat.\nA small cat sees the dog.\n", encoding="utf-8")
    by_file = said("translate", "model", "--file", "asked.txt", folder=folder)
    assert by_file.count("\n") == 2
    typed = run("translate", "model", "-", folder=folder, input=(folder / "asked.txt").read_text())
    assert typed.stdout == by_file


def test_terms_are_stored_and_used(folder: Path) -> None:
    found = told("translate", "model", "A small dog sees the cat.", "--term", "dog=hundu", folder=folder)
    assert found["terms"] == {"dog": "hundu"}
    assert found["used"] == ["dog"]
    assert "hundu" in found["translation"].lower()
    said("forget", "dog", folder=folder)
    again = told("translate", "model", "A small dog sees the cat.", folder=folder)
    assert (again["used"], "hundu" in again["translation"]) == ([], False)


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (("model",), "nothing to do"),
        (("model", "--target", "small.xx"), "give --source"),
        (("model", "A dog.", "--term", "dog"), "give a phrase and its translation"),
        (("model", "A dog.", "--term", "dog="), "a phrase and its translation"),
        (("model", "--file", "nowhere"), "nowhere is no file"),
        (("model", "--source", "small.en", "--target", "small.en"), "the same on both sides"),
        (("model", "--source", "small.en", "--target", "short"), "has 144 lines and short 1"),
        (("model", "Der Hund schläft heute lange."), "5 of the 5 words"),
        (("nowhere", "A dog."), "nowhere holds no model"),
    ],
)
def test_what_cannot_be_done_is_refused_in_a_line(folder: Path, words: tuple[str, ...], cause: str) -> None:
    (folder / "short").write_text("Lo.\n")
    assert cause in declined("translate", *words, folder=folder)
    assert not (folder / "extmem.mem").exists()


def test_a_translator_is_not_given_texts_without_their_source(folder: Path) -> None:
    assert "is a translator: give it pairs" in declined("memorize", "model", "small.xx", folder=folder)
    assert "use extmem translate" in declined("generate", "model", "A dog", folder=folder)
