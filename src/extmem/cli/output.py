"""How things are shown: the only place that prints.

Knows: rich, plain values. Does not know: memories, models.
Figures and text go to stdout, progress and errors to stderr; `--json` prints one object instead.
A terminal is never sent control characters that came from a memory: they are shown escaped.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from typing_extensions import Self

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False)


CONTROLS = [*range(9), *range(11, 32), *range(127, 160)]  # C0, DEL and C1, but \t and \n
ESCAPED = {code: f"\\x{code:02x}" for code in CONTROLS}
JSON_ESCAPED = {code: f"\\u{code:04x}" for code in CONTROLS}  # those that json leaves as they are


def failure(message: str, kind: str, machine: bool = False) -> None:
    """One line on stderr; for a machine one JSON object on stdout."""
    message = " ".join(message.split())
    if machine:
        as_json({"error": message, "kind": kind})
    else:
        err.print(f"[red]error:[/red] {escape(message.translate(ESCAPED))}", soft_wrap=True)


def note(message: str) -> None:
    """A line for people, on stderr."""
    err.print(f"[dim]{escape(message.translate(ESCAPED))}[/dim]", soft_wrap=True)


@contextmanager
def warned() -> Iterator[None]:
    """Notes, at its end, what was warned of within."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        yield
    for warning in said:
        note(str(warning.message))


def say(message: str = "") -> None:
    """A line of the answer; rich markup is drawn."""
    out.print(message.translate(ESCAPED) if out.is_terminal else message)


def raw(text: str) -> None:
    """Exactly this text and a line end: rich would turn :smile: into a picture and tabs into spaces."""
    sys.stdout.write(f"{text.translate(ESCAPED) if sys.stdout.isatty() else text}\n")


def piece(text: str) -> None:
    """A piece of a line that is being written, at once."""
    sys.stdout.write(text.translate(ESCAPED) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def as_json(value: Any) -> None:
    """One JSON object on stdout; bytes become {"bytes": hex}."""
    text = json.dumps(value, ensure_ascii=False, default=lambda b: {"bytes": b.hex()})
    sys.stdout.write(f"{text.translate(JSON_ESCAPED)}\n")


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table; the first column is text, the others are figures. Without names of columns it has no head."""
    grid = Table(title=_cell(title), title_justify="left", title_style="bold", show_header=any(columns))
    for index, column in enumerate(columns):
        grid.add_column(column, justify="right" if index else "left")
    for row in rows:
        grid.add_row(*map(_cell, row))
    out.print(grid)


def counted(number: int, thing: str) -> str:
    """As "1 record", "2,001 records"."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def nowhere() -> None:
    """Has what is still to be written go nowhere: stdout cannot take it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _cell(text: str) -> str:
    return escape(text.translate(ESCAPED))


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
