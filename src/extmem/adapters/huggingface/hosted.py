"""A model of Hugging Face's as a memory sees it: where its states are read, what stands for it, how it is run.

Knows: what transformers' models and tokenizers have in common. Does not know: memories, mixtures.

A state is what goes into the output embedding, or into another module that is named: the key of a datastore's entry
and the query that finds it. It is caught by a hook; the model's class and weights stay as they are.
Shapes: B texts, T tokens, D width of a state, V words of the output embedding.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

from extmem.errors import InvalidInput, ModelError

SAMPLED = 1024  # numbers of each weight that the fingerprint is made of
WINDOW = 1024  # tokens that are read at once, at most


class _Caught(Exception):
    """The state is there: what would come behind it is not needed."""


class Hosted:
    """A language model with an output embedding, alone, compiled or under PEFT's adapters."""

    def __init__(self, model: Any, key: str | None = None) -> None:
        """`key` names the module whose input is the state. Raises InvalidInput, ModelError."""
        self.model = model_within(model)
        head = self.model.get_output_embeddings()
        if head is None:
            kind = type(self.model).__name__
            raise ModelError(
                f"{kind} has no output embedding, so it predicts no words: load it with AutoModelForCausalLM or "
                "AutoModelForSeq2SeqLM.",
                kind,
            )
        modules = dict(self.model.named_modules())
        if key is not None and key not in modules:
            raise InvalidInput(f"the model has no module {key!r}: choose from model.named_modules().", key)
        self.key: nn.Module = head if key is None else modules[key]
        self.fingerprint = _fingerprint(self.model, key)
        self.pairs: bool = bool(self.model.config.is_encoder_decoder)
        self.words = int(getattr(head, "out_features", None) or head.weight.shape[0])

    @property
    def device(self) -> torch.device:
        """Where its inputs go."""
        found: torch.device = self.model.get_input_embeddings().weight.device
        return found

    @property
    def window(self) -> int:
        """Tokens that it reads at once."""
        config = self.model.config.get_text_config()
        most = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None) or WINDOW
        return min(WINDOW, int(most))

    def states(self, **inputs: Tensor) -> Tensor:
        """(B, T, D) float32 of a batch; the model runs no further than to where they are."""
        return self._run(True, inputs)[1]

    def read(self, **inputs: Tensor) -> tuple[Tensor, Tensor]:
        """The model's own logits (B, T, V) of a batch, whatever is attached to it, and its states (B, T, D) float32."""
        output, states = self._run(False, inputs)
        return output.logits, states

    @torch.no_grad()
    def _run(self, no_further: bool, inputs: dict[str, Tensor]) -> tuple[Any, Tensor]:
        """The model's output, past what is attached to it, and the states. Raises ModelError where there are none."""
        caught: list[Tensor] = []

        def catch(_: nn.Module, given: tuple[Tensor, ...]) -> None:
            caught.append(given[0])
            if no_further:
                raise _Caught

        handle, output = self.key.register_forward_pre_hook(catch), None
        try:
            with evaluating(self.model), suppress(_Caught):
                output = self.model.forward(**inputs, use_cache=False, return_dict=True)
        finally:
            handle.remove()
        if not caught:
            raise self.not_run()
        return output, caught[0].float()

    def not_run(self) -> ModelError:
        """What to say where the model makes no states."""
        kind = type(self.key).__name__
        return ModelError(f"the model does not run its {kind} as a module: name another one as key.", kind)

    def check(self, tokenizer: Any) -> None:
        """Raises InvalidInput for a tokenizer that has more words than the model."""
        if len(tokenizer) > self.words:
            raise InvalidInput(
                f"the tokenizer has {len(tokenizer):,} words, the model {self.words:,}: they do not belong together.",
                tokenizer,
            )


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """The model without dropout."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def model_within(model: Any) -> Any:
    """The model itself, of one that is compiled or under PEFT. Raises InvalidInput for what is no model."""
    while True:
        if hasattr(model, "_orig_mod"):
            model = model._orig_mod
        elif type(model).__module__.partition(".")[0] == "peft":
            model = model.get_base_model()
        else:
            break
    if not isinstance(model, nn.Module) or not hasattr(model, "get_output_embeddings"):
        raise InvalidInput(f"{type(model).__name__} is not a model of Hugging Face's transformers.", model)
    return model


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """6 hex digits that stand for its words."""
    return hashlib.sha256(json.dumps(sorted(tokenizer.get_vocab().items())).encode()).hexdigest()[:6]


def _fingerprint(model: Any, key: str | None) -> str:
    """10 hex digits that stand for the model's weights, of which a sample is read, and for what its states are."""
    digest = hashlib.sha256(json.dumps([model.config.model_type, key]).encode())
    for name, tensor in sorted(model.state_dict().items()):
        if not isinstance(tensor, Tensor):
            continue
        flat = tensor.detach().reshape(-1)
        some = flat[:: max(1, len(flat) // SAMPLED)][:SAMPLED]
        some = some.float() if some.is_floating_point() else some.long()
        digest.update(f"{name}{tuple(tensor.shape)}".encode() + some.cpu().numpy().tobytes())
    return digest.hexdigest()[:10]
