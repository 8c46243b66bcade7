"""What a memory is worth to each task: its figure with the memory and without, in one run.

    python benchmarks/tasks.py ../shared/data --task answer
    python benchmarks/tasks.py ../shared/data --task facts classify domain --json
    python benchmarks/tasks.py ../shared/data --task translate write --model models

DATA is a folder with the data sets of ../shared/data/SOURCES.md. A figure of a part that the constants were found on
is named "developed", of the others "held". Nothing is trained on what is measured: where that is not apart already,
by cross-validation.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

TASKS = ("answer", "facts", "classify", "domain", "translate", "chat", "write")
TRAINED = ("translate", "write")  # with a model of their own


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder of the data sets")
    parser.add_argument("--task", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument(
        "--model", type=Path, help="translate, write: the folder of their models; trained where they are missing"
    )
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    results: dict[str, dict[str, dict[str, float | None]]] = {}
    for task in given.task:
        began = time.perf_counter()
        also = {"model": given.model} if task in TRAINED else {}
        results[task] = importlib.import_module(f"task_{task}").rows(
            given.data, lambda said: print(said, file=sys.stderr), **also
        )
        print(f"{task}: {time.perf_counter() - began:.0f} s", file=sys.stderr)
    if given.json:
        print(json.dumps(results))
        return
    for task, rows in results.items():
        names = list(dict.fromkeys(name for row in rows.values() for name in row))
        table = Table(title=task, title_justify="left")
        for name in ("", *names):
            table.add_column(name, justify="right" if name else "left")
        for label, row in rows.items():
            table.add_row(label, *("" if row.get(name) is None else f"{row[name]:.3f}" for name in names))
        Console(width=200 if not sys.stdout.isatty() else None).print(table)


if __name__ == "__main__":
    main()
