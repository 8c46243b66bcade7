"""Bert: a sentence encoder of BERT's shape, from its folder and with nothing but torch.

Knows: BERT's network (Devlin et al. 2018) and the names of its weights. Does not know: other networks,
prompts, where models come from.

Loading transformers takes seconds, and its layers add overhead to a query of ten words; MiniLM, BGE, GTE
and E5 are all this one network. Read is at most `max_length` word pieces of a text, [CLS] and [SEP] among
them. Where the processor multiplies bfloat16 by itself its layers are computed in that: twice as fast, and the
cosine with the vector of float32 stays above 0.999. A question is computed with weights of 8 bits, which are half of
what has to come from RAM for its few words: a cosine of 0.99, and what it finds is as good (docs/search.md).
Shapes: N texts, T word pieces of each, P of all, D width, H heads.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.functional import gelu, layer_norm, linear, scaled_dot_product_attention

from extmem.devices import fastest_dtype
from extmem.errors import ModelError

TOGETHER = 2_048  # word pieces that are computed at once on a CPU; more leave its caches
ROWS = 1_024  # word pieces that the weights are laid out for; other numbers are as fast
SHORT = 128  # word pieces up to which one thread is faster than having others join in
_QKV = ("query", "key", "value")

Linear = Callable[[Tensor], Tensor]
Layer = tuple[list[Linear], list[tuple[Tensor, Tensor]]]  # W_qkv, W_o, W_1, W_2; what norms scale by and add


class Bert:
    """Texts -> the mean of BERT's last states (or the first one, where the model says so)."""

    def __init__(self, folder: Path, dtype: torch.dtype | None = None) -> None:
        """Raises ModelError for a folder whose weights do not fit its configuration."""
        config = _json(folder / "config.json")
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.dtype = dtype or fastest_dtype(self.device)
        self.dim, self.heads = int(config["hidden_size"]), int(config["num_attention_heads"])
        self.epsilon = float(config["layer_norm_eps"])
        self.max_length = _max_length(folder, config)
        self.first = _pooling(folder) == "cls"
        self.padding = int(config.get("pad_token_id") or 0)
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(self.max_length)
        try:
            weights = load_file(folder / "model.safetensors")
            eight = dtype is None and self.device.type == "cpu" and _has_8()
            self._take(weights, int(config["num_hidden_layers"]), eight)
        except (KeyError, RuntimeError) as error:
            raise ModelError(f"{folder}: its weights do not fit its config.json; download it again.", folder) from error

    def _take(self, weights: dict[str, Tensor], layers: int, eight: bool) -> None:
        """Lays the weights out as they are used, and again in 8 bits for questions."""
        named = {name.removeprefix("bert."): tensor.to(self.device) for name, tensor in weights.items()}

        def pair(name: str, dtype: torch.dtype = self.dtype) -> tuple[Tensor, Tensor]:
            return named[f"{name}.weight"].to(dtype), named[f"{name}.bias"].to(dtype)

        table = "embeddings.{}_embeddings.weight"
        self._words = named[table.format("word")].float()
        self._places = (named[table.format("position")] + named[table.format("token_type")][0]).float()
        self._norm = pair("embeddings.LayerNorm", torch.float32)
        self._layers, self._asked = list[Layer](), list[Layer]()
        for number in range(layers):
            layer = f"encoder.layer.{number}"
            parts = [pair(f"{layer}.attention.self.{part}") for part in _QKV]
            qkv = torch.cat([weight for weight, _ in parts]), torch.cat([bias for _, bias in parts])
            dense = [
                pair(f"{layer}.{name}") for name in ("attention.output.dense", "intermediate.dense", "output.dense")
            ]
            norms = [pair(f"{layer}.{name}") for name in ("attention.output.LayerNorm", "output.LayerNorm")]
            self._layers.append(([_linear(*weights) for weights in (qkv, *dense)], norms))
            if eight:
                wide = [(scale.float(), shift.float()) for scale, shift in norms]
                self._asked.append(([_linear_8(*weights) for weights in (qkv, *dense)], wide))

    def vocabulary(self) -> Iterable[str]:
        """Its word pieces."""
        pieces: dict[str, int] = self._tokenizer.get_vocab()
        return pieces

    def embed(self, texts: Sequence[str], query: bool = False) -> NDArray[np.float32]:
        """(N, D) float32, of any length. A query's texts are those of one question: in 8 bits they share a scale."""
        pieces = [encoding.ids for encoding in map(self._tokenizer.encode, texts)]
        vectors = np.empty((len(texts), self.dim), np.float32)
        order = sorted(range(len(texts)), key=lambda number: len(pieces[number]))
        with torch.inference_mode():
            for batch in _batches(order, pieces):
                some = [pieces[number] for number in batch]
                with _threads(len(batch) * len(some[-1])):
                    if sum(map(len, some)) <= SHORT:
                        pooled = self._pooled_short(some, self._asked if query and self._asked else self._layers)
                    else:
                        pooled = self._pooled(some)
                    vectors[batch] = pooled.cpu().numpy()
        return vectors

    def states(self, texts: Sequence[str], most: int) -> list[NDArray[np.float16]]:
        """For each text what the middle layers make of its first `most` word pieces, (T, L · D): of the layers those
        from half way on, but the last. They tell more of a text's form than what is pooled to compare meanings."""
        if not texts:
            return []
        pieces = [encoding.ids[:most] for encoding in map(self._tokenizer.encode, texts)]
        layers = range(len(self._layers) // 2, len(self._layers))
        found: list[NDArray[np.float16]] = [np.empty(0, np.float16)] * len(texts)
        with torch.inference_mode():
            for batch in _batches(sorted(range(len(texts)), key=lambda number: len(pieces[number])), pieces):
                some = [pieces[number] for number in batch]
                with _threads(len(batch) * len(some[-1])):
                    every = self._every_padded(*self._padded(some))
                    states = torch.cat([every[layer] for layer in layers], -1).half().cpu().numpy()
                for row, number in zip(states, batch, strict=True):
                    found[number] = row[: len(pieces[number])]
        return found

    def _pooled_short(self, pieces: list[list[int]], layers: list[Layer]) -> Tensor:
        """`_pooled` for few word pieces: one text stands behind the other, so none is padded, and each looks at its
        own pieces alone."""
        lengths = [len(row) for row in pieces]
        of = torch.repeat_interleave(torch.tensor(lengths, device=self.device))
        mask = torch.zeros(len(of), len(of), device=self.device).masked_fill_(of[:, None] != of, -torch.inf)
        ids = torch.tensor([piece for row in pieces for piece in row], device=self.device)
        places = torch.cat([torch.arange(length, device=self.device) for length in lengths])
        scale = (self.dim // self.heads) ** -0.5

        def read(qkv: Tensor) -> Tensor:
            q, k, v = qkv.float().view(len(of), 3, self.heads, -1).permute(1, 2, 0, 3)
            weights = torch.baddbmm(mask, q, k.transpose(1, 2), alpha=scale).softmax(-1)
            found: Tensor = (weights @ v).transpose(0, 1).reshape(len(of), self.dim).to(qkv.dtype)
            return found

        states = self._every(ids, places, read, layers)[-1].float().split(lengths)
        return torch.stack([state[0] if self.first else state.mean(0) for state in states])

    def _padded(self, pieces: list[list[int]]) -> tuple[Tensor, Tensor | None]:
        """(N, T) of texts, the shorter ones first; and where they are, None where that is everywhere."""
        longest = len(pieces[-1])
        ids = torch.tensor([row + [self.padding] * (longest - len(row)) for row in pieces], device=self.device)
        lengths = torch.tensor([len(row) for row in pieces], device=self.device)
        there = torch.arange(longest, device=self.device) < lengths[:, None]
        return ids, None if len(pieces[0]) == longest else there

    def _pooled(self, pieces: list[list[int]]) -> Tensor:
        """One vector a text, (N, D); the shorter texts come first."""
        ids, there = self._padded(pieces)
        states = self._every_padded(ids, there)[-1].float()
        if self.first:
            return states[:, 0]
        if there is None:
            return states.mean(1)
        return (states * there[:, :, None]).sum(1) / there.sum(1, keepdim=True)

    def _every_padded(self, ids: Tensor, there: Tensor | None) -> list[Tensor]:
        """`_every` (N, T, D) of word pieces (N, T), of which those not `there` are padding."""
        count, length = ids.shape
        mask = None if there is None else there[:, None, None, :]

        def read(qkv: Tensor) -> Tensor:
            heads = qkv.view(count, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            found = scaled_dot_product_attention(heads[0], heads[1], heads[2], mask)
            return found.transpose(1, 2).reshape(count * length, self.dim)

        places = torch.arange(length, device=self.device).expand(count, -1)
        every = self._every(ids.reshape(-1), places.reshape(-1), read, self._layers)
        return [states.view(count, length, self.dim) for states in every]

    def _every(self, ids: Tensor, places: Tensor, read: Linear, layers: list[Layer]) -> list[Tensor]:
        """The states (P, D) before each layer and behind the last, of word pieces (P,) at these places of their texts.
        `read` gives what q, k and v (P, 3 D) read: softmax(q kᵀ / √(D/H)) v in each head.

        Each layer: x = norm(x + W_o read(W_qkv x)), then x = norm(x + W_2 gelu(W_1 x)).
        """
        x = layer_norm(self._words[ids] + self._places[places], (self.dim,), *self._norm, self.epsilon)
        x = x.to(layers[0][1][0][0].dtype)
        every = [x]
        for (qkv, attended, wide, narrow), (norm, last_norm) in layers:
            x = layer_norm(x + attended(read(qkv(x))), (self.dim,), *norm, self.epsilon)
            x = layer_norm(x + narrow(gelu(wide(x))), (self.dim,), *last_norm, self.epsilon)
            every.append(x)
        return every


def is_bert(folder: Path) -> bool:
    """Whether a sentence-transformers folder is this network, pooled by mean or first state, and no more."""
    needed = ("config.json", "model.safetensors", "tokenizer.json", "modules.json", "1_Pooling/config.json")
    if not all((folder / name).is_file() for name in needed):
        return False
    config, extra = _json(folder / "config.json"), _json(folder / "sentence_bert_config.json")
    modules = [str(module["type"]).rpartition(".")[2] for module in json.loads((folder / "modules.json").read_text())]
    return (
        modules in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"])
        and _pooling(folder) in ("mean", "cls")
        and config.get("model_type") == "bert"
        and config.get("hidden_act") == "gelu"
        and config.get("position_embedding_type", "absolute") == "absolute"
        and not (config.get("is_decoder") or config.get("add_cross_attention") or extra.get("do_lower_case"))
    )


def _linear(weight: Tensor, bias: Tensor) -> Linear:
    """x -> x Wᵀ + b. On a CPU with the weights laid out once as oneDNN multiplies them, as torch.compile has it,
    instead of at every call: that halves a short query's time."""
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS)
        multiply = torch.ops.mkldnn._linear_pointwise
        multiply(weight.new_zeros(1, weight.shape[1]), packed, bias, "none", [], "")
    except (AttributeError, RuntimeError):  # a GPU, or a torch without oneDNN
        return partial(linear, weight=weight, bias=bias)
    return lambda x: multiply(x, packed, bias, "none", [], "")


def _has_8() -> bool:
    """Whether this processor and this torch multiply in 8 bits."""
    if torch.backends.quantized.engine not in ("x86", "fbgemm"):  # others are not measured
        return False
    try:
        _linear_8(torch.ones(8, 8), torch.zeros(8))(torch.ones(1, 8))
    except (AttributeError, RuntimeError):
        return False
    return True


def _linear_8(weight: Tensor, bias: Tensor) -> Linear:
    """The same with a weight of 8 bits, a scale for each row, and x in 8 bits, a scale for all of it."""
    rows = weight.float()
    scales = (rows.abs().amax(1) / 127).clamp_min(1e-12)
    zeros = torch.zeros(len(rows), dtype=torch.long)
    with warnings.catch_warnings():  # torch warns that quantised tensors will move to another package
        warnings.simplefilter("ignore")
        eight = torch.quantize_per_channel(rows, scales, zeros, 0, torch.qint8)
        packed = torch.ops.quantized.linear_prepack(eight, bias.float())
    multiply = torch.ops.quantized.linear_dynamic
    return lambda x: multiply(x, packed, False)


def _pooling(folder: Path) -> str:
    """ "mean", "cls", or "" for any other."""
    config = _json(folder / "1_Pooling" / "config.json")
    if config.get("include_prompt") is False:
        return ""
    modes = [name.removeprefix("pooling_mode_") for name, on in config.items() if on is True and "pooling_mode" in name]
    said = config.get("pooling_mode") or {"mean_tokens": "mean", "cls_token": "cls"}.get("+".join(modes), "")
    return said if isinstance(said, str) else ""


def _max_length(folder: Path, config: dict[str, Any]) -> int:
    said = _json(folder / "sentence_bert_config.json").get("max_seq_length")
    said = said or _json(folder / "tokenizer_config.json").get("model_max_length") or config["max_position_embeddings"]
    return min(int(said), int(config["max_position_embeddings"]))


def _json(path: Path) -> dict[str, Any]:
    """What a file of settings says; nothing where it is not there."""
    if not path.is_file():
        return {}
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path} is not JSON: download the model again.", path) from error
    return said if isinstance(said, dict) else {}


def _batches(order: list[int], pieces: list[list[int]]) -> Iterator[list[int]]:
    """Texts by length, so many at once that they are TOGETHER word pieces with their padding."""
    batch: list[int] = []
    for number in order:
        if batch and (len(batch) + 1) * len(pieces[number]) > TOGETHER:
            yield batch
            batch = []
        batch.append(number)
    yield batch


@contextmanager
def _threads(pieces: int) -> Iterator[None]:
    """One thread for what is short: waiting for a second one that is busy elsewhere takes longer."""
    before = torch.get_num_threads()
    if pieces > SHORT or before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
