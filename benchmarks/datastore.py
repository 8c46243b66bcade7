"""The datastore: its presets beside plain FAISS, how its cost grows, opening, forgetting, following pointers.

    python benchmarks/datastore.py ../shared/data/ptb                     trains a short model, some minutes
    python benchmarks/datastore.py ../shared/data/ptb --model MODEL       takes that model
    python benchmarks/datastore.py ../shared/data/ptb --only large --large 10000000

The corpus is read in sixteen documents side by side; each token of train.txt is an entry, the states of valid.txt are
the queries. `presets`: bytes an entry on disk with everything in it, perplexity of the text with the datastore (λ
cross-fitted) against exact search of float32 keys, recall@32 of that search, queries a second in batches of 4,096
and one by one, entries built a second with the training of the quantiser; peers are FAISS's own indexes, in the same
run. `follow`: searches saved and perplexity, where pointers are followed (RetoMaton). `growth`: synthetic clustered
vectors, 1e5 to 1e7. `large`: one datastore of so many vectors is built, opened, searched, appended to and partly
forgotten, each in a process whose peak memory is told: its own, and with the pages of mapped files. --within BYTES has
the kernel hold each of these processes to so much memory, the pages of its files among it (a control group: as root, on
Linux), and once more that of the queries to a quarter of the datastore's size.
A table each on stdout, or --json for one object; growth is also drawn into an SVG with --svg FILE.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch

from extmem import LanguageModel, Memory
from extmem.indexes.datastore import Datastore, Entries
from extmem.indexes.quantizer import SAMPLE, Quantizer
from extmem.lm.following import read_along
from extmem.lm.train import true_log_probabilities
from extmem.nn.gate import fit_gate
from extmem.nn.mixture import Near, datastore_reads
from extmem.text.normalise import normalise

STREAMS, K, RECALL_AT, SINGLE = 16, 512, 32, 2000
READINGS = (Near(8.0, 0.0), Near(32.0, 0.0))
DASHED, SOLID = 'stroke="#999" stroke-dasharray="4"', 'stroke="#06c" stroke-width="2"'
Search = Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]
Row = dict[str, Any]


def say(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


class Text:
    """A corpus as a model reads it: states, tokens and spans of what is stored, and of what is asked."""

    def __init__(self, model: LanguageModel, folder: Path, asked: int) -> None:
        self.model, self.documents = model, list[Entries]()
        tokens = model.tokenizer.encode(normalise((folder / "train.txt").read_text(encoding="utf-8")))
        ids = torch.tensor(model.vocabulary.ids(tokens.words))
        steps = len(ids) // STREAMS
        say(f"reading {steps * STREAMS:,} tokens with the model")
        keys = self._read(ids[: STREAMS * steps].view(STREAMS, steps))
        spans = np.stack([tokens.starts, tokens.ends], axis=1)
        for number in range(STREAMS):
            part = slice(number * steps, (number + 1) * steps)
            start = np.array([spans[part.start][0]])
            self.documents.append(Entries(0, keys[number], ids[part].numpy(), spans[part] - start))
        self.keys = keys.reshape(-1, keys.shape[2])
        self.tokens = np.concatenate([document.tokens for document in self.documents])
        held = model.encode((folder / "valid.txt").read_text(encoding="utf-8"))[:asked].cpu()
        self.queries, self.truth = self._read(held[None])[0], held
        states = torch.from_numpy(self.queries)
        self.alone = true_log_probabilities(model.network.cpu(), states, held).exp()

    def _read(self, token_BT: torch.Tensor) -> np.ndarray:
        network, state, parts = self.model.network.cpu().eval(), None, []
        before = torch.cat([torch.full((len(token_BT), 1), self.model.vocabulary.eos), token_BT[:, :-1]], dim=1)
        with torch.no_grad():
            for segment in before.split(256, dim=1):
                hidden, state = network(segment, state)
                parts.append(hidden.numpy())
        return np.concatenate(parts, axis=1)

    def perplexity(self, entries: np.ndarray, distances: np.ndarray) -> float:
        """With these entries read for each token; the gate of one half is fitted on the other."""
        near, tokens = torch.from_numpy(distances), torch.from_numpy(self.tokens[entries.clip(0)])
        parts, features = [], []
        for at in range(0, len(near), 1024):
            rows = slice(at, at + 1024)
            none = torch.zeros_like(tokens[rows])
            reads, seen = datastore_reads(near[rows], tokens[rows], none, READINGS, self.model.spread)
            given = [read.of(self.truth[rows], self.alone[rows]) for read in reads]
            parts.append(torch.stack([self.alone[rows], *given], dim=1))
            features.append(seen)
        part, feature, half = torch.cat(parts), torch.cat(features), len(near) // 2
        nats = 0.0
        for fitted, measured in ((slice(half, None), slice(0, half)), (slice(0, half), slice(half, None))):
            gate = fit_gate(feature[fitted], part[fitted])
            nats -= float((gate(feature[measured]) * part[measured]).sum(1).clamp_min(1e-12).log().double().sum())
        return math.exp(nats / len(near))


def measured(name: str, search: Search, text: Text, true: np.ndarray) -> Row:
    """Perplexity, recall and speed of one way to search."""
    say(f"searching: {name}")
    queries = text.queries
    perplexity = text.perplexity(*search(queries, K))
    search(queries[:4096], RECALL_AT)
    began = time.perf_counter()
    found = np.concatenate([search(queries[at : at + 4096], RECALL_AT)[0] for at in range(0, len(queries), 4096)])
    batched = len(queries) / (time.perf_counter() - began)
    same = [len(np.intersect1d(a, b)) for a, b in zip(found, true[:, :RECALL_AT], strict=True)]
    single = one_by_one(search, queries)
    return {"": name, "perplexity": perplexity, "recall": float(np.mean(same)) / RECALL_AT, "batched": batched} | single


def one_by_one(search: Search, queries: np.ndarray) -> Row:
    """Times of single queries, in milliseconds."""
    times = []
    for row in range(min(SINGLE, len(queries))):
        began = time.perf_counter()
        search(queries[row : row + 1], RECALL_AT)
        times.append(time.perf_counter() - began)
    return {
        "single": len(times) / sum(times),
        "p50": float(np.median(times)) * 1e3,
        "p99": float(np.quantile(times, 0.99)) * 1e3,
    }


def built(folder: Path, documents: list[Entries], quantizer: Quantizer, preset: str) -> tuple[Memory, Datastore, float]:
    """A memory with these documents; and the seconds it took."""
    began = time.perf_counter()
    memory = Memory(folder)
    store = Datastore(memory.records, "benchmark", documents[0].keys.shape[1], quantizer)
    for number, document in enumerate(documents):
        with memory.transaction():
            memory.store(f"document {number}", str(number))
            record = memory.record(f"document {number}")
            assert record is not None
            if not number:
                store.choose(preset)
            store.append([Entries(record.id, document.keys, document.tokens, document.spans)])
    store.view()
    return memory, store, time.perf_counter() - began


def presets(text: Text, work: Path) -> tuple[list[Row], list[Row]]:
    """The table of the presets and their peers; and that of following."""
    dim = text.keys.shape[1]
    say("exact search of float32 keys")
    flat = faiss.IndexFlatL2(dim)
    flat.add(text.keys)
    _, true = flat.search(text.queries, K)
    rows = [measured("FAISS flat, float32", lambda q, k: flat.search(q, k)[::-1], text, true) | {"bytes": 4 * dim}]
    del flat
    for name, bytes_each in (
        ("IVF2048,Flat", 4 * dim + 8),
        ("IVF1024,PQ32", 40),
        ("IVF1024,PQ64x4fs,RFlat", 4 * dim + 40),
    ):
        say(f"building: FAISS {name}")
        began = time.perf_counter()
        index = faiss.index_factory(dim, name)
        index.train(text.keys[:: max(1, len(text.keys) // 2 // SAMPLE)])
        index.add(text.keys)
        seconds = time.perf_counter() - began
        faiss.extract_index_ivf(index).nprobe = 32
        if name.endswith("RFlat"):
            index.k_factor = 4
        row = measured(f"FAISS {name}, nprobe 32", lambda q, k: index.search(q, k)[::-1], text, true)  # noqa: B023
        rows.append(row | {"bytes": bytes_each, "built": len(text.keys) / seconds})
        del index
    began = time.perf_counter()
    quantizer = Quantizer.train(text.keys[:SAMPLE])
    trained, follow = time.perf_counter() - began, list[Row]()
    for preset in ("accurate", "compact"):
        say(f"building: {preset}")
        memory, store, seconds = built(work / preset, text.documents, quantizer, preset)
        view = store.view()
        row = measured(f"extmem {preset}", view.search, text, true)
        on_disk = sum(path.stat().st_size for path in (work / preset / "datastores").rglob("*.safetensors"))
        row |= {"bytes": on_disk / len(view), "built": len(view) / (trained + seconds)}
        began = time.perf_counter()
        memory.forget("document 3")
        store.search(text.queries[:1], RECALL_AT)
        row["forget"] = time.perf_counter() - began
        rows.append(row)
        if preset == "accurate":
            follow = followed(text, view)
        memory.close()
    exact = rows[0]["perplexity"]
    for row in rows:
        row["worse"] = 100 * (row["perplexity"] / exact - 1)
    return rows, follow


def followed(text: Text, view: Any) -> list[Row]:
    """Searches saved and perplexity, by how many entries must be there to be followed."""
    rows = []
    for least in (0, 256, 64, 16, 4, 1):
        say(f"following: at least {least}")
        began = time.perf_counter()
        if least:
            entries, distances, searched = read_along(view, text.queries, text.truth.numpy(), K, least)
        else:
            (entries, distances), searched = view.search(text.queries, K), len(text.queries)
        seconds = time.perf_counter() - began
        saved = 100 * (1 - searched / len(text.queries))
        rows.append({"": least or "searched always", "saved": saved, "perplexity": text.perplexity(entries, distances),
                     "seconds": seconds})  # fmt: skip
    return rows


def synthetic(count: int, seed: int) -> np.ndarray:
    """Clustered vectors of 128 dimensions: 4,096 centres, around each a cloud of 32 dimensions."""
    shape = np.random.default_rng(0)
    centres = shape.normal(size=(4096, 128)).astype(np.float32)
    cloud = shape.normal(size=(32, 128)).astype(np.float32) * 0.15
    random = np.random.default_rng(seed)
    noise = random.standard_normal((count, 32), dtype=np.float32)
    return centres[random.integers(0, 4096, count)] + noise @ cloud


def streamed(memory: Memory, store: Datastore, start: int, stop: int, each: int = 65_536) -> Iterator[int]:
    """Adds synthetic entries, a record of `each` in a transaction."""
    for at in range(start, stop, each):
        count = min(each, stop - at)
        spans = np.stack([np.arange(count) * 5, np.arange(count) * 5 + 4], axis=1)
        with memory.transaction():
            memory.store(f"document {at // each}", str(at))
            record = memory.record(f"document {at // each}")
            assert record is not None
            tokens = np.random.default_rng(at).integers(0, 10_000, count)
            store.append([Entries(record.id, synthetic(count, at + 1), tokens, spans)])
        yield at + count


def opened(folder: Path) -> tuple[Memory, Datastore]:
    """The synthetic datastore in a folder, with the quantiser that is kept beside it."""
    with np.load(folder / "quantizer.npz") as kept:
        quantizer = Quantizer(kept["axes"], kept["cells"], kept["codebook"], int(kept["probes"]))
    memory = Memory(folder / "memory")
    return memory, Datastore(memory.records, "benchmark", 128, quantizer)


def begun(folder: Path) -> tuple[Memory, Datastore]:
    """A new synthetic datastore."""
    quantizer = Quantizer.train(synthetic(SAMPLE, 1))
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "quantizer.npz", axes=quantizer.axes, cells=quantizer.cells, codebook=quantizer.codebook,
             probes=quantizer.probes)  # fmt: skip
    return opened(folder)


def growth(work: Path, most: int) -> list[Row]:
    """The cost of a query at growing sizes, in one datastore that grows."""
    rows, queries = [], synthetic(2048, 2)
    memory, store = begun(work / "growth")
    start = 0
    for size in [size for size in (100_000, 300_000, 1_000_000, 3_000_000, 10_000_000) if size <= most]:
        for done in streamed(memory, store, -(-start // 65_536) * 65_536, size):
            start = done
            say(f"growth: {done:,}")
        view = store.view()
        for at in range(0, len(queries), 256):
            view.search(queries[at : at + 256], RECALL_AT)
        began = time.perf_counter()
        for at in range(0, len(queries), 256):
            view.search(queries[at : at + 256], RECALL_AT)
        batched = len(queries) / (time.perf_counter() - began)
        rows.append(
            {"entries": len(view), "recall": view.recall(32), "batched": batched} | one_by_one(view.search, queries)
        )
    memory.close()
    if len(rows) > 1:
        times = math.log(rows[-1]["entries"] / rows[0]["entries"])
        rows.append({
            "entries": "grows as N to the power of",
            "batched": math.log(rows[0]["batched"] / rows[-1]["batched"]) / times,
            "p50": math.log(rows[-1]["p50"] / rows[0]["p50"]) / times,
        })  # fmt: skip
    return rows


def large(folder: Path, count: int, within: int | None) -> list[Row]:
    """Each step in a process of its own; where the kernel holds them to so much memory, the queries once more within
    a quarter of the datastore's size."""
    rows, steps = [], ["build", "open", "mixed", "append", "forget"]
    if within:
        steps.insert(3, "mixed, within a quarter")
    for step in steps:
        quarter = sum(file.stat().st_size for file in folder.rglob("*.safetensors")) // 4
        room = quarter if step.endswith("quarter") else within
        say(f"large: {step}")
        command = [sys.executable, __file__, str(folder), "--step", step.partition(",")[0], "--large", str(count)]
        if within is not None:  # pages that are there already would be counted to nobody
            for file in folder.rglob("*.safetensors"):
                with file.open("rb") as content:
                    os.posix_fadvise(content.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        with held(room) as join:
            done = subprocess.run(command, check=True, capture_output=True, text=True, preexec_fn=join)
        rows.append(json.loads(done.stdout) | {"": step})
    return rows


@contextmanager
def held(within: int | None) -> Iterator[Callable[[], None]]:
    """What a new process is to call so that the kernel holds it to so many bytes, and ends it where that cannot be."""
    if within is None:
        yield lambda: None
        return
    first = Path("/sys/fs/cgroup/memory")
    group = (first if first.is_dir() else first.parent) / f"extmem-{os.getpid()}"
    group.mkdir()
    (group / ("memory.limit_in_bytes" if first.is_dir() else "memory.max")).write_text(str(within))

    def join() -> None:
        (group / "cgroup.procs").write_text(str(os.getpid()))

    try:
        yield join
    finally:
        group.rmdir()


def step(folder: Path, name: str, count: int) -> Row:
    """One step of `large`."""
    watch = Watch()
    memory, store = begun(folder) if name == "build" else opened(folder)
    queries, began, what = synthetic(4096, 3), time.perf_counter(), ""
    if name == "build":
        for done in streamed(memory, store, 0, count):
            say(f"  {done:,}")
        seconds = time.perf_counter() - began
        what = f"{count / seconds:,.0f} entries/s, {store.view().bytes / 1e9:.2f} GB"
    elif name == "open":
        view = store.view()
        view.search(queries[:1], RECALL_AT)
        seconds = time.perf_counter() - began
        what = f"{len(view):,} entries, one query answered"
    elif name == "mixed":
        view = store.view()
        for at in range(0, len(queries), 256):
            view.search(queries[at : at + 256], RECALL_AT)
            for row in range(at, at + 64):
                view.search(queries[row : row + 1], RECALL_AT)
        seconds = time.perf_counter() - began
        what = f"{len(queries):,} queries in batches of 256, a quarter of them one by one as well"
    elif name == "append":
        *_, last = streamed(memory, store, count, count + 65_536 * 2)
        store.search(queries[:1], RECALL_AT)
        seconds = (time.perf_counter() - began) / 2
        what = f"65,536 entries more and seen, now {last:,}"
    else:
        for number in (0, 40, 99):
            memory.forget(f"document {number}")
            store.search(queries[:1], RECALL_AT)
        seconds = (time.perf_counter() - began) / 3
        what = f"a record of 65,536 entries gone and seen, now {len(store):,}"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {
        "": name,
        "seconds": seconds,
        "what": what,
        "own memory, GiB": watch.peak / 2**30,
        "with mapped pages": peak,
    }


class Watch(threading.Thread):
    """Looks at the memory that this process holds of its own, not as pages of files, and keeps the most."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self.start()

    def run(self) -> None:
        """Until the process ends."""
        while True:
            lines = Path("/proc/self/status").read_text().splitlines()
            self.peak = max(self.peak, *(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon")))
            time.sleep(0.02)


def table(title: str, rows: list[Row]) -> None:
    """Rows as Markdown."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    print(f"\n{title}\n\n| {' | '.join(names)} |\n|{'---|' * len(names)}")
    for row in rows:
        cells = [row.get(name, "") for name in names]
        shown = [f"{cell:,.0f}" if isinstance(cell, float) and abs(cell) >= 1000 else
                 f"{cell:.4g}" if isinstance(cell, float) else
                 f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in cells]  # fmt: skip
        print(f"| {' | '.join(shown)} |")


def drawn(rows: list[Row]) -> str:
    """Milliseconds of a single query over entries, both logarithmic, beside N^0.5."""
    points = [(math.log10(row["entries"]), math.log10(row["p50"])) for row in rows if isinstance(row["entries"], int)]
    left, low = points[0]
    top = max(low + 0.5 * (points[-1][0] - left), *(y for _, y in points))

    def place(x: float, y: float) -> str:
        return f"{60 + 480 * (x - left) / (points[-1][0] - left):.1f},{260 - 220 * (y - low) / (top - low):.1f}"

    def line(path: list[tuple[float, float]], style: str) -> str:
        return f'<polyline fill="none" {style} points="{" ".join(place(*point) for point in path)}"/>'

    root = [(left, low), (points[-1][0], low + 0.5 * (points[-1][0] - left))]
    marks = "".join(
        f'<text x="{place(x, y).split(",")[0]}" y="285" text-anchor="middle">{10**x:,.0f}</text>'
        f'<text x="{place(x, y).split(",")[0]}" y="{float(place(x, y).split(",")[1]) - 8}" text-anchor="middle">'
        f"{10**y:.2f} ms</text>"
        for x, y in points
    )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 600 320" font-family="sans-serif" font-size="12">'
        '<rect width="600" height="320" fill="white"/>'
        f"{line(root, DASHED)}{line(points, SOLID)}"
        f'{marks}<text x="300" y="308" text-anchor="middle">entries; a query, median; dashed: N^0.5</text></svg>\n'
    )


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, help="a folder with train.txt and valid.txt")
    parser.add_argument("--model", type=Path, help="a trained model; without it a short one is trained")
    parser.add_argument("--asked", type=int, default=8192, help="tokens of valid.txt that are asked")
    parser.add_argument("--only", choices=("presets", "growth", "large"), action="append")
    parser.add_argument("--growth", type=int, default=10_000_000, help="the most entries of growth")
    parser.add_argument("--large", type=int, default=10_000_000, help="entries of large")
    parser.add_argument("--within", type=int, help="bytes of memory that the kernel holds each step of large to")
    parser.add_argument("--svg", type=Path, help="where growth is drawn")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.step:
        print(json.dumps(step(given.corpus, given.step, given.large)))
        return
    parts, found = given.only or ["presets", "growth", "large"], dict[str, list[Row]]()
    with tempfile.TemporaryDirectory() as work:
        if "presets" in parts:
            model = LanguageModel.load(given.model) if given.model else LanguageModel.train(given.corpus, epochs=1)
            found["presets"], found["follow"] = presets(Text(model, given.corpus, given.asked), Path(work))
        if "growth" in parts:
            found["growth"] = growth(Path(work), given.growth)
            if given.svg:
                given.svg.write_text(drawn(found["growth"]), encoding="utf-8")
        if "large" in parts:
            found["large"] = large(Path(work) / "large", given.large, given.within)
    if given.json:
        print(json.dumps(found))
        return
    for title, rows in found.items():
        table(title, rows)


if __name__ == "__main__":
    main()
