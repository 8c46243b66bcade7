"""Models of Hugging Face's transformers with a memory. Knows: its public names. Does not know: anything else."""

from extmem.adapters.huggingface.attaching import attach, detach
from extmem.adapters.huggingface.citing import citations
from extmem.adapters.huggingface.layers import (
    add_memory_layer,
    load_memory_layers,
    remove_memory_layers,
    save_memory_layers,
)
from extmem.adapters.huggingface.memorizing import fit, memorize

__all__ = [
    "add_memory_layer",
    "attach",
    "citations",
    "detach",
    "fit",
    "load_memory_layers",
    "memorize",
    "remove_memory_layers",
    "save_memory_layers",
]
