"""Memory instead of parameters: what each memory takes off the perplexity of a small LSTM, on text it has not seen.

    python benchmarks/penn_treebank.py ../shared/data/ptb                      trains for an hour on two cores
    python benchmarks/penn_treebank.py ../shared/data/ptb --test test.txt      and measures that text too
    python benchmarks/penn_treebank.py ../shared/data/ptb --model MODEL        takes a model that is trained

The model of the recipe `ptb-small` is trained on train.txt and memorizes it; the epoch is chosen on valid.txt. The
ladder on valid.txt is cross-fitted: gates that are fitted on one half of it are measured on the other. Those that the
test text is measured with are fitted on valid.txt; nothing sees the test text before it is measured. Memory holds the
training text, and of the text under test what was read before the word that is predicted. A table on stdout, or one
object with --json. --seeds 0 1 2 trains one model after the other and gives mean and range.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from extmem import LanguageModel, Memory
from extmem.cli.model import TrainingBar
from extmem.lm.evaluate import Evaluation

LADDER = {"model": "model", "cache": "cache", "datastore": "datastore", "all": "memory"}


def trained(folder: Path, out: Path, seed: int) -> tuple[LanguageModel, float]:
    """The recipe's model, and the minutes it took."""
    began = time.perf_counter()
    with TrainingBar(quiet=False) as bar:
        model = LanguageModel.train(folder, out, recipe="ptb-small", seed=seed, progress=bar.show)
    return model, (time.perf_counter() - began) / 60


def ladder(found: Evaluation) -> dict[str, float | None]:
    """Perplexity by row."""
    return {name: found.perplexity[row] for name, row in LADDER.items()}


def measure(model: LanguageModel, folder: Path, test: Path | None, minutes: float | None) -> dict[str, Any]:
    """Everything about one model."""
    with tempfile.TemporaryDirectory() as work, Memory(Path(work) / "memory") as memory:
        print("memorizing", file=sys.stderr)
        began = time.perf_counter()
        entries = model.memorize(memory, folder / "train.txt").entries
        memorizing = time.perf_counter() - began
        size = model.datastore(memory).view().bytes
        print(f"reading {folder / 'valid.txt'}", file=sys.stderr)
        valid = model.evaluate(folder / "valid.txt", memory)
        gate = sum(p.numel() for p in valid.mixtures[0].gates["memory"].parameters())
        found: dict[str, Any] = {
            "parameters": model.summary()["parameters"] + gate,
            "training_minutes": minutes,
            "memorizing_seconds": memorizing,
            "entries": entries,
            "datastore_bytes": size,
            "tokens_per_second": valid.tokens / (valid.seconds["memory"] or 1),
            "valid": ladder(valid),
            "valid_shares": valid.shares,
        }
        if test is not None:
            print(f"reading {test}", file=sys.stderr)
            found["test"] = ladder(model.evaluate(test, memory, fit_on=folder / "valid.txt"))
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="train.txt and valid.txt")
    parser.add_argument("--test", type=Path, help="a text that was kept apart")
    parser.add_argument("--model", type=Path, help="a model's folder; trained there if there is none")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    runs = []
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as work:
            place = Path(work) / "model" if options.model is None else options.model
            ready = (place / "model.json").exists()
            model, minutes = (LanguageModel.load(place), None) if ready else trained(options.folder, place, seed)
            runs.append({"seed": seed} | measure(model, options.folder, options.test, minutes))
    print(json.dumps(runs[0] if len(runs) == 1 else runs) if options.json else table(runs))


def table(runs: list[dict[str, Any]]) -> str:
    """The ladders for people."""
    first, lines = runs[0], []
    minutes = [run["training_minutes"] for run in runs if run["training_minutes"] is not None]
    lines.append(
        f"{first['parameters']:,} parameters" + (f", trained in {max(minutes):.0f} minutes" if minutes else "")
    )
    each = first["datastore_bytes"] / first["entries"]
    lines.append(
        f"{first['entries']:,} entries of {each:.0f} bytes, memorized in {first['memorizing_seconds']:.0f} s; "
        f"read at {first['tokens_per_second']:,.0f} tokens/s"
    )
    for text in ("valid", "test"):
        if text not in first:
            continue
        lines += ["", f"{text:22}{'perplexity':>12}{'change':>9}{'range':>18}"]
        for row in LADDER:
            values = [run[text][row] for run in runs]
            mean, alone = sum(values) / len(values), sum(run[text]["model"] for run in runs) / len(runs)
            name = "model alone" if row == "model" else f"+ {row}"
            span = f"{min(values):.2f}-{max(values):.2f}" if len(runs) > 1 else ""
            lines.append(f"{name:22}{mean:>12.2f}{100 * (mean / alone - 1):>+8.1f}%{span:>18}")
    lines += ["", "mean share of each source: " + ", ".join(f"{n} {s:.2f}" for n, s in first["valid_shares"].items())]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
