"""The training loop: truncated back-propagation through lessons (`lm/lessons.py`), stopped and resumed at will.

Knows: a network, its lessons, a folder for its checkpoints. Does not know: words, memories, what lessons are made of,
how progress is shown (it calls `progress`).

After each epoch everything that the next one depends on (weights, Adam's moments, random state) is on disk, so a run
killed at any moment and started again ends with the very weights it would have had.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from extmem.errors import InvalidInput, TrainingDiverged
from extmem.lm.lessons import Stream, Text
from extmem.lm.network import Network
from extmem.lm.unfinished import read_checkpoint, tensors_of, write_checkpoint
from extmem.nn.cross_entropy import Sampled, chunked_cross_entropy


@dataclass(frozen=True)
class TrainConfig:
    """How to train. `patience` epochs without a better validation perplexity end the training.

    With `sampled`, each step's softmax sums over the `frequent` first words and so many of the others, drawn anew
    (`nn/cross_entropy.py`); 0 takes all. With `average`, the weights that are measured and kept are the exponential
    average of those of about so many updates (Polyak & Juditsky 1992); 0 takes the last ones. `smoothing` of each
    target's share is given to all words alike. Of pairs of sentences, `batch` are read side by side."""

    epochs: int = 14
    batch: int = 20
    sequence_length: int = 100
    learning_rate: float = 3e-3
    warmup: int = 100
    weight_decay: float = 0.0
    clip: float = 1.0
    patience: int = 4
    frequent: int = 1000
    sampled: int = 0
    average: int = 0
    smoothing: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "sequence_length", "patience"):
            if getattr(self, name) < 1:
                raise InvalidInput(f"{name} is {getattr(self, name)}: give at least 1.", name)
        for name in ("warmup", "weight_decay", "frequent", "sampled", "average"):
            if not getattr(self, name) >= 0:
                raise InvalidInput(f"{name} is {getattr(self, name)}: give at least 0.", name)
        if not 0 <= self.smoothing < 1:
            raise InvalidInput(f"smoothing is {self.smoothing}: give a share from 0 up to, not including, 1.")
        for name in ("learning_rate", "clip"):
            if not getattr(self, name) > 0:
                raise InvalidInput(f"{name} is {getattr(self, name)}: give a number above 0.", name)


@dataclass(frozen=True)
class Progress:
    """Where training stands: after each segment (`validation` is None) and after each epoch."""

    epoch: int
    epochs: int
    done: int
    total: int
    loss: float
    tokens_per_second: float
    seconds_left: float
    validation: float | None = None


def train(
    network: Network,
    text: Text | Tensor,
    valid: Text | Tensor,
    config: TrainConfig,
    folder: Path,
    progress: Callable[[Progress], None] = lambda _: None,
    log: Path | None = None,
    profile: Path | None = None,
    about: object = None,
) -> list[dict[str, float]]:
    """Trains `network` in place to its best epoch on `valid`; returns a line per epoch. Token numbers (N,) are one long
    text. `about` is what else must be the same (JSON) for an unfinished training to be gone on with.

    Raises CorpusError for a text too short, TrainingDiverged for NaN or Inf, StorageError where a
    checkpoint cannot be written, ModelError where `folder` holds another unfinished training.
    """
    text, valid = (Stream(one) if isinstance(one, Tensor) else one for one in (text, valid))
    run = _Run(network, text, config, folder, [*valid.content(), about])
    run.resume()
    writer = _tensorboard(log)
    try:
        while run.epoch < config.epochs and run.stale < config.patience:
            with _profiled(profile if run.epoch == 0 else None) as step:
                loss, speed = run.one_epoch(progress, step)
            with run.averaged():
                validation = perplexity(network, valid)
            if not math.isfinite(validation):
                raise run.diverged("the validation perplexity")
            run.finish_epoch(loss, validation, speed)
            left = (config.epochs - run.epoch) * run.tokens / speed
            progress(Progress(run.epoch, config.epochs, run.tokens, run.tokens, loss, speed, left, validation))
            for name, value in run.history[-1].items():
                if writer:
                    writer.add_scalar(name, value, run.epoch)
    finally:
        if writer:
            writer.close()
    network.load_state_dict(run.best)
    return run.history


