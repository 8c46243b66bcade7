"""Memory instead of parameters: what each memory takes off the perplexity of a small LSTM, on text it has not seen.

    python benchmarks/penn_treebank.py ../shared/data/ptb                      trains for an hour on two cores
    python benchmarks/penn_treebank.py ../shared/data/ptb --test test.txt      and measures that text too
    python benchmarks/penn_treebank.py ../shared/data/ptb --model FOLDER       takes FOLDER/model, or trains it there
    python benchmarks/penn_treebank.py ../shared/data/ptb --layer FOLDER       and one with ExternalMemoryLayer

The model of the recipe `ptb-small` is trained on train.txt and memorizes it; the epoch is chosen on valid.txt. The
ladder on valid.txt is cross-fitted: gates that are fitted on one half of it are measured on the other. Those that the
test text is measured with are fitted on valid.txt; nothing sees the test text before it is measured. Memory holds the
training text, and of the text under test what was read before the word that is predicted. A table on stdout, or one
object with --json. --seeds 0 1 2 trains one model after the other and gives mean and range; --svg draws the ladder.

The recipe's model has no ExternalMemoryLayer. The row "layer" is of another model with it, with a narrower LSTM so that
both have as many parameters, and is measured where --layer names its folder; it is trained there if there is none,
which takes another hour.
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

LADDER = {"model": "model", "layer": "layer", "cache": "cache", "datastore": "datastore", "all": "memory"}
WITH_LAYER = {"memory_layer": True, "units": 284}
PUBLISHED = {"LSTM, 66 million parameters": 82.2}  # Zaremba et al. 2014, validation


def trained(folder: Path, out: Path, seed: int, **options: Any) -> tuple[LanguageModel, float | None]:
    """The recipe's model, and the minutes it took; None for one that is there already."""
    if (out / "model.json").exists():
        return LanguageModel.load(out), None
    began = time.perf_counter()
    with TrainingBar(quiet=False) as bar:
        model = LanguageModel.train(folder, out, recipe="ptb-small", seed=seed, progress=bar.show, **options)
    return model, (time.perf_counter() - began) / 60


def ladder(found: Evaluation, layer: LanguageModel | None, text: Path) -> dict[str, float | None]:
    """Perplexity by row."""
    alone = None if layer is None else layer.perplexity(text)
    return {name: alone if name == "layer" else found.perplexity[row] for name, row in LADDER.items()}


def measure(
    model: LanguageModel, layer: LanguageModel | None, folder: Path, test: Path | None, minutes: float | None
) -> dict[str, Any]:
    """Everything about one model, and the perplexity of one with the layer."""
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
            "valid": ladder(valid, layer, folder / "valid.txt"),
            "valid_shares": valid.shares,
            "valid_calibration": valid.calibration,
        }
        if test is not None:
            print(f"reading {test}", file=sys.stderr)
            found["test"] = ladder(model.evaluate(test, memory, fit_on=folder / "valid.txt"), layer, test)
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="train.txt and valid.txt")
    parser.add_argument("--test", type=Path, help="a text that was kept apart")
    parser.add_argument("--model", type=Path, help="FOLDER/model, or with several seeds FOLDER/seed-N/model")
    parser.add_argument("--layer", type=Path, help="the same, for models with ExternalMemoryLayer")
    parser.add_argument("--svg", type=Path, help="where the ladder is drawn")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    runs = []
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as work:
            several = f"seed-{seed}" if len(options.seeds) > 1 else ""
            model, minutes = trained(options.folder, (options.model or Path(work)) / several / "model", seed)
            layer = None
            if options.layer is not None:
                layer = trained(options.folder, options.layer / several / "model", seed, **WITH_LAYER)[0]
                if not layer.network.config.memory_layer:
                    raise SystemExit(f"the model in {options.layer} has no ExternalMemoryLayer: name another folder.")
            runs.append({"seed": seed} | measure(model, layer, options.folder, options.test, minutes))
    if options.svg:
        options.svg.write_text(drawn(runs[0]["valid"]), encoding="utf-8")
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
            values = [run[text][row] for run in runs if run[text][row] is not None]
            if not values:
                continue
            mean, alone = sum(values) / len(values), sum(run[text]["model"] for run in runs) / len(runs)
            name = "model alone" if row == "model" else f"+ {row}"
            span = f"{min(values):.2f}-{max(values):.2f}" if len(runs) > 1 else ""
            lines.append(f"{name:22}{mean:>12.2f}{100 * (mean / alone - 1):>+8.1f}%{span:>18}")
    off = first["valid_calibration"]
    shares = ", ".join(f"{name} {share:.2f} ({off[name]:.3f})" for name, share in first["valid_shares"].items())
    return "\n".join([*lines, "", f"mean share of each source, and how far off it is: {shares}"])


def drawn(ladder: dict[str, float | None]) -> str:
    """The ladder as SVG: a bar a row, from 0, and what was published."""
    bars = {**{name: value for name, value in ladder.items() if value is not None}, **PUBLISHED}
    rows = []
    for number, (name, value) in enumerate(bars.items()):
        y, colour = 14 + 34 * number, "#888" if name in PUBLISHED else "#0b62a4"
        label = name if name in PUBLISHED else "model alone" if name == "model" else f"+ {name}"
        rows.append(
            f'<text x="190" y="{y + 17}" text-anchor="end">{label}</text>'
            f'<rect x="200" y="{y}" width="{4 * value:.0f}" height="26" fill="{colour}"/>'
            f'<text x="{206 + 4 * value:.0f}" y="{y + 17}">{value:.1f}</text>'
        )
    height = 34 * len(bars) + 40
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="680" height="{height}" font-family="sans-serif">'
    foot = f'<text x="200" y="{height - 10}">perplexity of the validation text (less is better)</text></svg>\n'
    return "\n".join([head, f'<rect width="680" height="{height}" fill="white"/>', *rows, foot])


if __name__ == "__main__":
    main()
