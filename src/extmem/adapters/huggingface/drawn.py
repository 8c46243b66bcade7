"""States of texts that a model draws by itself: how its states lie is learned from them, and from nothing memorized.

Knows: how a model is sampled from. Does not know: datastores, what is learned.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from extmem.adapters.huggingface.hosted import Hosted, evaluating

TOGETHER = 8  # texts that are read at once
LEAST = 40  # characters of a line that is translated


def drawn_states(hosted: Hosted, tokenizer: Any, begin: int, texts: int, tokens: int) -> Tensor:
    """(N, D) of so many texts of so many tokens, which begin with token `begin`; the same ones each time. A model with
    an encoder draws them for lines of Python's manual."""
    model, tokens = hosted.model, min(tokens, hosted.window - 1)
    if hosted.pairs:
        from pydoc_data.topics import topics

        lines = dict.fromkeys(line for topic in topics.values() for line in topic.splitlines() if len(line) > LEAST)
        given = dict(tokenizer(list(lines)[:texts], padding=True, return_tensors="pt").to(hosted.device))
        given = {name: given[name][:, : hosted.window] for name in ("input_ids", "attention_mask")}
    else:
        begun = torch.full((texts, 1), begin, device=hosted.device)
        given = {"input_ids": begun, "attention_mask": torch.ones_like(begun)}
    with _alone(model), torch.no_grad():
        drawn = type(model).generate(
            model, **given, do_sample=True, num_beams=1, top_k=0, top_p=1.0, temperature=1.0,
            min_new_tokens=tokens, max_new_tokens=tokens, return_dict_in_generate=False,
        )[:, :-1]  # fmt: skip
    inputs = given | {"decoder_input_ids": drawn} if hosted.pairs else {"input_ids": drawn}
    parts = zip(*(tensor.split(TOGETHER) for tensor in inputs.values()), strict=True)
    return torch.cat([hosted.states(**dict(zip(inputs, part, strict=True))) for part in parts]).flatten(0, 1)


@contextmanager
def _alone(model: Any) -> Iterator[None]:
    """The model as it is without a memory and without dropout, and with random numbers of its own."""
    attached = getattr(model, "_extmem", None)
    with evaluating(model), torch.random.fork_rng([]):
        torch.default_generator.manual_seed(0)
        if attached is not None:
            attached.resting = True
        try:
            yield
        finally:
            if attached is not None:
                attached.resting = False
