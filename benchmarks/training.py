"""Training speed: extmem's model, the same sizes as a Keras listing, and as plain torch.nn.LSTM.

    make bench                                               Python's docstrings; installs TensorFlow
    .venv/bin/python benchmarks/training.py ../shared/data/ptb    Penn Treebank, or any corpus

Vocabulary 10,000, embedding 128, 128 units, sequences of 100, batches of 20, two threads, Adam at a
constant 3e-3 without dropout, state carried from segment to segment. Every contender is a process
of its own and stays; in each round each trains on the next tokens in turn while the others wait, so
that what else the machine does falls on all alike. After each round all have read the same
tokens, and each says its perplexity on the held-out text; so it is told, too, after how many seconds
of training (whole rounds) it was as good as the last contender at its end. Only extmem's first row
has the external memory layer; its third sums the softmax over 1,000 words and a sample of 500;
torch's and Keras's are what people write today. The table goes to stdout, or with --json one object.
Keras runs under the interpreter named by --keras (an environment with tensorflow-cpu and numpy);
without one its row is left out.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

VOCABULARY, WIDTH, STEPS, BATCH, THREADS = 10_000, 128, 100, 20, 2
RATE, CLIP = 3e-3, 1.0
HELD = 400 * STEPS  # held-out tokens that perplexity is measured on

Train = Callable[[np.ndarray, np.ndarray], None]  # (B, T) inputs and targets: one update
Measure = Callable[[np.ndarray], float]  # (N,) tokens: perplexity in one stream


def extmem(memory_layer: bool = True, sampled: int = 0) -> tuple[Train, Measure]:
    """This project's network, loss and optimizer, as `extmem train` joins them; `sampled` as its option."""
    import torch

    from extmem.lm.network import ModelConfig, Network, NetworkState
    from extmem.lm.train import perplexity
    from extmem.nn.cross_entropy import Sampled, chunked_cross_entropy

    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    network = Network(ModelConfig(memory_layer=memory_layer, dropout=0.0)).train()
    adam = torch.optim.AdamW(network.parameters(), lr=RATE, betas=(0.9, 0.99), weight_decay=0.0, fused=True)
    state, some = NetworkState(), Sampled(1000, sampled) if sampled else None

    def train(inputs: np.ndarray, targets: np.ndarray) -> None:
        nonlocal state
        hidden, state = network(torch.from_numpy(inputs), state.detach())
        target = torch.from_numpy(targets).flatten()
        embedding, bias = network.embedding.weight, network.bias
        loss = chunked_cross_entropy(hidden.flatten(0, 1), embedding, bias, target, sampled=some)
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP)
        adam.step()

    return train, lambda tokens: perplexity(network, torch.from_numpy(tokens))


def torch_lstm() -> tuple[Train, Measure]:
    """torch.nn: Embedding, LSTM, Linear, CrossEntropyLoss, Adam."""
    import torch
    from torch import nn

    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    embedding, lstm = nn.Embedding(VOCABULARY, WIDTH), nn.LSTM(WIDTH, WIDTH, batch_first=True)
    dense, criterion = nn.Linear(WIDTH, VOCABULARY), nn.CrossEntropyLoss()
    parameters = [*embedding.parameters(), *lstm.parameters(), *dense.parameters()]
    adam = torch.optim.Adam(parameters, lr=RATE)
    state = None

    def train(inputs: np.ndarray, targets: np.ndarray) -> None:
        nonlocal state
        hidden, (h, c) = lstm(embedding(torch.from_numpy(inputs)), state)
        state = (h.detach(), c.detach())
        loss = criterion(dense(hidden).flatten(0, 1), torch.from_numpy(targets).flatten())
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, CLIP)
        adam.step()

    @torch.no_grad()
    def measure(tokens: np.ndarray) -> float:
        read, total = None, 0.0
        for start in range(0, len(tokens) - 1, 1000):
            part = torch.from_numpy(tokens[start : start + 1001])
            hidden, read = lstm(embedding(part[None, :-1]), read)
            total += float(criterion(dense(hidden)[0], part[1:])) * (len(part) - 1)
        return float(np.exp(total / (len(tokens) - 1)))

    return train, measure


def keras() -> tuple[Train, Measure]:
    """The listing people write in Keras, on TensorFlow; stateful, so that it too carries its state."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    tf.config.threading.set_inter_op_parallelism_threads(THREADS)
    tf.keras.utils.set_random_seed(0)
    layers = tf.keras.layers
    words = tf.keras.Input(batch_shape=(BATCH, STEPS), dtype="int32")
    hidden = layers.LSTM(WIDTH, return_sequences=True, stateful=True)(layers.Embedding(VOCABULARY, WIDTH)(words))
    model = tf.keras.Model(words, layers.Dense(VOCABULARY)(hidden))
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=tf.keras.optimizers.Adam(RATE, global_clipnorm=CLIP), loss=loss)

    def train(inputs: np.ndarray, targets: np.ndarray) -> None:
        model.train_on_batch(inputs, targets)

    def measure(tokens: np.ndarray) -> float:
        model.layers[2].reset_states()
        model.reset_metrics()  # what test_on_batch returns is the mean since then
        inputs, targets = streams(tokens)
        for at in range(0, inputs.shape[1] - STEPS + 1, STEPS):
            mean = model.test_on_batch(inputs[:, at : at + STEPS], targets[:, at : at + STEPS])
        return float(np.exp(mean))

    return train, measure


CONTENDERS: dict[str, Callable[[], tuple[Train, Measure]]] = {
    "extmem": extmem,
    "extmem, no memory layer": lambda: extmem(memory_layer=False),
    "extmem, sampled softmax": lambda: extmem(memory_layer=False, sampled=500),
    "torch.nn.LSTM": torch_lstm,
    "Keras on TensorFlow": keras,
}


def streams(tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The text as BATCH streams side by side: inputs and targets, each (BATCH, tokens a stream)."""
    length = (len(tokens) - 1) // BATCH
    cut = tokens[: BATCH * length + 1]
    return cut[:-1].reshape(BATCH, length), cut[1:].reshape(BATCH, length)


