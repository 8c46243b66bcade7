"""Memory layers inside a model of Hugging Face's: trained, saved and loaded beside its weights.

Knows: where a model keeps its decoder blocks, ExternalMemoryLayer. Does not know: datastores of tokens, generation.

A block's output passes through its layer, by a hook; the layer is a part of the block, so optimisers and checkpoints
find it. It keeps no steps of its own (capacity 0): what was read before, the model's cache holds, which a beam search
reorders and an assistant cuts. What it adds are learned slots, and the entries of a `nearest` that is handed in.
W_o begins at zero: until it is trained the model says what it said, bit for bit.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from extmem.adapters.huggingface.hosted import model_within
from extmem.durable import write_durably
from extmem.errors import InvalidInput, ModelError
from extmem.nn.memory_layer import ExternalMemoryLayer
from extmem.reading import Nearest

NAME = "external_memory"  # of the layer in its block
FILES = "memory_layers.json", "memory_layers.safetensors"


class Through:
    """Leads a block's output through its layer."""

    def __init__(self, nearest: Nearest | None) -> None:
        self.nearest = nearest

    def __call__(self, block: nn.Module, given: tuple[Any, ...], output: Any) -> Any:
        hidden = output[0] if isinstance(output, tuple) else output
        read = getattr(block, NAME)(hidden, nearest=self.nearest)[0]
        return (read, *output[1:]) if isinstance(output, tuple) else read


def add_memory_layer(
    model: Any, every: int = 4, *, slots: int = 64, freeze: bool = False, nearest: Nearest | None = None
) -> list[ExternalMemoryLayer]:
    """Puts an ExternalMemoryLayer of `slots` learned pairs behind every so-manieth decoder block; the layers, the first
    one first. With `freeze` nothing else is trained any more. `nearest` finds entries of the hidden width that the
    layers attend to as well, not differentiated. Raises InvalidInput where there are too few blocks, or layers
    already."""
    inner = model_within(model)
    blocks = blocks_of(inner)
    if _with_layers(inner):
        raise InvalidInput("this model has memory layers already: remove_memory_layers(model) first.", model)
    if not 1 <= every <= len(blocks):
        raise InvalidInput(f"every is {every}: the decoder has {len(blocks)} blocks, give 1 to {len(blocks)}.", every)
    if freeze:
        inner.requires_grad_(False)
    return [_put_in(inner, block, slots, nearest) for block in blocks[every - 1 :: every]]


def remove_memory_layers(model: Any) -> None:
    """Takes the layers out again."""
    for block in _with_layers(model_within(model)):
        delattr(block, NAME)
        for number, hook in list(block._forward_hooks.items()):
            if isinstance(hook, Through):
                del block._forward_hooks[number]


def save_memory_layers(model: Any, folder: str | Path) -> None:
    """Writes the layers, and where they stand, to a folder. Raises InvalidInput where there are none, StorageError."""
    blocks = blocks_of(model_within(model))
    there = [number for number, block in enumerate(blocks) if hasattr(block, NAME)]
    if not there:
        raise InvalidInput("this model has no memory layers: add_memory_layer(model) first.", model)
    tensors = {
        f"{number}.{name}": tensor.detach().cpu().contiguous()
        for number in there
        for name, tensor in getattr(blocks[number], NAME).state_dict().items()
    }
    layer: ExternalMemoryLayer = getattr(blocks[there[0]], NAME)
    about = {"format": 1, "blocks": there, "dim": layer.dim, "slots": len(layer.slot_keys), "of": len(blocks)}
    Path(folder).mkdir(parents=True, exist_ok=True)
    write_durably(Path(folder) / FILES[1], save(tensors))
    write_durably(Path(folder) / FILES[0], json.dumps(about).encode())


def load_memory_layers(
    model: Any, folder: str | Path, *, freeze: bool = False, nearest: Nearest | None = None
) -> list[ExternalMemoryLayer]:
    """Puts the layers of a folder where they stood. Raises ModelError for a folder that holds none, or layers of
    another model's size."""
    inner = model_within(model)
    blocks = blocks_of(inner)
    try:
        about = json.loads((Path(folder) / FILES[0]).read_bytes())
        tensors: dict[str, Tensor] = load((Path(folder) / FILES[1]).read_bytes())
        sizes = (about["dim"], about["of"])
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise ModelError(f"{folder} holds no memory layers ({error}): give a folder that was saved to.") from error
    if sizes != (_width(inner), len(blocks)):
        raise ModelError(
            f"{folder} is of a model of width {sizes[0]} with {sizes[1]} blocks, this one has {_width(inner)} and "
            f"{len(blocks)}: load it into the model it was trained in.",
            folder,
        )
    remove_memory_layers(inner)
    if freeze:
        inner.requires_grad_(False)
    layers = []
    for number in about["blocks"]:
        layer = _put_in(inner, blocks[number], about["slots"], nearest)
        own = {name.partition(".")[2]: one for name, one in tensors.items() if name.startswith(f"{number}.")}
        layer.load_state_dict(own)
        layers.append(layer)
    return layers


def blocks_of(model: Any) -> nn.ModuleList:
    """The decoder's blocks, in order. Raises ModelError where none are found."""
    found = next((part for part in model.get_decoder().modules() if isinstance(part, nn.ModuleList)), None)
    if found is None:
        raise ModelError(f"{type(model).__name__} keeps no list of decoder blocks: this model cannot take layers.")
    return found


def _with_layers(model: Any) -> list[nn.Module]:
    return [block for block in blocks_of(model) if hasattr(block, NAME)]


def _width(model: Any) -> int:
    return int(model.config.get_text_config().hidden_size)


def _put_in(model: Any, block: nn.Module, slots: int, nearest: Nearest | None) -> ExternalMemoryLayer:
    layer = ExternalMemoryLayer(_width(model), slots=slots, capacity=0)
    with torch.no_grad():
        layer.output.weight.zero_()
    layer.to(device=next(block.parameters()).device, dtype=model.dtype)
    block.add_module(NAME, layer)
    block.register_forward_hook(Through(nearest))
    return layer