def perplexity(network: Network, text: Text | Tensor) -> float:
    """exp of the mean negative log-likelihood of a text; token numbers (N,) are read in one stream."""
    text = Stream(text) if isinstance(text, Tensor) else text
    parts = [true_log_probabilities(network, *lesson) for lesson in text.read(network)]
    return _perplexity(-float(torch.cat(parts).mean()))


@torch.no_grad()
def true_log_probabilities(network: Network, hidden_TE: Tensor, token_T: Tensor) -> Tensor:
    """log p of the token that did come, for each state; (T,)."""
    parts = [
        network.log_probabilities(hidden).gather(1, token[:, None])[:, 0]
        for hidden, token in zip(hidden_TE.split(512), token_T.split(512), strict=True)
    ]
    return torch.cat(parts) if parts else hidden_TE.new_empty(0)


class _Run:
    """One training, as far as it has come."""

    def __init__(self, network: Network, text: Text, config: TrainConfig, folder: Path, also: object) -> None:
        self.network, self.text, self.config, self.folder = network, text, config, folder
        self.tokens, steps = text.sizes(config)
        self.updates = config.epochs * steps
        self.device = network.bias.device
        fused = self.device.type in ("cpu", "cuda")
        self.optimizer = torch.optim.AdamW(
            network.parameters(),
            lr=config.learning_rate,
            betas=(0.9, 0.99),
            weight_decay=config.weight_decay,
            fused=fused,
        )
        self.epoch, self.update, self.stale = 0, 0, 0
        self.history: list[dict[str, float]] = []
        self.sampled = Sampled(config.frequent, config.sampled) if config.sampled else None
        self.average = _copied(network) if config.average else {}
        self.best = _copied(network)
        about = [asdict(config), asdict(network.config), also, *text.content()]
        self.signature = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
        torch.manual_seed(config.seed)

    def one_epoch(self, progress: Callable[[Progress], None], profiler_step: Callable[[], None]) -> tuple[float, float]:
        """Reads the text once; returns its mean loss in nats and tokens/s."""
        self.network.train()
        total, done, began = 0.0, 0, time.perf_counter()
        for hidden, targets in self.text.lessons(self.network, self.config, self.epoch):
            for group in self.optimizer.param_groups:
                group["lr"] = self._learning_rate()
            embedding, bias = self.network.embedding.weight, self.network.bias
            loss = chunked_cross_entropy(
                hidden, embedding, bias, targets, sampled=self.sampled, smoothing=self.config.smoothing
            )
            self.optimizer.zero_grad()
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip)
            self.update += 1
            if not (math.isfinite(float(loss.detach())) and math.isfinite(float(norm))):
                raise self.diverged("the loss")
            self.optimizer.step()
            self._take_average()
            profiler_step()
            total, done = total + float(loss.detach()) * len(targets), done + len(targets)
            speed = done / (time.perf_counter() - began)
            left = (self.tokens * (self.config.epochs - self.epoch) - done) / speed
            progress(Progress(self.epoch + 1, self.config.epochs, done, self.tokens, total / done, speed, left))
        return total / done, speed

    def _learning_rate(self) -> float:
        """A linear warm-up, then a cosine down to a hundredth."""
        rising = min(1.0, (self.update + 1) / max(1, self.config.warmup))
        falling = 0.5 * (1 + math.cos(math.pi * min(1.0, self.update / self.updates)))
        return self.config.learning_rate * rising * max(0.01, falling)

    def finish_epoch(self, loss: float, validation: float, speed: float) -> None:
        best = min((line["validation_perplexity"] for line in self.history), default=math.inf)
        if validation < best:
            self.best = {name: tensor.clone() for name, tensor in self.average.items()} or _copied(self.network)
            self.stale = 0
        else:
            self.stale += 1
        self.epoch += 1
        self.history.append(
            {
                "train_perplexity": _perplexity(loss),
                "validation_perplexity": validation,
                "tokens_per_second": speed,
            }
        )
        self._save()

    def diverged(self, what: str) -> TrainingDiverged:
        kept = (
            f"the last good checkpoint is {tensors_of(self.folder, self.epoch)}" if self.epoch else "none was kept yet"
        )
        return TrainingDiverged(
            f"{what} became NaN or Inf at step {self.update} (epoch {self.epoch + 1}); {kept}. "
            "Train with a lower learning rate, into another folder.",
            self.update,
        )

    def _take_average(self) -> None:
        if self.average:
            share = max(1 / self.update, 1 / self.config.average)
            for name, tensor in self.network.state_dict().items():
                self.average[name].lerp_(tensor, share)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The network with the average of its weights, where one is taken."""
        if not self.average:
            yield
            return
        last = _copied(self.network)
        self.network.load_state_dict(self.average)
        try:
            yield
        finally:
            self.network.load_state_dict(last)

    def _save(self) -> None:
        tensors = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self.best.items()}
        tensors |= {f"average.{name}": tensor for name, tensor in self.average.items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{index}.{name}": tensor for name, tensor in moments.items()}
        tensors |= {f"random.{kind}": source.get_rng_state() for kind, source in self._random().items()}
        about = {"signature": self.signature, "update": self.update, "stale": self.stale, "history": self.history}
        write_checkpoint(self.folder, self.epoch, tensors, about)

    def resume(self) -> None:
        """Goes on from the folder's checkpoint, if it holds one of this very training."""
        kept = read_checkpoint(self.folder, self.signature)
        if kept is None:
            return
        about, tensors = kept

        def part(prefix: str) -> dict[str, Tensor]:
            return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}

        self.network.load_state_dict(part("network."))
        self.best = part("best.")
        self.average = {name: tensor.to(self.device) for name, tensor in part("average.").items()}
        optimizer = self.optimizer.state_dict()
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in part("adam.").items():
            index, _, field = name.partition(".")
            moments.setdefault(int(index), {})[field] = tensor
        optimizer["state"] = moments
        self.optimizer.load_state_dict(optimizer)
        for kind, source in self._random().items():
            source.set_rng_state(tensors.get(f"random.{kind}", source.get_rng_state()))
        self.epoch, self.update, self.stale = about["epoch"], about["update"], about["stale"]
        self.history = about["history"]

    def _random(self) -> dict[str, Any]:
        """Where dropout draws from: the CPU's generator, and the device's own."""
        devices = {"cuda": torch.cuda, "mps": torch.mps}
        kind = self.device.type
        return {"cpu": torch} | ({kind: devices[kind]} if kind in devices else {})


def _copied(network: Network) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def _perplexity(nats: float) -> float:
    return math.exp(nats) if nats < 700 else math.inf


def _tensorboard(log: Path | None) -> Any:
    if log is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(log_dir=str(log))


class _profiled:
    """Writes a PyTorch profiler trace of the first twenty steps to a folder, where one is given."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.profiler: Any = nullcontext()

    def __enter__(self) -> Callable[[], None]:
        if self.folder is None:
            return lambda: None
        from torch import profiler

        self.profiler = profiler.profile(
            schedule=profiler.schedule(wait=0, warmup=1, active=19, repeat=1),
            on_trace_ready=profiler.tensorboard_trace_handler(str(self.folder)),
        )
        self.profiler.__enter__()
        return self.profiler.step  # type: ignore[no-any-return]

    def __exit__(self, *error: object) -> None:
        self.profiler.__exit__(*error)
