"""A new domain, without training: what memorizing it does for a model of another one, beside fine-tuning as long.

    python benchmarks/new_domain.py ../shared/data/agnews/first6000.csv ../shared/data/medquad/pairs.jsonl.gz

A model is trained on the first text (news), one document in twenty held out. The documents of the second (medical
answers) are shuffled; every tenth is measured, and never learned or memorized; the others are memorized, up to
--tokens. Of the measured ones those are left out that are copies: of which a fifth of the runs of eight words stand in
what is memorized. Fine-tuning starts from the same weights and trains on the same documents for as much processor time
as memorizing took, all words in its softmax, once for each of three learning rates falling as a cosine; the best of
them on the measured text itself counts, which is a favour to it. The tokenizer is BPE, so that no word is unknown.
Gates are cross-fitted, the fine-tuned model's caches too. A table on stdout, or one object with --json.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import math
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from extmem import LanguageModel, Memory
from extmem.cli.model import TrainingBar
from extmem.lm.evaluate import Evaluation, evaluate
from extmem.lm.network import Network, NetworkState
from extmem.nn.cross_entropy import chunked_cross_entropy
from extmem.nn.mixture import spread_of

RATES, BATCH, STEPS = (1e-3, 3e-3, 1e-2), 16, 70
RUN = 8  # words
FIELDS = ("text", "content", "answer")  # where a line of JSON has its text


def documents(path: Path) -> Iterator[str]:
    """The texts of a .csv (its last two columns), .jsonl or plain file (a paragraph each), or one of them in .gz."""
    content = path.read_bytes()
    text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8")
    kind = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if kind == ".csv":
        found: Iterator[str] = (". ".join(row[-2:]) for row in csv.reader(text.splitlines()))
    elif kind == ".jsonl":
        lines = map(json.loads, text.splitlines())
        found = (next((line[field] for field in FIELDS if line.get(field)), "") for line in lines)
    else:
        found = iter(text.split("\n\n"))
    yield from (one for one in (" ".join(part.split()) for part in found) if one)


def cut(model: LanguageModel, texts: list[str], tokens: int) -> tuple[list[str], list[str]]:
    """Texts to memorize, and of every tenth those to measure that are not a copy of what is memorized: less than a
    fifth of their runs of RUN words stand there. A tenth as many tokens at most."""
    kept, measured = list[str](), list[str]()
    every = iter(text for number, text in enumerate(texts) if number % 10)
    while tokens > 0 and (text := next(every, None)) is not None:
        kept.append(text)
        tokens -= len(model.encode(text))
    known = {run for text in kept for run in runs(text)}
    most = sum(len(model.encode(text)) for text in kept) // 10
    for text in texts[::10]:
        own = runs(text)
        if own and sum(run in known for run in own) < len(own) / 5 and most > 0:
            measured.append(text)
            most -= len(model.encode(text))
    return kept, measured


def runs(text: str) -> list[tuple[str, ...]]:
    """Its runs of RUN words."""
    words = text.split()
    return [tuple(words[at : at + RUN]) for at in range(len(words) - RUN + 1)]


def tuned(model: LanguageModel, ids: Tensor, seconds: float, rate: float) -> tuple[LanguageModel, int]:
    """The model, trained on for so many seconds; and the tokens that it read."""
    after = LanguageModel(model.checkpoint)
    network: Network = after.network.train()
    adam = torch.optim.AdamW(network.parameters(), lr=rate, betas=(0.9, 0.99), weight_decay=0.0, fused=True)
    length = (len(ids) - 1) // BATCH
    inputs = ids[: BATCH * length].view(BATCH, length)
    targets = ids[1 : BATCH * length + 1].view(BATCH, length)
    state, began, at, read = NetworkState(), time.process_time(), 0, 0
    torch.manual_seed(0)
    while (spent := time.process_time() - began) < seconds:
        adam.param_groups[0]["lr"] = rate * max(0.01, 0.5 * (1 + math.cos(math.pi * spent / seconds)))
        hidden, state = network(inputs[:, at : at + STEPS], state.detach())
        target = targets[:, at : at + STEPS].flatten()
        loss = chunked_cross_entropy(hidden.flatten(0, 1), network.embedding.weight, network.bias, target)
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        adam.step()
        at, read = at + STEPS, read + target.numel()
        if at >= length:
            at, state = 0, NetworkState()
    states, _ = network.read(ids[: len(ids) // 4])
    after.spread = spread_of(states)
    return after, read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path, help="what the model is trained on")
    parser.add_argument("domain", type=Path, help="what it is measured on, and memorizes")
    parser.add_argument("--tokens", type=int, default=300_000, help="of the new domain, memorized at most")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work, Memory() as memory:
        corpus = Path(work) / "base.jsonl"
        corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents(options.base)))
        with TrainingBar(quiet=False) as bar:
            model = LanguageModel.train(
                corpus, tokenizer="bpe", vocabulary=8000, units=192, gates="input", memory_layer=False,
                epochs=options.epochs, progress=bar.show,
            )  # fmt: skip
        texts = list(dict.fromkeys(documents(options.domain)))
        random.Random(0).shuffle(texts)
        kept, measured = cut(model, texts, options.tokens)
        before = evaluate(model, measured)
        began = time.process_time()
        entries = model.memorize(memory, {f"{n:06}": text for n, text in enumerate(kept)}).entries
        seconds = time.process_time() - began
        after = evaluate(model, measured, memory)
    found: list[tuple[Evaluation, float, int]] = []
    for rate in RATES:
        other, read = tuned(model, model.encode(*kept), seconds, rate)
        found.append((evaluate(other, measured), rate, read))
        print(f"fine-tuned at {rate:g}: {found[-1][0].perplexity['model']:.1f}", file=sys.stderr)
    best = min(found, key=lambda one: one[0].perplexity["model"] or math.inf)
    about = {
        "parameters": model.summary()["parameters"],
        "own_domain": model.summary()["validation_perplexity"],
        "entries": entries,
        "seconds": seconds,
        "measured": before.tokens,
        "model": before.perplexity["model"],
        **{row: after.perplexity[row] for row in ("cache", "datastore", "memory")},
        "tuned": best[0].perplexity["model"],
        "tuned_cache": best[0].perplexity["cache"],
        "tuned_rate": best[1],
        "tuned_epochs": best[2] / max(1, entries),
    }
    print(json.dumps(about) if options.json else table(about))


def table(about: dict[str, Any]) -> str:
    """The figures for people."""
    rows = {
        "as trained": "model", "+ cache": "cache", "+ datastore": "datastore", "+ both": "memory",
        f"fine-tuned, {about['tuned_epochs']:.1f} epochs": "tuned", "fine-tuned + cache": "tuned_cache",
    }  # fmt: skip
    head = f"{about['parameters']:,} parameters, perplexity {about['own_domain']:.1f} on its own domain"
    said = f"{about['entries']:,} entries memorized in {about['seconds']:.0f} s; fine-tuned for as long"
    lines = [head, said, "", f"{'new domain':28}{'perplexity':>12}{'change':>9}"]
    for name, key in rows.items():
        lines.append(f"{name:28}{about[key]:>12.1f}{100 * (about[key] / about['model'] - 1):>+8.1f}%")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
