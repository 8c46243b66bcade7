"""Attaching a memory to a model: its logits become the logarithms of what model and memory say together.

Knows: a model's forward pass, a datastore, how they are mixed. Does not know: how a datastore is filled, tokenizers.

Two hooks do it, one that sees the states and one that sees the output; so the model's own `generate`, every decoding it
has, and `Trainer` read the memory, and the model's class stays what it is. The mixture is that of `nn/mixture.py`,
kNN-LM's (Khandelwal et al. 2020), without caches and without the words before: a beam may have changed its row.
While the model trains its output is left alone.
Shapes: B texts, T tokens, N places, D width of a state, V words, K neighbours.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from extmem.adapters.huggingface.hosted import Hosted, model_within
from extmem.errors import InvalidInput, WrongModel
from extmem.indexes.datastore import Datastore
from extmem.indexes.view import View
from extmem.lm.sources import Neighbours, Said, neighbours_of, say
from extmem.memory import Memory
from extmem.nn.mixture import Mixture, Near

BLOCK = 256  # places whose distributions are held at once
LEAST_P = 1e-30  # of a word, where its logarithm is taken
DEFAULT = Mixture(caches=(), readings=(Near(8.0, 0.0), Near(64.0, 0.0)), gates={})
IGNORED = -100  # a label that is not learned


class Opened(NamedTuple):
    """A model's datastore as it is at one moment, and how it is read."""

    view: View
    mixture: Mixture
    spread: float

    @torch.no_grad()
    def said(self, logits_NV: Tensor, states_ND: Tensor) -> Iterator[Said]:
        """What is known at each place, `BLOCK` of them at once."""
        entries, near = self.near(states_ND)
        for start in range(0, len(states_ND), BLOCK):
            rows = slice(start, start + BLOCK)
            yield say(logits_NV[rows].float(), entries[rows], near.part(rows), self.mixture, self.spread)

    def logarithms(self, logits_NV: Tensor, states_ND: Tensor) -> Tensor:
        """The logarithms of what model and memory say together, (N, V)."""
        mixed = torch.empty(logits_NV.shape, device=logits_NV.device)
        for log_p, said in zip(mixed.split(BLOCK), self.said(logits_NV, states_ND), strict=True):
            torch.log(said.p_NV.clamp_min_(LEAST_P), out=log_p)
        return mixed

    def near(self, states_ND: Tensor) -> tuple[Tensor, Neighbours]:
        """The nearest entries of each state (N, K), and what they say."""
        k = min(self.mixture.neighbours, len(self.view))
        entries, distances = self.view.search(states_ND.float().cpu().numpy(), k)
        before = torch.empty(len(entries), 0, dtype=torch.long, device=states_ND.device)
        return torch.from_numpy(entries), neighbours_of(self.view, entries, distances, before)


class Attachment:
    """A memory that a model reads. One thread at a time."""

    def __init__(
        self, hosted: Hosted, memory: Memory, lam: float | None, temperature: float | None, k: int, tokenizer: Any
    ) -> None:
        self.hosted, self.memory, self.tokenizer = hosted, memory, tokenizer
        self.lam, self.temperature, self.k = lam, temperature, k
        self.written: tuple[dict[str, Any], Tensor] | None = None  # what `generate` was given and gave last
        self.resting = False
        self._state: Tensor | None = None
        model = hosted.model
        self._handles = [
            hosted.key.register_forward_pre_hook(self._before),
            model.register_forward_hook(self._after, with_kwargs=True),
        ]
        model.generate = self._generate
        model._extmem = self

    def take_off(self) -> None:
        """The model is as it was."""
        for handle in self._handles:
            handle.remove()
        del self.hosted.model.generate, self.hosted.model._extmem

    def opened(self) -> Opened | None:
        """What is there to be read now, None where nothing is memorized: as was asked for, else as was fitted, else as
        most are read well."""
        datastore = datastore_in(self.memory, self.hosted)
        if datastore is None or not len(view := datastore.view()):
            return None
        spread = spread_of(datastore)
        if self.lam is None and self.temperature is None:
            fitted = datastore.fit()
            mixture = (Mixture.from_json(fitted) if fitted else None) or DEFAULT
        else:
            scale = DEFAULT.readings[0].scale if self.temperature is None else spread / self.temperature
            lam = sum(DEFAULT.unfitted) if self.lam is None else self.lam
            mixture = replace(DEFAULT, readings=(Near(scale, 0.0),), unfitted=(lam,))
        return Opened(view, replace(mixture, neighbours=self.k), spread)

    def _before(self, module: nn.Module, given: tuple[Tensor, ...]) -> None:
        self._state = given[0]

    def _after(self, model: nn.Module, args: tuple[Any, ...], given: dict[str, Any], output: Any) -> Any:
        if self.resting or model.training:
            return None
        return self._mixed(output, _labels(model, args, given), given.get("num_items_in_batch"))

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _mixed(self, output: Any, labels: Tensor | None, items: Any) -> Any:
        opened = self.opened()
        if opened is None:
            return None
        place = None if hasattr(output, "logits") else int(labels is not None)
        logits = output.logits if place is None else output[place]
        states = self._taken(logits)
        rows, queries = logits.flatten(0, -2), states.flatten(0, -2)
        sure = queries.isfinite().all(1)  # a text that is nothing but padding may have none
        if sure.all():
            mixed = opened.logarithms(rows, queries)
        else:
            mixed = torch.log_softmax(rows.float(), dim=1)
            mixed[sure] = opened.logarithms(rows[sure], queries[sure])
        mixed = mixed.view(logits.shape)
        loss = None if labels is None else _loss(mixed, labels, items, shifted=not self.hosted.pairs)
        if place is None:
            output["logits"] = mixed
            if loss is not None:
                output["loss"] = loss
            return output
        return (*((loss,) if place else ()), mixed, *output[place + 1 :])

    def _taken(self, logits: Tensor) -> Tensor:
        """The states that the last logits were made of."""
        state, self._state = self._state, None
        if state is None:
            raise self.hosted.not_run()
        return state[:, -logits.shape[1] :].to(logits.device)

    def _generate(self, *args: Any, **given: Any) -> Any:
        """The model's own `generate`, whose last texts are kept to be cited."""
        output = type(self.hosted.model).generate(self.hosted.model, *args, **given)
        self.written = (given | ({"inputs": args[0]} if args else {}), getattr(output, "sequences", output))
        return output


