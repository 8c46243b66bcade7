"""A memory attached to a model of Hugging Face's, beside knn-transformers on the same model and text.

    python benchmarks/adapters.py ../shared/data/ptb
    python benchmarks/adapters.py ../shared/data/ptb --knn-transformers FOLDER --many 0

DATA is a folder with train.txt and valid.txt. A small GPT-2 is trained for `--minutes` on the training text;
its words are Penn Treebank's. The same settings: both keep the input of the last feed-forward
layer, 1024 neighbours, λ 0.25, one temperature; perplexity of the first tokens of the validation text, tokens a second,
bytes of the datastore. And the same with more entries ("many"), of as much of the training text as is asked for; their
datastore is then filled with the keys that ours read. FOLDER holds neulab/knn-transformers as it is; its code is run
unmodified, once on all cells of its index, where both must give the same answer. Without it our rows come alone.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import AutoModelForCausalLM, GPT2Config, PreTrainedTokenizerFast

from extmem import Memory
from extmem.adapters.huggingface import attach, detach, memorize
from extmem.adapters.huggingface.attaching import datastore_in
from extmem.adapters.huggingface.hosted import Hosted
from extmem.indexes.datastore import Datastore
from extmem.text.documents import Document

WIDTH, WINDOW, BATCH = 256, 256, 4
K, LAM = 1024, 0.25
KEY = "transformer.h.1.mlp"  # the last feed-forward layer, as knn-transformers' default
TEMPERATURE = 20.0


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--knn-transformers", type=Path, help="the folder of its code")
    parser.add_argument("--model", type=Path, help="a folder to keep the model in, or to take it from")
    parser.add_argument("--minutes", type=float, default=5.0, help="of training")
    parser.add_argument("--stored", type=int, default=100_000, help="tokens of the training text that are memorized")
    parser.add_argument("--measured", type=int, default=8_192, help="tokens of the validation text")
    parser.add_argument("--many", type=int, default=930_000, help="tokens of it in the rows named so; 0 for none")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    tokenizer, model = prepared(given)
    train = ids_of(tokenizer, given.data / "train.txt")
    valid = ids_of(tokenizer, given.data / "valid.txt")[: given.measured]
    results = {"alone": {"perplexity": perplexity(model, valid)[0]}}
    with tempfile.TemporaryDirectory() as work:
        for preset in ("accurate", "compact"):
            with Memory(Path(work) / preset) as memory:
                results |= ours(model, tokenizer, train, valid, given, memory, Path(work) / preset)
                if preset == "accurate" and given.knn_transformers is not None:
                    view = datastore_of(model, memory).view()
                    keys = view.keys(np.arange(len(view))).astype(np.float16)
        if given.knn_transformers is not None:
            results |= theirs(model, train, keys, valid, given, Path(work))
    if given.json:
        print(json.dumps(results))
        return
    table = Table(title=f"GPT-2 of width {WIDTH}, K = {K}, λ = {LAM}", title_justify="left")
    names = list(dict.fromkeys(name for row in results.values() for name in row))
    for name in ("", *names):
        table.add_column(name, justify="right" if name else "left")
    for label, row in results.items():
        table.add_row(label, *(f"{row[name]:,.2f}" if name in row else "" for name in names))
    Console(width=200).print(table)


def prepared(given: argparse.Namespace) -> tuple[Any, Any]:
    """Words of the training text as a tokenizer, and a GPT-2 trained on it."""
    words = sorted(set((given.data / "train.txt").read_text(encoding="utf-8").replace("\n", " <eos> ").split()))
    inner = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", eos_token="<eos>")
    if given.model is not None and (given.model / "config.json").exists():
        return tokenizer, AutoModelForCausalLM.from_pretrained(given.model).eval()
    torch.manual_seed(0)
    sizes = {"n_embd": WIDTH, "n_layer": 2, "n_head": 4, "n_positions": WINDOW, "vocab_size": len(words)}
    eos = tokenizer.eos_token_id
    model = AutoModelForCausalLM.from_config(GPT2Config(**sizes, bos_token_id=eos, eos_token_id=eos))
    ids = ids_of(tokenizer, given.data / "train.txt")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    began, steps = time.monotonic(), 0
    model.train()
    while time.monotonic() - began < 60 * given.minutes:
        starts = torch.randint(len(ids) - WINDOW, (8,))
        batch = torch.stack([ids[start : start + WINDOW] for start in starts])
        loss = model(input_ids=batch, labels=batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps += 1
        if steps % 50 == 0:
            say(f"trained {steps} steps, loss {float(loss.detach()):.2f}")
    if given.model is not None:
        model.save_pretrained(given.model)
    return tokenizer, model.eval()


def ids_of(tokenizer: Any, file: Path) -> Tensor:
    text = file.read_text(encoding="utf-8").replace("\n", " <eos> ")
    return torch.tensor(tokenizer(text, verbose=False)["input_ids"])


def blocks(ids: Tensor) -> Iterator[Tensor]:
    """Batches of whole windows, (B, WINDOW), each read alone, as knn-transformers' scripts read a text."""
    rows = ids[: len(ids) // WINDOW * WINDOW].view(-1, WINDOW)
    yield from rows.split(BATCH)


@torch.no_grad()
def perplexity(model: Any, ids: Tensor) -> tuple[float, float]:
    """Of all tokens but each window's first, and tokens a second (the median of the batches)."""
    total, count, speeds = 0.0, 0, []
    for batch in blocks(ids):
        began = time.perf_counter()
        loss = float(model(input_ids=batch, labels=batch).loss)
        speeds.append(batch.numel() / (time.perf_counter() - began))
        places = batch[:, 1:].numel()
        total, count = total + loss * places, count + places
    return math.exp(total / count), float(np.median(speeds))


def ours(
    model: Any, tokenizer: Any, train: Tensor, valid: Tensor, given: argparse.Namespace, memory: Memory, folder: Path
) -> dict[str, dict[str, float]]:
    results: dict[str, dict[str, float]] = {}
    preset = folder.name
    for count, more in ((given.stored, ""), (given.many, ", many")):
        if count <= 0:
            continue
        began = time.perf_counter()
        parts = enumerate(train[:count].split(WINDOW - 1))
        documents = (Document(f"part {number}", tokenizer.decode(part)) for number, part in parts)
        done = memorize(model, tokenizer, memory, documents, preset=preset, key=KEY)
        stored = done.entries / (time.perf_counter() - began)
        attach(model, memory, lam=LAM, temperature=TEMPERATURE, neighbours=K, key=KEY)
        found, speed = perplexity(model, valid)
        detach(model)
        entries = len(datastore_of(model, memory))
        results[f"extmem {preset}{more}"] = {
            "entries": entries, "perplexity": found, "tokens/s": speed, "stored/s": stored,
            "bytes/entry": size(folder / "datastores") / entries,
        }  # fmt: skip
        say(f"extmem {preset}{more}: {results[f'extmem {preset}{more}']}")
    return results


def datastore_of(model: Any, memory: Memory) -> Datastore:
    found = datastore_in(memory, Hosted(model, KEY))
    assert found is not None
    return found


def size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def theirs(
    model: Any, train: Tensor, keys: np.ndarray, valid: Tensor, given: argparse.Namespace, work: Path
) -> dict[str, dict[str, float]]:
    """Their KNNSaver and KNNWrapper. Their search looks into 32 cells by default; a row looks into all."""
    sys.path.insert(0, str(given.knn_transformers))
    import knnlm

    results: dict[str, dict[str, float]] = {}
    folder, count = str(work / "theirs"), given.stored
    saver = knnlm.KNNSaver(dstore_size=count, dstore_dir=folder, dimension=WIDTH)
    saver.break_into(model)
    began = time.perf_counter()
    with torch.no_grad():
        for part in train[:count].split(WINDOW - 1):
            row = torch.cat([train.new_tensor([model.config.eos_token_id]), part])[None]  # as ours begins a text
            model(input_ids=row, attention_mask=torch.ones_like(row), labels=row)
    saver.break_out()
    saver.build_index(ncentroids=min(4096, count // 39))
    stored = count / (time.perf_counter() - began)
    for label, probe in (("knn-transformers, all cells", 4096), ("knn-transformers", 32)):
        results[label] = measured(knnlm, model, valid, folder, count, probe) | {"stored/s": stored}
        say(f"{label}: {results[label]}")
    if len(keys) > count:
        many = knnlm.KNNSaver(dstore_size=len(keys), dstore_dir=folder, dimension=WIDTH)
        many.break_into(model)
        many.break_out()
        many.dstore_keys[:], many.dstore_vals[:, 0] = keys, train[: len(keys)].numpy()
        many.build_index()
        results["knn-transformers, many"] = measured(knnlm, model, valid, folder, len(keys), 32)
        say(f"knn-transformers, many: {results['knn-transformers, many']}")
    return results


def measured(knnlm: Any, model: Any, valid: Tensor, folder: str, count: int, probe: int) -> dict[str, float]:
    wrapper = knnlm.KNNWrapper(
        dstore_size=count, dstore_dir=folder, dimension=WIDTH, knn_sim_func=knnlm.DIST.l2, move_dstore_to_mem=True,
        recompute_dists=probe > 32, k=K, lmbda=LAM, knn_temp=TEMPERATURE, probe=probe,
    )  # fmt: skip
    wrapper.break_into(model)
    found, speed = perplexity(model, valid)
    wrapper.break_out()
    held = [file for file in Path(folder).iterdir() if f"_{count}_" in file.name]
    bytes_each = sum(file.stat().st_size for file in held) / count
    return {"entries": count, "perplexity": found, "tokens/s": speed, "bytes/entry": bytes_each}


if __name__ == "__main__":
    main()
