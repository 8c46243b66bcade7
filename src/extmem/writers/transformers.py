"""TransformersCompleter: a causal language model of Hugging Face's transformers, by folder or name.

Knows: transformers. Does not know: sources, servers.

A folder is used as it is, with no network, and so is what the Hub's cache holds already; only a model that is nowhere
here is downloaded, once. No code that comes with a model is run.
"""

from __future__ import annotations

from pathlib import Path
from threading import Lock
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from extmem.devices import device_named
from extmem.errors import InvalidInput, ModelError, PromptTooLong
from extmem.writers.base import Heard
from extmem.writers.prompted import Completer, Prompt


class TransformersCompleter(Completer):
    """Takes the likeliest word each time; a model with a chat template is asked in its form."""

    def __init__(self, name: str, device: str = "auto") -> None:
        """Raises InvalidInput where there is no such model; ModelError where it cannot be used."""
        self.name, self._lock = name, Lock()
        self._tokenizer, model = _loaded(name)
        self._model = model.to(device_named(device)).eval()
        most = getattr(model.config, "max_position_embeddings", None) or getattr(model.config, "n_positions", None)
        self.room = int(most) if most else None  # tokens of prompt and answer

    def complete(self, prompt: Prompt, max_tokens: int, heard: Heard | None = None) -> str:
        token_1N = self._tokens(prompt).to(self._model.device)
        length = token_1N.shape[1]
        if self.room is not None and length + max_tokens > self.room:
            raise PromptTooLong(
                f"{self.name} takes {self.room} tokens, this is {length} and an answer of {max_tokens}: ask less.",
                self.name,
            )
        end = self._tokenizer.eos_token_id
        with self._lock, torch.inference_mode():
            found = self._model.generate(
                token_1N, attention_mask=torch.ones_like(token_1N), max_new_tokens=max_tokens, do_sample=False,
                pad_token_id=self._tokenizer.pad_token_id if end is None else end,
            )  # fmt: skip
        text = str(self._tokenizer.decode(found[0, length:], skip_special_tokens=True))
        if heard is not None:
            heard(text)
        return text

    def _tokens(self, prompt: Prompt) -> torch.Tensor:
        """(1, N)."""
        if self._tokenizer.chat_template:
            text = self._tokenizer.apply_chat_template(prompt.messages(), tokenize=False, add_generation_prompt=True)
            found = self._tokenizer(text, add_special_tokens=False, return_tensors="pt")
        else:
            found = self._tokenizer(f"{prompt.told}\n\n{prompt.asked}", return_tensors="pt")
        token_1N: torch.Tensor = found["input_ids"]
        return token_1N


def _loaded(name: str) -> tuple[Any, Any]:
    """Tokenizer and model."""
    folder = Path(name).expanduser()
    place = str(folder) if folder.is_dir() else name
    drawn = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        for here in (True, False):
            try:
                tokenizer = AutoTokenizer.from_pretrained(place, local_files_only=here)
                return tokenizer, AutoModelForCausalLM.from_pretrained(place, local_files_only=here)
            except OSError:
                if not here or folder.is_dir():
                    raise
        raise AssertionError("the second try returns or raises")
    except Exception as error:  # whatever a model's own classes raise
        said = str(error).strip().partition("\n")[0]
        if isinstance(error, OSError) and not folder.is_dir():
            raise InvalidInput(
                f"{name!r} is not a folder, and no causal model of that name was found in the cache or on the Hugging "
                "Face Hub: check the name and the network.",
                name,
            ) from error
        raise ModelError(f"{name} is not a causal model that transformers can load ({said}).", name) from error
    finally:
        if drawn:
            logging.enable_progress_bar()
