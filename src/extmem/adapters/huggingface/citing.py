"""What a generated text came from: it is read once more with the memory, and each token cites its places.

Knows: an attachment and the texts that `generate` gave. Does not know: how they were searched for.

Reading again gives the same answer for every way of decoding, beams and assistants included, and speaks of the memory
as it is now: a record that was forgotten meanwhile is cited nowhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from extmem.adapters.huggingface.attaching import LEAST_P, Attachment, attachment_of
from extmem.errors import InvalidInput
from extmem.indexes.view import View
from extmem.lm.generate import GeneratedToken, cited_places
from extmem.lm.sources import Said


def citations(model: Any) -> list[list[GeneratedToken]]:
    """The tokens of each text that the model's last `generate` gave, up to its end: their text (empty where no
    tokenizer is known), probability, share of the memory and the places that gave most of it. Raises InvalidInput
    where nothing was generated."""
    attachment = attachment_of(model)
    if attachment.written is None:
        raise InvalidInput("nothing was generated since the memory was attached: model.generate(…) first.")
    return [_cited(attachment, *row) for row in _rows(attachment, *attachment.written)]


def _rows(attachment: Attachment, given: dict[str, Any], written: Tensor) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
    """Each text without its padding: what the model is to be run on, and the tokens that were generated."""
    config = attachment.hosted.model.generation_config
    prompts = given.get("inputs", given.get("input_ids"))
    if prompts is None:
        raise InvalidInput("texts that were generated from inputs_embeds cannot be read again: give input_ids.")
    ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    mask = given.get("attention_mask")
    if mask is None:
        pad = config.pad_token_id
        mask = torch.ones_like(prompts) if pad is None or pad in ends else (prompts != pad).long()
    for number, row in enumerate(written):
        which = number // (len(written) // len(prompts))
        prompt = prompts[which][mask[which].bool()].to(row.device)
        new = row[1:] if attachment.hosted.pairs else row[prompts.shape[1] :]
        ended = torch.isin(new, new.new_tensor([end for end in ends if end is not None])).nonzero()
        new = new[: int(ended[0]) if len(ended) else len(new)]
        if attachment.hosted.pairs:
            yield {"input_ids": prompt[None], "decoder_input_ids": torch.cat([row[:1], new])[None]}, new
        else:
            yield {"input_ids": torch.cat([prompt, new])[None]}, new


def _cited(attachment: Attachment, inputs: dict[str, Tensor], new: Tensor) -> list[GeneratedToken]:
    if not len(new):
        return []
    logits, states = attachment.hosted.read(**inputs)
    rows, opened = slice(logits.shape[1] - 1 - len(new), logits.shape[1] - 1), attachment.opened()
    if opened is None:
        parts = iter([Said.by_model(torch.softmax(logits[0, rows].float(), dim=1))])
    else:
        parts = opened.said(logits[0, rows], states[0, rows])
    tokens = list[GeneratedToken]()
    for said in parts:
        for place in range(len(said.p_NV)):
            tokens.append(_token(attachment, opened and opened.view, said, place, int(new[len(tokens)])))
    return tokens


def _token(attachment: Attachment, view: View | None, said: Said, place: int, token: int) -> GeneratedToken:
    p = max(float(said.p_NV[place, token]), LEAST_P)
    weights_K = torch.where(said.tokens_NK[place] == token, said.weights_NK[place], 0.0).double() / p
    cited = tuple(cited_places(view, attachment.memory, said.entries_NK[place], weights_K))
    text = "" if attachment.tokenizer is None else str(attachment.tokenizer.decode([token]))
    names = ["model", *(f"datastore {number}" for number in range(1, said.shares_NS.shape[1]))]
    shares = tuple(zip(names, said.shares_NS[place].tolist(), strict=True))
    return GeneratedToken(text, p, float(weights_K.sum()), 0.0, cited, shares)
