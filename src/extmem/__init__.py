"""extmem: an external memory for language models.

Knows: the public names. Does not know: anything else; importing it loads neither torch nor faiss.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from extmem.adapters.huggingface import add_memory_layer, attach, citations, detach, memorize
    from extmem.aio import AsyncMemory
    from extmem.client.client import Client
    from extmem.errors import ExtmemError
    from extmem.lm.model import LanguageModel
    from extmem.memory import Memory
    from extmem.nn.lstm import GatedLSTM
    from extmem.nn.memory_layer import ExternalMemoryLayer
    from extmem.reading import Citation, Hit, Reading
    from extmem.records.base import Record
    from extmem.text.vocabulary import Vocabulary

__version__ = "0.1.0"

_HOMES = {
    "Memory": "extmem.memory",
    "AsyncMemory": "extmem.aio",
    "Client": "extmem.client.client",
    "Record": "extmem.records.base",
    "LanguageModel": "extmem.lm.model",
    "ExternalMemoryLayer": "extmem.nn.memory_layer",
    "GatedLSTM": "extmem.nn.lstm",
    "Vocabulary": "extmem.text.vocabulary",
    "Hit": "extmem.reading",
    "Citation": "extmem.reading",
    "Reading": "extmem.reading",
    "ExtmemError": "extmem.errors",
    "attach": "extmem.adapters.huggingface",
    "detach": "extmem.adapters.huggingface",
    "memorize": "extmem.adapters.huggingface",
    "citations": "extmem.adapters.huggingface",
    "add_memory_layer": "extmem.adapters.huggingface",
}

__all__ = [
    "AsyncMemory",
    "Citation",
    "Client",
    "ExternalMemoryLayer",
    "ExtmemError",
    "GatedLSTM",
    "Hit",
    "LanguageModel",
    "Memory",
    "Reading",
    "Record",
    "Vocabulary",
    "__version__",
    "add_memory_layer",
    "attach",
    "citations",
    "detach",
    "memorize",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'extmem' has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        raise ImportError(f"extmem.{name} needs {error.name}: pip install 'extmem[lm]'") from error


def __dir__() -> list[str]:
    return __all__