def work(name: str, data: str) -> None:
    """A contender's process: for "train FROM TO" it says the seconds these segments took, for
    "measure" its perplexity."""
    given = np.load(data)
    inputs, targets = streams(given["train"])
    train, measure = CONTENDERS[name]()
    for line in sys.stdin:
        if line.startswith("measure"):
            answer = measure(given["held"])
        else:
            first, last = map(int, line.split()[1:])
            began = time.perf_counter()
            for at in range(first * STEPS, last * STEPS, STEPS):
                train(inputs[:, at : at + STEPS], targets[:, at : at + STEPS])
            answer = time.perf_counter() - began
        print(f"\n=> {answer}", flush=True)


class Contender:
    """One contender at work in its process."""

    def __init__(self, name: str, python: str, data: Path) -> None:
        self.process = subprocess.Popen(
            [python, __file__, "--work", name, str(data)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self.speeds: list[float] = []
        self.seconds: list[float] = []  # of training, in each round
        self.perplexities: list[float] = []
        self.name = name

    def seconds_to(self, goal: float) -> float | None:
        """After how many of training it was as good as that, None where it never was."""
        ends = zip(itertools.accumulate(self.seconds), self.perplexities, strict=True)
        return next((seconds for seconds, perplexity in ends if perplexity <= goal), None)

    def ask(self, question: str) -> float:
        """Its answer to a line."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(question + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("=> "):
                return float(line[3:])
        raise SystemExit(f"{self.name} stopped with status {self.process.wait()}: can its interpreter import it?")


def tokens_of(corpus: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Token numbers of the text to train on and of the text held out."""
    from extmem.cli.manual import read_manual
    from extmem.text.documents import split_corpus
    from extmem.text.normalise import normalise
    from extmem.text.tokenizer import choose
    from extmem.text.vocabulary import Vocabulary

    if corpus is None:
        manual = read_manual()
        train, held = manual.docstrings, [manual.measured]
    else:
        parts = split_corpus(corpus)
        train, held = ([normalise(d.text) for d in some] for some in parts)
    cutter = choose("auto", train, VOCABULARY)
    words = [word for text in train for word in cutter.encode(text).words]
    known = Vocabulary.build(words, VOCABULARY)
    kept = known.ids(word for text in held for word in cutter.encode(text).words)
    return np.asarray(known.ids(words), np.int64), np.asarray(kept[: HELD + 1], np.int64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", nargs="?", help="a text file or a folder; Python's docstrings if not given")
    parser.add_argument("--keras", metavar="PYTHON", help="an interpreter that has tensorflow-cpu")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    names = [name for name in CONTENDERS if options.keras or not name.startswith("Keras")]
    with tempfile.TemporaryDirectory() as work_folder:
        data = Path(work_folder) / "tokens.npz"
        train, held = tokens_of(options.corpus)
        np.savez(data, train=train, held=held)
        segments = streams(train)[0].shape[1] // STEPS
        contenders = [
            Contender(name, options.keras if name.startswith("Keras") else sys.executable, data) for name in names
        ]
        warm = 2  # segments that are read before the clock starts
        cuts = np.linspace(warm, segments, options.rounds + 1).astype(int).tolist()
        for contender in contenders:
            contender.ask(f"train 0 {warm}")
        for number, (first, last) in enumerate(itertools.pairwise(cuts)):
            for contender in contenders:
                seconds = contender.ask(f"train {first} {last}")
                contender.speeds.append((last - first) * STEPS * BATCH / seconds)
                contender.seconds.append(seconds)
                contender.perplexities.append(contender.ask("measure"))
                said = f"{contender.speeds[-1]:,.0f} tokens/s, perplexity {contender.perplexities[-1]:.1f}"
                print(f"round {number + 1}  {contender.name}  {said}", file=sys.stderr)
        goal = contenders[-1].perplexities[-1]
        rows = [
            {
                "model": contender.name,
                "tokens_per_second": statistics.median(contender.speeds),
                "least": min(contender.speeds),
                "most": max(contender.speeds),
                "perplexity": contender.perplexities[-1],
                "seconds_to_the_last": contender.seconds_to(goal),
            }
            for contender in contenders
        ]
        for contender in contenders:
            contender.process.kill()
    pairs = zip(contenders[0].speeds, contenders[1].speeds, strict=True)
    about = {
        "tokens": segments * STEPS * BATCH,
        "rounds": options.rounds,
        "rows": rows,
        "layer_costs": statistics.median(without / with_layer for with_layer, without in pairs),
    }
    print(json.dumps(about) if options.json else table(about))


def table(about: dict) -> str:
    """The rows for people."""
    lines = [f"{about['tokens']:,} tokens in {about['rounds']} rounds", ""]
    lines += [f"{'':26}{'tokens/s':>10}{'range':>18}{'perplexity':>12}{'as good as the last after':>28}"]
    for row in about["rows"]:
        span = f"{row['least']:,.0f}-{row['most']:,.0f}"
        reached = row["seconds_to_the_last"]
        after = "not reached" if reached is None else f"{reached:.0f} s"
        lines.append(
            f"{row['model']:26}{row['tokens_per_second']:>10,.0f}{span:>18}{row['perplexity']:>12.1f}{after:>28}"
        )
    lines += ["", f"the memory layer makes training {about['layer_costs']:.2f} times slower (median of the rounds)"]
    return "\n".join(lines)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        work(*sys.argv[2:4])
    else:
        main()
