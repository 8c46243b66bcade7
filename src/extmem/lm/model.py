"""LanguageModel: one small object that trains, memorizes, measures and writes.

Knows: its network, tokenizer and vocabulary, and hands them to the module that does the work.
Does not know: how the work is done, or how it is shown.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from extmem.devices import device_named
from extmem.errors import InvalidInput, ModelError, WrongModel
from extmem.indexes.datastore import Datastore
from extmem.indexes.quantizer import SAMPLE, Quantizer
from extmem.lm.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from extmem.lm.corpus import prepare_pairs, prepare_text, stream
from extmem.lm.evaluate import Evaluation, evaluate
from extmem.lm.fitting import LEAST, check_enough, fit_mixture
from extmem.lm.generate import GeneratedToken, Generation, Generator, generate
from extmem.lm.lessons import Stream, Text
from extmem.lm.memorize import Memorized, memorize, read_entries
from extmem.lm.network import ModelConfig, Network, NetworkState
from extmem.lm.recipes import recipe_named
from extmem.lm.sampling import Sampling
from extmem.lm.seen import seen_words, unseen
from extmem.lm.sources import read_text
from extmem.lm.train import Progress, TrainConfig, train
from extmem.lm.unfinished import CHECKPOINT, clear_checkpoints
from extmem.memory import Memory
from extmem.nn.mixture import Mixture, spread_of
from extmem.text.documents import Source, documents_of
from extmem.text.normalise import normalise
from extmem.text.tokenizer import Tokenizer, from_json

FITTED = 50_000  # tokens of validation text that the mixture is fitted on


class LanguageModel:
    """A trained model. Make one with `LanguageModel.train` or `LanguageModel.load`."""

    def __init__(self, checkpoint: Checkpoint, device: str = "auto") -> None:
        self.checkpoint = checkpoint
        self.device = device_named(device)
        self.fingerprint = checkpoint.fingerprint()
        self.tokenizer: Tokenizer = from_json(dict(checkpoint.tokenizer))
        self.vocabulary, self.mixture = checkpoint.vocabulary, checkpoint.mixture
        self.network = Network(checkpoint.config)
        tensors = dict(checkpoint.tensors)
        self.quantizer = _quantizer(tensors)
        self.spread = float(tensors.pop("spread"))
        self.seen_W = tensors.pop("seen", torch.empty(0, dtype=torch.long))
        try:
            self.network.load_state_dict(tensors)
        except RuntimeError as error:  # as of a version whose memory layer stood before the projection
            fault = str(error).splitlines()[-1].strip()
            raise ModelError(
                f"these weights are not of this version's network ({fault}): train the model again."
            ) from error
        self.network.to(self.device).eval()

    @classmethod
    def load(cls, folder: str | Path, device: str = "auto") -> LanguageModel:
        """The model in a folder. Raises ModelError where there is none, or only a part of one."""
        return cls(load_checkpoint(Path(folder)), device)

    @classmethod
    def train(
        cls,
        corpus: str | Path,
        out: str | Path | None = None,
        *,
        source: str | Path | None = None,
        recipe: str | None = None,
        tokenizer: str = "auto",
        vocabulary: int | None = None,
        device: str = "auto",
        progress: Callable[[Progress], None] = lambda _: None,
        log: str | Path | None = None,
        profile: str | Path | None = None,
        **options: Any,
    ) -> LanguageModel:
        """Trains on a file or folder of text; `options` are fields of ModelConfig and TrainConfig, before those
        that a `recipe` (`lm/recipes.py`) has. With `source`, each line of the corpus is the translation of that line of
        `source`, and the model is a translator; or the same .tsv file is both.

        With `out`, the model is saved there, a checkpoint is kept after every epoch, and a training
        that was interrupted is finished by the same call. `vocabulary` None takes the 10,000 most
        frequent words, or all if there are fewer; a translator's `tokenizer` is bpe if not given. Raises
        InvalidInput, CorpusError, ModelError, TrainingDiverged, StorageError.
        """
        if recipe is not None:
            options = {**recipe_named(recipe), **options}
        if out is None:
            with tempfile.TemporaryDirectory() as work:
                return cls.train(
                    corpus, work, source=source, tokenizer=tokenizer, vocabulary=vocabulary, device=device,
                    progress=progress, log=log, profile=profile, **options,
                )  # fmt: skip
        folder = Path(out)
        if (folder / "model.json").exists():
            raise ModelError(f"{folder} holds a trained model: choose another folder, or delete it.", folder)
        others = folder.is_dir() and any(not path.name.startswith("checkpoint") for path in folder.iterdir())
        if others and not (folder / CHECKPOINT).exists():
            raise ModelError(f"{folder} holds other files: choose an empty folder for the model.", folder)
        sizes, training = _configs(options)
        where = device_named(device)
        if source is None:
            given = prepare_text(corpus, tokenizer, vocabulary, where)
        else:
            given = prepare_pairs(source, None if source == corpus else corpus, tokenizer, vocabulary, where)
            sizes = replace(sizes, encoder=sizes.encoder or 1)
        sizes = replace(sizes, vocabulary=len(given.vocabulary))
        torch.manual_seed(training.seed)
        network = Network(sizes).to(where)
        history = train(
            network, given.train, given.valid, training, folder,
            progress, Path(log) if log else None, Path(profile) if profile else None,
            about=[given.tokenizer.to_json(), given.vocabulary.words(range(len(given.vocabulary)))],
        )  # fmt: skip
        tensors: dict[str, Tensor] = {name: tensor.cpu() for name, tensor in network.state_dict().items()}
        tensors |= _places(network, given.train)
        if source is not None:
            tensors["seen"] = seen_words([pair.source for pair in given.pairs[0]])
        mixture = Mixture() if source is None else Mixture.without_caches()
        model = cls(Checkpoint(sizes, given.tokenizer.to_json(), given.vocabulary, tensors, mixture, history), device)
        if isinstance(given.valid, Stream):
            model._fit_default(given.valid.token_N)
        model.save(folder)
        clear_checkpoints(folder)
        return model

    def save(self, folder: str | Path) -> None:
        """Writes the model to a folder, whole or not at all. Raises StorageError."""
        save_checkpoint(Path(folder), self.checkpoint)

    def summary(self) -> dict[str, Any]:
        """What the model is: sizes, parameters by part, tokenizer, fingerprint, last epoch."""
        parts = {name: sum(p.numel() for p in part.parameters()) for name, part in self.network.named_children()}
        return {
            "fingerprint": self.fingerprint,
            "parameters": sum(p.numel() for p in self.network.parameters()),
            "parts": {name: count for name, count in parts.items() if count},
            "config": {field.name: getattr(self.network.config, field.name) for field in fields(ModelConfig)},
            "tokenizer": self.tokenizer.name,
            "epochs": len(self.checkpoint.history),
            "validation_perplexity": min(
                (line["validation_perplexity"] for line in self.checkpoint.history), default=None
            ),
        }

    def encode(self, *texts: str) -> Tensor:
        """The token numbers of texts one after the other, each closed by an end, (T,)."""
        words = (self.tokenizer.encode(normalise(text)).words for text in texts)
        return stream(self.vocabulary, words).to(self.device)

    @torch.no_grad()
    def opening(self, source: str) -> NetworkState | None:
        """The state that a translation of this text begins with; None for a model that is no translator."""
        self.network.eval()
        return None if self.network.reader is None else self.network.opening(self.encode(source)[None])

    def unseen(self, text: str) -> tuple[list[str], int]:
        """The words of a text that a translator has not learned from, and how many it has altogether."""
        return unseen(text, self.seen_W)

    def datastore(self, memory: Memory) -> Datastore:
        """This model's datastore in a memory. Raises WrongModel where only other models wrote one."""
        written = [datastore.fingerprint for datastore in memory.datastores()]
        others = [name for name in written if name != self.fingerprint]
        if others and self.fingerprint not in written:
            raise WrongModel(
                f"this memory was memorized by another model ({others[0]}, this one is {self.fingerprint}): "
                "load that model, or memorize into another memory.",
                others[0],
            )
        return memory.datastore(self.fingerprint, self.network.config.embedding, self.quantizer)

    def memorize(
        self,
        memory: Memory,
        source: Source,
        progress: Callable[[int, str], None] = lambda entries, key: None,
        preset: str | None = None,
    ) -> Memorized:
        """Stores documents (a file, a folder, several of them, {key: text}, or Documents) as records, and one
        entry per token; no training. Documents that are there already, unchanged, are passed over. `preset`
        is how a datastore that is new keeps its entries: "accurate" if not given, or "compact". A translator takes
        {sentence: translation} alone. Raises InvalidInput, CorpusError."""
        if self.network.reader is not None and not isinstance(source, Mapping):
            raise InvalidInput("this model is a translator: give it pairs (extmem translate … --source … --target …).")
        read = partial(read_entries, self)
        return memorize(memory, self.datastore(memory), documents_of(source), read, progress, preset)

    def fit(self, memory: Memory, held: str | Path) -> Mixture:
        """Fits the gates on a held text that is not in the memory; the memory keeps them until a record is forgotten
        that was there when they were fitted."""
        ids = self.encode(*_texts(held))
        check_enough(ids, held)
        if not len(self.datastore(memory)):
            raise InvalidInput("nothing is memorized yet: memorize first, then fit.")
        view = self.datastore(memory).view()
        mixture = fit_mixture(read_text(self, ids, view, self.mixture), self.mixture)
        self.datastore(memory).keep_fit(mixture.to_json(), view)
        return mixture

    def mixture_for(self, memory: Memory | None) -> Mixture:
        """The mixture fitted for this memory, or else the one the model came with."""
        fitted = None if memory is None else self.datastore(memory).fit()
        return (Mixture.from_json(fitted) if fitted else None) or self.mixture

    def evaluate(
        self,
        held: Source,
        memory: Memory | None = None,
        follow: int = 0,
        fit_on: Source | None = None,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Evaluation:
        """Perplexity of a file, a folder or {key: text}, row by row: model, cache, datastore, memory (all). Each half
        is measured with gates that are fitted on the other, or all of it with those fitted on another text, `fit_on`.
        With `follow`, the datastore is searched only where fewer entries than that can be followed to the next
        (RetoMaton). `progress` is told how many tokens were read, and of how many."""
        return evaluate(self, _texts(held), memory, follow, () if fit_on is None else _texts(fit_on), progress)

    def perplexity(self, held: str | Path, memory: Memory | None = None) -> float:
        """Perplexity of a file or folder: with everything the memory gives, or of the model alone."""
        found = self.evaluate(held, memory).perplexity["memory" if memory is not None else "model"]
        assert found is not None
        return found

    def generate(
        self,
        prompt: str,
        memory: Memory | None = None,
        *,
        allow_unknown: bool = False,
        on_token: Callable[[GeneratedToken], None] = lambda token: None,
        **sampling: Any,
    ) -> Generation:
        """Writes on from `prompt`; `sampling` are fields of Sampling. Raises InvalidInput for a prompt
        without words, or with words that neither the model nor the memory knows."""
        return generate(self, prompt, memory, Sampling.of(sampling), allow_unknown, on_token)

    def stream(
        self, prompt: str, memory: Memory | None = None, *, allow_unknown: bool = False, **sampling: Any
    ) -> Iterator[GeneratedToken]:
        """The tokens of `generate` as they are chosen (not with beams)."""
        chosen = Sampling.of(sampling)
        if chosen.beams > 1:
            raise InvalidInput("a beam search knows its first word only at its end: use generate.", "beams")
        generator = Generator(self, memory, chosen)
        return generator.stream(generator.start(prompt, allow_unknown))

    def _fit_default(self, valid_N: Tensor) -> None:
        """Fits the caches' gate on validation text."""
        ids = valid_N[:FITTED].to(self.device)
        if len(ids) < LEAST:
            return
        self.mixture = fit_mixture(read_text(self, ids, None, self.mixture), self.mixture)
        self.checkpoint = replace(self.checkpoint, mixture=self.mixture)


def _configs(options: dict[str, Any]) -> tuple[ModelConfig, TrainConfig]:
    """Sorts options into the two dataclasses they belong to."""
    sizes = {field.name for field in fields(ModelConfig)} - {"vocabulary"}
    training = {field.name for field in fields(TrainConfig)}
    unknown = set(options) - sizes - training
    if unknown:
        known = ", ".join(sorted(sizes | training))
        raise InvalidInput(f"there is no option {sorted(unknown)[0]!r}: choose from {known}.", unknown)
    return (
        ModelConfig(**{name: value for name, value in options.items() if name in sizes}),
        TrainConfig(**{name: value for name, value in options.items() if name in training}),
    )


def _places(network: Network, text: Text) -> dict[str, Tensor]:
    """Where the states of the network lie. `spread` is their mean squared distance from their mean, which
    β is measured by; the rest is the quantiser of its datastores, which thus belongs to the model and not to
    what is memorized."""
    states = torch.cat([hidden for hidden, _ in text.part(SAMPLE + 1).read(network)]).cpu()[:SAMPLE]
    quantizer = Quantizer.train(states.numpy())
    parts = {"axes": quantizer.axes, "cells": quantizer.cells, "codebook": quantizer.codebook}
    tensors = {name: torch.from_numpy(part) for name, part in parts.items()}
    return tensors | {"probes": torch.tensor(quantizer.probes), "spread": torch.tensor(spread_of(states))}


def _quantizer(tensors: dict[str, Tensor]) -> Quantizer:
    """Takes the quantiser out of a model's tensors; one that was saved before it had codes makes them of its cells."""
    cells = tensors.pop("cells").numpy()
    if "codebook" not in tensors:
        return Quantizer.of_cells(cells)
    axes, codebook = tensors.pop("axes").numpy(), tensors.pop("codebook").numpy()
    return Quantizer(axes, cells, codebook, int(tensors.pop("probes")))


def _texts(source: Source) -> list[str]:
    """The documents of a file, a folder or {key: text}."""
    return [normalise(document.text).rstrip("\n") + "\n" for document in documents_of(source)]
