"""`extmem demo`: the main path in order, on Python's own manual.

Knows: the public API, and tells its story; its server. Does not know: how any of it works.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from extmem.cli import output
from extmem.cli.demo_page import page
from extmem.cli.manual import Manual, read_manual
from extmem.cli.model import TrainingBar, show_evaluation, show_generation
from extmem.cli.records import JsonOption
from extmem.errors import InvalidInput
from extmem.memory import Memory

if TYPE_CHECKING:
    from extmem.lm.evaluate import Evaluation
    from extmem.lm.generate import Generation
    from extmem.lm.model import LanguageModel

PROMPT = "A function definition"
FACT = ("treasure", "The treasure of this demo lies under the tamarind tree.")
QUESTION = "The treasure of this demo lies under the"


class Told(NamedTuple):
    """What the story came to; `same` says whether a forgotten fact left nothing."""

    model: LanguageModel
    alone: Generation
    written: Generation
    answers: dict[str, Generation]
    same: bool
    measured: Evaluation


def demo(
    page_to: Annotated[str, typer.Option("--page", help="Where the page is written.")] = "demo.html",
    epochs: Annotated[int, typer.Option(min=1, help="Of training.")] = 3,
    docstrings: Annotated[int | None, typer.Option(min=100, help="How many are trained on; all by default.")] = None,
    serve: Annotated[bool, typer.Option("--serve", help="Then serve a page on its memory, until Ctrl-C.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the main path in order, on Python's own manual. Trains, memorizes, writes, cites, forgets and measures,
    in about two minutes. With --serve its memory and model live as long as the page."""
    if not Path(page_to).absolute().parent.is_dir():
        raise InvalidInput(f"there is no folder for {page_to}: make it, or give another --page.", page_to)
    began = time.perf_counter()
    manual = read_manual()
    manual = replace(manual, docstrings=manual.docstrings[:docstrings])
    with tempfile.TemporaryDirectory(prefix="extmem-demo-") as work, Memory(Path(work) / "manual.mem") as memory:
        told = _tell(Path(work), memory, manual, epochs, as_json)
        Path(page_to).write_text(_page(told, manual), encoding="utf-8")
        seconds = time.perf_counter() - began
        report = _report(told, seconds, page_to)
        if not as_json:
            output.say(f"\n   the page with every citation: {page_to}")
            output.say(f"   {seconds:.0f} s in all\n")
            show_evaluation("Perplexity of unseen topics of the manual", told.measured)
        elif not serve:
            output.as_json(report)
        if serve:
            _serve(Path(work), told, report, as_json)


def _tell(folder: Path, memory: Memory, manual: Manual, epochs: int, as_json: bool) -> Told:
    """The story, in five steps."""
    from extmem.lm.model import LanguageModel

    began = time.perf_counter()
    say = (lambda message="": None) if as_json else output.say
    _write_corpus(folder, manual)
    say(f"[bold]1  Train[/bold] on {len(manual.docstrings):,} docstrings of Python's library")
    with TrainingBar(as_json) as bar:
        model = LanguageModel.train(folder / "docstrings.jsonl", folder / "model", epochs=epochs, progress=bar.show)
    say(f"   {model.summary()['parameters']:,} parameters, {time.perf_counter() - began:.0f} s")

    say(f"\n[bold]2  Memorize[/bold] {len(manual.memorize)} topics of the manual: no training")
    started = time.perf_counter()
    added = model.memorize(memory, manual.memorize)
    model.fit(memory, folder / "fit.txt")
    say(f"   {added.entries:,} entries, {time.perf_counter() - started:.0f} s")

    say("\n[bold]3  Write[/bold] without the memory, and with it: green words came from there")
    alone, written = (
        model.generate(PROMPT, given, allow_unknown=True, max_tokens=30, min_tokens=10, beams=4, repetition=1.0)
        for given in (None, memory)
    )
    if not as_json:
        say("[dim]without:[/dim]")
        show_generation(alone)
        say("[dim]with:[/dim]")
        show_generation(written)

    say("\n[bold]4  Store a fact[/bold], see the answer change; [bold]forget[/bold] it, see it gone")
    answers = _store_and_forget(model, memory)
    for when, answer in answers.items():
        say(f"   {when:>9}: {QUESTION} [bold]{''.join(answer.pieces).strip()}[/bold]")
    same = answers["before"].tokens == answers["forgotten"].tokens
    say(f"   as if it had never been stored: {'yes, to the last bit' if same else 'NO'}")

    say("\n[bold]5  Measure[/bold] on topics that neither model nor memory has seen")
    return Told(model, alone, written, answers, same, model.evaluate(folder / "measured.txt", memory))


def _serve(folder: Path, told: Told, report: dict[str, Any], as_json: bool) -> None:
    from extmem.serve import starting

    def said(address: str, page: str) -> None:
        if as_json:
            output.as_json({**report, "address": address, "served": page})
        else:
            output.say(f"\n[bold]6  See for yourself[/bold]: a page on this memory, until Ctrl-C\n   {page}")
        sys.stdout.flush()

    plan = starting.Plan(str(folder / "manual.mem"), model=str(folder / "model"), measured=[told.measured])
    starting.serve(plan, said)


def _page(told: Told, manual: Manual) -> str:
    names = {"model": "model alone", "cache": "+ cache", "datastore": "+ datastore", "memory": "+ both"}
    chart = [(name, float(told.measured.perplexity[row] or 0)) for row, name in names.items()]
    about = (
        f"Trained on the docstrings of Python's library ({told.model.summary()['parameters']:,} parameters), "
        f"then given {len(manual.memorize)} topics of the manual as a memory, without training."
    )
    texts = [("Written without the memory", told.alone), ("Written with the memory", told.written)]
    texts += [(f"The fact, {when}", answer) for when, answer in told.answers.items()]
    return page(chart, texts, {**manual.memorize, FACT[0]: FACT[1]}, about)


def _write_corpus(folder: Path, manual: Manual) -> None:
    import json

    lines = (json.dumps({"text": text}) for text in manual.docstrings)
    (folder / "docstrings.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (folder / "fit.txt").write_text(manual.fit, encoding="utf-8")
    (folder / "measured.txt").write_text(manual.measured, encoding="utf-8")


def _store_and_forget(model: LanguageModel, memory: Memory) -> dict[str, Generation]:
    """The same question before the fact is stored, with it, and after it is forgotten."""

    def answer() -> Generation:
        return model.generate(QUESTION, memory, max_tokens=3, allow_unknown=True)

    answers = {"before": answer()}
    model.memorize(memory, dict([FACT]))
    answers["stored"] = answer()
    memory.forget(FACT[0])
    answers["forgotten"] = answer()
    return answers


def _report(told: Told, seconds: float, page_to: str) -> dict[str, Any]:
    measured = told.measured.to_json()
    return {
        "perplexity": measured["perplexity"],
        "bits_per_character": measured["bits_per_character"],
        "reduction_percent": measured["reduction_percent"],
        "seconds": round(seconds, 1),
        "generated_without_memory": told.alone.text,
        "generated": {"text": told.written.text, "tokens": [token.to_json() for token in told.written.tokens]},
        "fact": {when: answer.text for when, answer in told.answers.items()},
        "forgotten_equals_never_stored": told.same,
        "page": page_to,
    }


COMMANDS = (demo,)
