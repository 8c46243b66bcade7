"""How things are shown: the only place that prints.

Knows: rich, plain values. Does not know: memories, models.
Figures and text go to stdout, progress and errors to stderr; `--json` prints one object instead.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from typing_extensions import Self

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False)


def failure(message: str) -> int:
    """One line on stderr; returns exit status 2."""
    err.print(f"[red]error:[/red] {escape(' '.join(message.split()))}", soft_wrap=True)
    return 2


def note(message: str) -> None:
    """A line for people, on stderr."""
    err.print(f"[dim]{escape(message)}[/dim]", soft_wrap=True)


def say(message: str = "") -> None:
    """A line of the answer; rich markup is drawn."""
    out.print(message)


def raw(text: str) -> None:
    """Exactly this text and a line end: rich would turn :smile: into a picture and tabs into spaces."""
    sys.stdout.write(f"{text}\n")


def as_json(value: Any) -> None:
    """One JSON object on stdout; bytes become {"bytes": hex}."""
    raw(json.dumps(value, ensure_ascii=False, default=lambda b: {"bytes": b.hex()}))


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table; the first column is text, the others are figures."""
    grid = Table(title=title, title_justify="left", title_style="bold")
    for index, column in enumerate(columns):
        grid.add_column(column, justify="right" if index else "left")
    for row in rows:
        grid.add_row(*row)
    out.print(grid)


class Bar:
    """A progress bar on stderr; does nothing where `quiet`. Use as a context manager."""

    def __init__(self, label: str, quiet: bool = False) -> None:
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(),
            console=err,
            disable=quiet or not err.is_terminal,
        )
        self.quiet = quiet
        self.task: TaskID = self.bar.add_task(label, total=None, text="")

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    def update(self, done: float, total: float | None, text: str) -> None:
        """Draws how far it is."""
        self.bar.update(self.task, completed=done, total=total, text=text)

    def line(self, text: str) -> None:
        """A line that stays, above the bar."""
        if not self.quiet:
            self.bar.console.print(f"  {escape(text)}", soft_wrap=True)
