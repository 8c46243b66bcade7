"""Characters: extmem's LSTM and what memory adds to it, beside a small Transformer that trains for the same seconds.

    python benchmarks/characters.py ../shared/data/shakespeare/input.txt          half an hour on a slow core

The last tenth of the text is held out. The LSTM is trained for --epochs, as `extmem train --tokenizer characters` does
it, its validation included in the seconds. Then a Transformer of about as many parameters trains for as many seconds of
processor time: four blocks of width 128 and four heads over 64 characters in batches of 12, the sizes that nanoGPT's
notes give for a CPU, in plain PyTorch with AdamW and a cosine; its weights are averaged as the LSTM's are. It is
measured ten times on its way, off the clock, averaged or not, and its best counts, as the LSTM's best epoch does. It
reads the held-out text in windows that overlap by half, so that a character has at least 32 before it. Neither's
learning rate was searched for. The memory holds the training text and what was read of the held-out text; gates are
cross-fitted. Bits per character on stdout, or one object with --json.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from extmem import LanguageModel, Memory
from extmem.cli.model import TrainingBar

BLOCKS, HEADS, WIDTH, CONTEXT, BATCH, RATE = 4, 4, 128, 64, 12, 1e-3
LSTM = {"embedding": 64, "units": 384, "gates": "input", "memory_layer": False, "dropout": 0.1, "batch": 32,
        "sequence_length": 100, "learning_rate": 4e-3, "average": 200, "patience": 100}  # fmt: skip


class Block(nn.Module):
    """Causal attention and two layers behind it, each added to what it read (pre-norm)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.heads, self.joined = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.inner = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x_BTW: Tensor) -> Tensor:
        parts = self.heads(self.first(x_BTW)).chunk(3, dim=2)
        q, k, v = (part.unflatten(2, (HEADS, -1)).transpose(1, 2) for part in parts)
        read = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x_BTW = x_BTW + self.joined(read.transpose(1, 2).flatten(2))
        return x_BTW + self.inner(self.second(x_BTW))  # type: ignore[no-any-return]


