"""A model on disk: model.json (the one file that makes it a model), weights, vocabulary.

Knows: the files and how to write them so that a model is there whole or not at all. Does not know:
what the model is used for.

    model/model.json                  sizes, tokenizer, mixture, checksums; written last
    model/weights-<fingerprint>.safetensors
    model/vocabulary-<fingerprint>/   an extmem memory: the words are its records
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from extmem.durable import write_durably
from extmem.errors import ExtmemError, ModelError
from extmem.lm.network import ModelConfig
from extmem.memory import Memory
from extmem.nn.mixture import Mixture
from extmem.text.vocabulary import Vocabulary

FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """Everything a model is."""

    config: ModelConfig
    tokenizer: Mapping[str, Any]
    vocabulary: Vocabulary
    tensors: Mapping[str, Tensor]
    mixture: Mixture
    history: list[dict[str, float]]

    def fingerprint(self) -> str:
        """16 hex digits that stand for these weights with this tokenizer and these words."""
        words = self.vocabulary.words(range(len(self.vocabulary)))
        sizes = asdict(self.config)
        if not sizes["encoder"]:  # as the models had no such size that were made before there were encoders
            del sizes["encoder"]
        digest = hashlib.sha256(json.dumps([sizes, dict(self.tokenizer), words]).encode())
        for name in sorted(self.tensors):
            digest.update(name.encode() + self.tensors[name].contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Writes the model; one that was there before is replaced at the last moment, or not at all."""
    fingerprint = checkpoint.fingerprint()
    content = save({name: tensor.contiguous() for name, tensor in checkpoint.tensors.items()})
    weights, words = folder / f"weights-{fingerprint}.safetensors", folder / f"vocabulary-{fingerprint}"
    if not _held(words, checkpoint.vocabulary):
        draft = folder / f"{words.name}.partial"
        for path in (draft, words):
            shutil.rmtree(path, ignore_errors=True)
        with Memory(draft) as memory:
            memory.store_many((word, number) for number, word in enumerate(_words(checkpoint.vocabulary)))
        draft.rename(words)
    write_durably(weights, content)
    about = {
        "format": FORMAT,
        "fingerprint": fingerprint,
        "weights_sha256": hashlib.sha256(content).hexdigest(),
        "config": asdict(checkpoint.config),
        "tokenizer": dict(checkpoint.tokenizer),
        "mixture": checkpoint.mixture.to_json(),
        "history": checkpoint.history,
    }
    write_durably(folder / "model.json", json.dumps(about, indent=1, ensure_ascii=False).encode())
    for path in [*folder.glob("weights-*.safetensors"), *folder.glob("vocabulary-*")]:
        if path not in (weights, words):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def load_checkpoint(folder: Path) -> Checkpoint:
    """Reads a model back. Raises ModelError where it is missing, half-written or of another version."""
    again = "train it again (extmem train CORPUS --out MODEL)"
    try:
        about = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        if (folder / "checkpoint.json").exists():
            raise ModelError(
                f"{folder}: its training was interrupted; run the same 'extmem train' again to finish it.",
                folder,
            ) from error
        raise ModelError(f"{folder} holds no model (model.json is missing): {again}.", folder) from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder}/model.json cannot be read ({error}): {again}.", folder) from error
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        found = about.get("format") if isinstance(about, dict) else None
        raise ModelError(f"{folder} is of format {found}, this extmem reads format {FORMAT}: {again}.", folder)
    try:
        content = (folder / f"weights-{about['fingerprint']}.safetensors").read_bytes()
        if hashlib.sha256(content).hexdigest() != about["weights_sha256"]:
            raise ModelError(f"{folder}: its weights are damaged (the checksum differs): {again}.", folder)
        vocabulary = _vocabulary(folder / f"vocabulary-{about['fingerprint']}")
        config = ModelConfig(**about["config"])
        if len(vocabulary) != config.vocabulary:
            raise ModelError(f"{folder}: its vocabulary is damaged (words are missing): {again}.", folder)
        mixture = Mixture.from_json(about["mixture"]) or Mixture()
        return Checkpoint(config, about["tokenizer"], vocabulary, load(content), mixture, about["history"])
    except ModelError:
        raise
    except (ExtmemError, OSError, KeyError, TypeError, SafetensorError) as error:
        raise ModelError(f"{folder} is incomplete ({error}): {again}.", folder) from error


def _vocabulary(folder: Path) -> Vocabulary:
    if not (folder / "records.db").exists():
        raise FileNotFoundError(f"{folder} is missing")
    with Memory(folder) as memory:
        return Vocabulary.load(memory)


def _held(folder: Path, vocabulary: Vocabulary) -> bool:
    """Whether the folder holds exactly these words already."""
    try:
        return _words(_vocabulary(folder)) == _words(vocabulary)
    except (ExtmemError, OSError):
        return False


def _words(vocabulary: Vocabulary) -> list[str]:
    return vocabulary.words(range(len(vocabulary)))
