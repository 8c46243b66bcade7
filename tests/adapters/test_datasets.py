"""Rows of Hugging Face's datasets as documents."""

from __future__ import annotations

import hosts
import pytest

from extmem import Memory
from extmem.adapters.datasets import documents
from extmem.adapters.huggingface import memorize
from extmem.errors import InvalidInput

datasets = pytest.importorskip("datasets", reason="datasets is not installed here: `make adapters` runs this file")


def rows():
    return datasets.Dataset.from_dict({"text": [hosts.TEXT[:300], hosts.TEXT[300:600]], "id": ["x", "y"]})


def test_rows_are_memorized_by_their_keys_or_numbers_and_as_they_arrive():
    model, tokenizer = hosts.model("llama"), hosts.tokenizer()
    with Memory() as memory:
        assert memorize(model, tokenizer, memory, documents(rows(), key="id")).documents == 2
        assert memorize(model, tokenizer, memory, documents(rows().to_iterable_dataset(), name="n")).documents == 2
        assert dict(memory.items()) == dict.fromkeys(("x", "n:0"), rows()[0]["text"]) | dict.fromkeys(
            ("y", "n:1"), rows()[1]["text"]
        )


def test_our_own_models_memorize_them_too(model):
    with Memory() as memory:
        assert model.memorize(memory, documents(rows(), key="id")).documents == 2


def test_bad_input_is_one_line_that_says_the_cure():
    with pytest.raises(InvalidInput, match="no column 'body': choose from text, id"):
        list(documents(rows(), text="body"))
    with pytest.raises(InvalidInput, match="no text in column 'n'"):
        list(documents(datasets.Dataset.from_dict({"n": [1]}), text="n"))
    with pytest.raises(InvalidInput, match="give one, such as dataset\\['train'\\]"):
        list(documents(datasets.DatasetDict({"train": rows()})))
