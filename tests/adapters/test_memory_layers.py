"""Memory layers inside models of Hugging Face's: they change nothing until they are trained, and go where they came."""

from __future__ import annotations

import hosts
import numpy as np
import pytest
import torch

from extmem.adapters.huggingface import (
    add_memory_layer,
    load_memory_layers,
    remove_memory_layers,
    save_memory_layers,
)
from extmem.errors import InvalidInput, ModelError
from extmem.reading import Reading

FAMILIES = [*hosts.CAUSAL, *hosts.SEQ2SEQ]


def inputs(kind: str) -> dict[str, torch.Tensor]:
    ids = hosts.tokenizer()(hosts.TEXT[:100], return_tensors="pt")["input_ids"]
    return {"input_ids": ids, "labels": ids}


@torch.no_grad()
def said(model, given):
    return model(**given).logits


def trained(model, given, steps=12):
    optimizer = torch.optim.Adam([one for one in model.parameters() if one.requires_grad], lr=1e-2)
    model.train()
    for _ in range(steps):
        loss = model(**given).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return float(model.eval()(**given).loss.detach())


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_new_layer_changes_no_output_and_a_trained_one_comes_back_from_its_folder(kind, tmp_path):
    model, given = hosts.model(kind), inputs(kind)
    before, loss = said(model, given), float(model(**given).loss.detach())
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    layers = add_memory_layer(model, every=2, slots=8, freeze=True)
    assert len(layers) == (1 if kind in hosts.SEQ2SEQ else 2)
    assert torch.equal(said(model, given), before)
    assert trained(model, given) < loss - 0.05
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in weights.items())
    save_memory_layers(model, tmp_path / "layers")
    logits = said(model, given)
    other = hosts.model(kind)
    load_memory_layers(other, tmp_path / "layers")
    assert torch.equal(said(other, given), logits)
    remove_memory_layers(other)
    assert torch.equal(said(other, given), before) and set(other.state_dict()) == set(weights)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "t5"])
def test_generate_gives_with_its_cache_what_it_gives_without(kind):
    model = hosts.model(kind)
    for layer in add_memory_layer(model, every=1, slots=8):
        torch.nn.init.normal_(layer.output.weight)
    given = {"input_ids": inputs(kind)["input_ids"], "do_sample": False, "max_new_tokens": 10}
    for decoding in ({}, {"num_beams": 3}):
        with_cache = model.generate(**given, **decoding)
        assert torch.equal(with_cache, model.generate(**given, **decoding, use_cache=False))


class Fixed:
    """The same two entries for every query."""

    vectors = np.random.default_rng(0).normal(size=(2, 32)).astype(np.float32)

    def nearest(self, queries, k):
        count = len(queries)
        return Reading(
            np.tile([0, 1], (count, 1)), np.ones((count, 2), np.float32), np.tile(self.vectors, (count, 1, 1))
        )


def test_a_layer_attends_to_the_entries_it_is_handed():
    model, given = hosts.model("llama"), inputs("llama")
    for layer in add_memory_layer(model, every=2, slots=2, nearest=Fixed()):
        torch.nn.init.normal_(layer.output.weight)
    first = said(model, given)
    Fixed.vectors = -Fixed.vectors
    assert not torch.allclose(first, said(model, given))


def test_bad_input_is_one_line_that_says_the_cure(tmp_path):
    model = hosts.model("llama")
    refused = [
        (InvalidInput, "every is 5: the decoder has 4 blocks", lambda: add_memory_layer(model, every=5)),
        (InvalidInput, "every is 0", lambda: add_memory_layer(model, every=0)),
        (InvalidInput, "not a model of Hugging Face's", lambda: add_memory_layer(torch.nn.Linear(2, 2))),
        (InvalidInput, "no memory layers", lambda: save_memory_layers(model, tmp_path)),
        (ModelError, "holds no memory layers", lambda: load_memory_layers(model, tmp_path)),
    ]
    for kind, match, work in refused:
        with pytest.raises(kind, match=match):
            work()
    add_memory_layer(model)
    with pytest.raises(InvalidInput, match="layers already"):
        add_memory_layer(model)
    save_memory_layers(model, tmp_path)
    with pytest.raises(ModelError, match="of a model of width 32 with 4 blocks"):
        load_memory_layers(hosts.model("t5"), tmp_path)
    (tmp_path / "memory_layers.safetensors").write_bytes(b"half")
    with pytest.raises(ModelError, match="holds no memory layers"):
        load_memory_layers(hosts.model("llama"), tmp_path)
