"""The training loop: truncated back-propagation through one long text, stopped and resumed at will.

Knows: a network, token numbers, a folder for its checkpoints. Does not know: words, memories, how
progress is shown (it calls `progress`).

The text is cut into `batch` streams read side by side; the state is carried from segment to segment
and cut from the graph in between. After each epoch everything that the next one depends on (weights,
Adam's moments, random state) is on disk, so a run killed at any moment and started again ends with
the very weights it would have had.
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

from extmem.errors import CorpusError, InvalidInput, TrainingDiverged
from extmem.lm.network import Network, NetworkState
from extmem.lm.unfinished import read_checkpoint, tensors_of, write_checkpoint
from extmem.nn.cross_entropy import Sampled, chunked_cross_entropy


@dataclass(frozen=True)
class TrainConfig:
    """How to train. `patience` epochs without a better validation perplexity end the training.

    With `sampled`, each step's softmax sums over the `frequent` first words and so many of the others, drawn anew
    (`nn/cross_entropy.py`); 0 takes all. With `average`, the weights that are measured and kept are the exponential
    average of those of about so many updates (Polyak & Juditsky 1992); 0 takes the last ones."""

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
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "sequence_length", "patience"):
            if getattr(self, name) < 1:
                raise InvalidInput(f"{name} is {getattr(self, name)}: give at least 1.", name)
        for name in ("warmup", "weight_decay", "frequent", "sampled", "average"):
            if not getattr(self, name) >= 0:
                raise InvalidInput(f"{name} is {getattr(self, name)}: give at least 0.", name)
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
    train_N: Tensor,
    valid_N: Tensor,
    config: TrainConfig,
    folder: Path,
    progress: Callable[[Progress], None] = lambda _: None,
    log: Path | None = None,
    profile: Path | None = None,
    about: object = None,
) -> list[dict[str, float]]:
    """Trains `network` in place to its best epoch on `valid_N`; returns a line per epoch. `about` is
    what else must be the same (JSON) for an unfinished training to be gone on with.

    Raises CorpusError for a text too short, TrainingDiverged for NaN or Inf, StorageError where a
    checkpoint cannot be written, ModelError where `folder` holds another unfinished training.
    """
    run = _Run(network, train_N, config, folder, [valid_N.tolist(), about])
    run.resume()
    writer = _tensorboard(log)
    try:
        while run.epoch < config.epochs and run.stale < config.patience:
            with _profiled(profile if run.epoch == 0 else None) as step:
                loss, speed = run.one_epoch(progress, step)
            with run.averaged():
                validation = perplexity(network, valid_N)
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


def perplexity(network: Network, token_N: Tensor) -> float:
    """exp of the mean negative log-likelihood of a text, read in one stream."""
    hidden, _ = network.read(token_N[:-1])
    return _perplexity(-float(true_log_probabilities(network, hidden, token_N[1:]).mean()))


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

    def __init__(self, network: Network, train_N: Tensor, config: TrainConfig, folder: Path, also: object) -> None:
        self.network, self.config, self.folder = network, config, folder
        batch = min(config.batch, max(1, len(train_N) // (2 * config.sequence_length)))
        steps = (len(train_N) - 1) // batch
        if steps < 1:
            raise CorpusError(f"the corpus has {len(train_N)} tokens: give at least a few hundred.")
        self.inputs = train_N[: batch * steps].view(batch, steps)
        self.targets = train_N[1 : batch * steps + 1].view(batch, steps)
        self.tokens = batch * steps
        self.updates = config.epochs * math.ceil(steps / config.sequence_length)
        fused = train_N.device.type in ("cpu", "cuda")
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
        about = json.dumps([asdict(config), asdict(network.config), also], sort_keys=True).encode()
        self.signature = hashlib.sha256(about + train_N.cpu().numpy().tobytes()).hexdigest()[:16]
        torch.manual_seed(config.seed)

    def one_epoch(self, progress: Callable[[Progress], None], profiler_step: Callable[[], None]) -> tuple[float, float]:
        """Reads the text once; returns its mean loss in nats and tokens/s."""
        self.network.train()
        state, total, done, began = NetworkState(), 0.0, 0, time.perf_counter()
        for inputs, targets in self._segments():
            for group in self.optimizer.param_groups:
                group["lr"] = self._learning_rate()
            hidden, state = self.network(inputs, state.detach())
            embedding, bias = self.network.embedding.weight, self.network.bias
            loss = chunked_cross_entropy(hidden.flatten(0, 1), embedding, bias, targets.flatten(), sampled=self.sampled)
            self.optimizer.zero_grad()
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip)
            self.update += 1
            if not (math.isfinite(float(loss.detach())) and math.isfinite(float(norm))):
                raise self.diverged("the loss")
            self.optimizer.step()
            self._take_average()
            profiler_step()
            total, done = total + float(loss.detach()) * inputs.numel(), done + inputs.numel()
            speed = done / (time.perf_counter() - began)
            left = (self.tokens * (self.config.epochs - self.epoch) - done) / speed
            progress(Progress(self.epoch + 1, self.config.epochs, done, self.tokens, total / done, speed, left))
        return total / done, speed

    def _segments(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Segments in reading order; the first is of another length in every epoch, so that the
        cuts fall elsewhere each time."""
        length, steps = self.config.sequence_length, self.inputs.shape[1]
        start, stop = 0, length - (self.epoch * 37) % max(1, length // 2)
        while start < steps:
            yield self.inputs[:, start:stop], self.targets[:, start:stop]
            start, stop = stop, stop + length

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
        self.average = {name: tensor.to(self.inputs.device) for name, tensor in part("average.").items()}
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
        kind = self.inputs.device.type
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
