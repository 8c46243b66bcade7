"""What tensors are computed on. Knows: torch's devices. Does not know: models, texts."""

from __future__ import annotations

import torch

from extmem.errors import ModelError


def device_named(name: str) -> torch.device:
    """The device to run on: "cpu", "cuda", "mps" or "auto". Raises ModelError if it is not there."""
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if there[kind]))
    if not there.get(name.split(":")[0], False):
        ready = ", ".join(kind for kind, is_there in there.items() if is_there)
        raise ModelError(f"device {name!r} is not there: choose auto or one of {ready}.", name)
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise ModelError(f"device {name!r} is not there: choose auto, cpu, cuda, cuda:1 or mps.", name) from error


def fastest_dtype(device: torch.device) -> torch.dtype:
    """What matrices are multiplied in where eight bits of precision will do: bfloat16 on a GPU and on a CPU that
    multiplies it by itself. On any other CPU that is ten to thirty times slower than float32."""
    if device.type == "cpu":
        native = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)  # not in every torch
        return torch.bfloat16 if native() else torch.float32
    return torch.bfloat16 if device.type == "cuda" else torch.float32