def attach(
    model: Any,
    memory: Memory,
    *,
    lam: float | None = None,
    temperature: float | None = None,
    neighbours: int = 128,
    key: str | None = None,
    tokenizer: Any = None,
) -> None:
    """Lets a model of Hugging Face's read a memory at its output; what it is attached to already is taken off.

    p(w) = (1 − λ) p_model(w) + λ Σ_j softmax(−‖q − k_j‖² / temperature) [v_j = w], over the K = `neighbours` nearest
    entries (kNN-LM, Khandelwal et al. 2020). Without `lam` and `temperature` two readings are mixed with the gates
    that `extmem.adapters.huggingface.fit` found for this memory, or with fixed shares where nothing is fitted.
    `key` names the module whose input is the query, as memorized; the output embedding if not given. `tokenizer` is
    needed for the text of `citations` alone, and known where this process memorized.

    Raises InvalidInput, ModelError for a model without an output embedding, WrongModel for a memory that only other
    models have memorized in.
    """
    if lam is not None and not 0 <= lam <= 1:
        raise InvalidInput(f"lam is {lam}: give a share from 0 to 1.", lam)
    if temperature is not None and not temperature > 0:
        raise InvalidInput(f"temperature is {temperature}: give a number above 0.", temperature)
    if neighbours < 1:
        raise InvalidInput(f"neighbours is {neighbours}: give at least 1.", neighbours)
    hosted = Hosted(model, key)
    if tokenizer is not None:
        hosted.check(tokenizer)
    datastore_in(memory, hosted)
    if hasattr(hosted.model, "_extmem"):
        detach(model)
    Attachment(hosted, memory, lam, temperature, neighbours, tokenizer)


def detach(model: Any) -> None:
    """Takes the memory off a model. Raises InvalidInput where none is attached."""
    attachment_of(model).take_off()


def attachment_of(model: Any) -> Attachment:
    """What is attached to a model. Raises InvalidInput where nothing is."""
    found = getattr(model_within(model), "_extmem", None)
    if not isinstance(found, Attachment):
        raise InvalidInput("no memory is attached to this model: extmem.attach(model, memory) first.", model)
    return found


def datastore_in(memory: Memory, hosted: Hosted) -> Datastore | None:
    """The datastore that this model has in a memory, None where nothing is memorized. Raises WrongModel where only
    other models have one."""
    there = memory.datastores()
    for datastore in there:
        if datastore.fingerprint.startswith(hosted.fingerprint):
            return datastore
    if there:
        raise WrongModel(
            f"this memory was memorized by another model ({there[0].fingerprint}), or by this one with other weights, "
            f"adapters or key (now {hosted.fingerprint}): attach that, or memorize into another memory.",
            there[0].fingerprint,
        )
    return None


def spread_of(datastore: Datastore) -> float:
    """The mean squared distance of the model's states from their mean."""
    spread = datastore.spread
    assert spread is not None, "it is kept with the first entries"
    return spread


def _labels(model: nn.Module, args: tuple[Any, ...], given: dict[str, Any]) -> Tensor | None:
    """The labels that a forward pass was given, by name or by place."""
    if "labels" in given or not args:
        return given.get("labels")
    names = list(inspect.signature(model.forward).parameters)
    return dict(zip(names, args, strict=False)).get("labels")


def _loss(log_p_BTV: Tensor, labels_BT: Tensor, items: Any, shifted: bool) -> Tensor:
    """The mean of −log p of the labels that count, as the model's own loss is; a sum over `items` where those are
    given (Trainer's gradient accumulation)."""
    if shifted:
        log_p_BTV, labels_BT = log_p_BTV[:, :-1], labels_BT[:, 1:]
    total = nn.functional.nll_loss(
        log_p_BTV.flatten(0, 1), labels_BT.flatten().to(log_p_BTV.device), ignore_index=IGNORED, reduction="sum"
    )
    count = (labels_BT != IGNORED).sum() if items is None else items
    return total / count