class Transformer(nn.Module):
    """(B, T) characters -> (B, T, V) scores; the output weights are the embedding's."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(vocabulary, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(BLOCKS)), nn.LayerNorm(WIDTH))
        for name, weight in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(weight)
            elif weight.ndim == 2:
                deep = name.endswith(("joined.weight", "inner.2.weight"))
                nn.init.normal_(weight, std=0.02 / (math.sqrt(2 * BLOCKS) if deep else 1))

    def forward(self, token_BT: Tensor) -> Tensor:
        hidden = self.blocks(self.words(token_BT) + self.places.weight[: token_BT.shape[1]])
        return hidden @ self.words.weight.T  # type: ignore[no-any-return]

    @torch.no_grad()
    def nats(self, token_N: Tensor) -> float:
        """-Σ log p of all but the first: windows overlap by half, and each but the first counts its second half."""
        self.eval()
        step, last = CONTEXT // 2, token_N[-CONTEXT - 1 :]
        windows = token_N.unfold(0, CONTEXT + 1, step)
        losses = torch.cat([self._losses(some) for some in [*windows.split(64), last[None]]])
        left = len(token_N) - 1 - CONTEXT - step * (len(windows) - 1)  # behind the last whole window
        total = losses[0, :step].sum() + losses[:-1, step:].sum() + losses[-1, CONTEXT - left :].sum()
        self.train()
        return float(total)

    def _losses(self, window_BT: Tensor) -> Tensor:
        """-log p of each character of windows but their first, (B, T - 1)."""
        return nn.functional.cross_entropy(self(window_BT[:, :-1]).mT, window_BT[:, 1:], reduction="none")


def transformer(train_N: Tensor, held_N: Tensor, vocabulary: int, seconds: float) -> dict[str, Any]:
    """Trains one for so many seconds of processor time, measuring it ten times."""
    torch.manual_seed(0)
    network, spent, updates, best = Transformer(vocabulary), 0.0, 0, math.inf
    averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(1 - 1 / LSTM["average"]))
    matrices = [p for p in network.parameters() if p.ndim == 2]
    others = [p for p in network.parameters() if p.ndim != 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    adam = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.99), fused=True)
    next_look = seconds / 10
    while spent < seconds:
        began = time.process_time()
        done = min(1.0, spent / seconds)
        for group in adam.param_groups:
            group["lr"] = RATE * min(1.0, (updates + 1) / 100) * max(0.1, 0.5 * (1 + math.cos(math.pi * done)))
        at = torch.randint(len(train_N) - CONTEXT, (BATCH,))
        window = torch.stack([train_N[start : start + CONTEXT + 1] for start in at.tolist()])
        loss = nn.functional.cross_entropy(network(window[:, :-1]).flatten(0, 1), window[:, 1:].flatten())
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        adam.step()
        averaged.update_parameters(network)
        updates, spent = updates + 1, spent + time.process_time() - began
        if spent >= min(next_look, seconds):
            best = min(best, network.nats(held_N), averaged.module.nats(held_N))
            next_look += seconds / 10
            print(f"transformer, {spent:.0f} s: {best / (len(held_N) - 1) / math.log(2):.3f} bits", file=sys.stderr)
    return {
        "parameters": sum(p.numel() for p in network.parameters()),
        "seconds": spent,
        "characters_per_second": updates * BATCH * CONTEXT / spent,
        "bits": best / (len(held_N) - 1) / math.log(2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path, help="a text file")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    text = options.text.read_text(encoding="utf-8")
    cut = len(text) * 9 // 10
    with tempfile.TemporaryDirectory() as work, Memory() as memory:
        folder = Path(work)
        (folder / "train.txt").write_text(text[:cut], encoding="utf-8")
        (folder / "valid.txt").write_text(text[cut:], encoding="utf-8")
        began = time.process_time()
        with TrainingBar(quiet=False) as bar:
            model = LanguageModel.train(
                folder, folder / "model", tokenizer="characters", epochs=options.epochs, progress=bar.show, **LSTM
            )
        seconds = time.process_time() - began
        train, held = (model.encode((folder / name).read_text(encoding="utf-8")) for name in ("train.txt", "valid.txt"))
        peer = transformer(train, held, len(model.vocabulary), seconds)
        model.memorize(memory, folder / "train.txt")
        found = model.evaluate(folder / "valid.txt", memory)
    about = {
        "seconds": seconds,
        "transformer": peer,
        "parameters": model.summary()["parameters"],
        "characters_per_second": len(train) * len(model.checkpoint.history) / seconds,
        "bits": found.bits_per_character,
        "reading_per_second": found.tokens / (found.seconds["memory"] or 1),
    }
    print(json.dumps(about) if options.json else table(about))


def table(about: dict[str, Any]) -> str:
    """The figures for people."""
    peer, bits = about["transformer"], about["bits"]
    lines = [
        f"trained for {about['seconds']:.0f} s of processor time each",
        "",
        f"{'':30}{'parameters':>12}{'characters/s':>14}{'bits':>8}",
    ]
    row = f"{'Transformer, plain PyTorch':30}{peer['parameters']:>12,}{peer['characters_per_second']:>14,.0f}"
    lines.append(f"{row}{peer['bits']:>8.3f}")
    row = f"{'extmem, LSTM alone':30}{about['parameters']:>12,}{about['characters_per_second']:>14,.0f}"
    lines.append(f"{row}{bits['model']:>8.3f}")
    lines += [f"{f'extmem, {name}':30}{'':26}{bits[key]:>8.3f}" for name, key in ROWS.items()]
    return "\n".join(lines)


ROWS = {"+ cache": "cache", "+ datastore": "datastore", "+ both": "memory"}

if __name__ == "__main__":
    main()
