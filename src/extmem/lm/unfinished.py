"""An unfinished training on disk: everything that its next epoch depends on.

Knows: a folder, tensors, what was noted beside them. Does not know: what they are, how training goes.

    model/checkpoint.json              epoch, history, the name of the tensors; written last
    model/checkpoint-<epoch>.safetensors
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from extmem.durable import write_durably
from extmem.errors import ModelError

CHECKPOINT = "checkpoint.json"


def tensors_of(folder: Path, epoch: int) -> Path:
    """Where the tensors after so many epochs are."""
    return folder / f"checkpoint-{epoch}.safetensors"


def write_checkpoint(folder: Path, epoch: int, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    """Keeps an epoch, whole or not at all, in place of the one before. Raises StorageError."""
    path = tensors_of(folder, epoch)
    write_durably(path, save({name: tensor.contiguous() for name, tensor in tensors.items()}))
    write_durably(folder / CHECKPOINT, json.dumps({**about, "epoch": epoch, "tensors": path.name}).encode())
    for other in folder.glob("checkpoint-*.safetensors"):
        if other != path:
            other.unlink()


def read_checkpoint(folder: Path, signature: str) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """What the last epoch left, None where there is nothing. Raises ModelError where it is damaged, or of a training
    with another signature."""
    try:
        about: dict[str, Any] = json.loads((folder / CHECKPOINT).read_text())
        found, tensors = about["signature"], load_file(folder / about["tensors"])
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        if isinstance(error, FileNotFoundError) and not (folder / CHECKPOINT).exists():
            return None
        raise ModelError(
            f"{folder}: the checkpoint of its unfinished training is damaged ({error}): "
            "delete the folder and train again.",
            folder,
        ) from error
    if found != signature:
        raise ModelError(
            f"{folder} holds an unfinished training with another corpus or other options: "
            "give those again to finish it, or choose another folder.",
            folder,
        )
    return about, tensors


def clear_checkpoints(folder: Path) -> None:
    """Removes what was kept for resuming, once the finished model is saved."""
    (folder / CHECKPOINT).unlink(missing_ok=True)
    for path in folder.glob("checkpoint-*.safetensors"):
        path.unlink()
