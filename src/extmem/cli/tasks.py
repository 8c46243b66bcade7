"""answer, classify, domain, write. Knows: the tasks. Does not know: how they work."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from extmem.cli import given, output
from extmem.cli.records import DEFAULT, JsonOption, MemoryOption, NamespaceOption, WhereOption, line, opened
from extmem.errors import InvalidInput

WriterOption = Annotated[
    str,
    typer.Option(help="What writes the answer: a folder of extmem train, a Hugging Face model, http://host/v1#model."),
]


def answer(
    question: Annotated[str, typer.Argument(help="The question; '-' reads it from standard input.")],
    memory: MemoryOption = DEFAULT,
    namespace: NamespaceOption = None,
    where: WhereOption = "",
    passages: Annotated[int, typer.Option(min=1, help="So many of the passages found are read.")] = 3,
    writer: WriterOption = "",
    max_tokens: Annotated[int, typer.Option(min=1, help="Of what a writer writes.")] = 200,
    as_json: JsonOption = False,
) -> None:
    """Answer QUESTION from the memory. The sentence that answers it, or with --writer what a language model makes of
    the passages found; then the records it is from. Exit status 1, and "not in memory", where none answers it."""
    from extmem.tasks.answer import answer as answered
    from extmem.writers.base import writer_named

    wanted = given.json_object("--where", where)
    with output.warned(), opened(memory, namespace) as handle:
        found = answered(
            handle, given.text(question), where=wanted, passages=passages, max_tokens=max_tokens,
            writer=writer_named(writer) if writer else None,
        )  # fmt: skip
    if as_json:
        about: dict[str, Any] = {"answer": found.text, "citations": list(map(asdict, found.citations))}
        output.as_json(about | {"confidence": found.confidence, "dropped": found.dropped, "left_out": found.left_out})
    else:
        output.raw(str(found))
        for one in found.citations:
            output.raw(f"  {one.key} [{one.start}:{one.end}]")
        if found.dropped:
            output.note(f"{output.counted(found.dropped, 'citation')} of what it was not given taken out")
        if found.left_out:
            output.note(f"{output.counted(found.left_out, 'passage')} left out: the writer has no room for more")
    if found.text is None:
        raise typer.Exit(1)


def classify(
    text: Annotated[str | None, typer.Argument(help="The text; '-' reads it from standard input.")] = None,
    memory: MemoryOption = DEFAULT,
    namespace: NamespaceOption = None,
    examples: Annotated[str, typer.Option(help="A csv, tsv or jsonl file with text and label, to remember.")] = "",
    train: Annotated[bool, typer.Option("--train", help="Train on all that is remembered.")] = False,
    model: Annotated[str | None, typer.Option(help="As of extmem embed; '' is none: by n-grams alone.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Classify TEXT by the memory's labelled records. They are those stored with --examples, or with metadata
    {"label": …}. Prints labels and their probabilities, then the nearest examples. What is remembered counts at once;
    many examples tell more once trained on."""
    from extmem.tasks.classify import Classifier
    from extmem.text.labelled import read_labelled

    if text is None and not examples and not train:
        raise InvalidInput("nothing to do: give a TEXT, --examples FILE or --train.")
    done: dict[str, Any] = {}
    labelled = read_labelled(examples) if examples else []
    with (
        output.warned(),
        opened(memory, namespace, create=bool(examples)) as handle,
        output.Bar("classifying", as_json) as bar,
    ):
        classifier = Classifier(handle, model)
        if examples:
            done["remembered"] = classifier.remember(labelled)
        if train:
            done["trained"] = classifier.train(lambda part, at, total: bar.update(at, total, part))
        found = None if text is None else classifier.classify(given.text(text))
        near = [] if found is None else [(one, line(handle.retrieve(one.key))) for one in found.citations]
    if found is not None:
        done |= {"label": found.label, "probabilities": found.probabilities}
        done["citations"] = list(map(asdict, found.citations))
    if as_json:
        output.as_json(done)
        return
    if examples:
        output.raw(f"{memory}: {output.counted(done['remembered'], 'example')} remembered")
    if train:
        counts = ", ".join(f"{label} {count:,}" for label, count in done["trained"].items())
        output.raw(f"{memory}: trained on {counts}")
    if found is not None:
        for label, probability in list(found.probabilities.items())[:5]:
            output.raw(f"{probability:6.1%}  {label}")
        for one, shown in near[:3]:
            output.raw(f"  {one.weight:4.0%}  {one.key}  {shown}")


def domain(
    path: Annotated[
        str | None, typer.Argument(help="A folder or file: txt, md, rst, html, pdf, csv, tsv, jsonl.")
    ] = None,
    memory: MemoryOption = DEFAULT,
    namespace: NamespaceOption = None,
    prune: Annotated[bool, typer.Option("--prune", help="Forget files that are gone from the folder.")] = False,
    words: Annotated[bool, typer.Option("--words", help="Do not embed: found by words alone.")] = False,
    glossary: Annotated[bool, typer.Option("--glossary", help="List the terms that are explained.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a knowledge base of PATH. Every passage is stored with its file, page and line, and embedded; run again, it
    reads what changed. Then ask it with extmem answer or search. Without PATH it lists the files that are there."""
    from extmem.tasks.domain import Domain, named

    if path is None:
        with opened(memory, namespace) as handle:
            _show_domain(Domain(handle), glossary, as_json)
        return
    named(Path(path))  # before a memory is made
    with opened(memory, namespace, create=True) as handle:
        base = Domain(handle)
        with output.Bar("reading", as_json) as bar:
            added = base.read(path, prune, lambda done, total, name: bar.update(done, total, name))
        embedded = 0
        if not words:
            with output.Bar("embedding", as_json) as bar:
                embedded = _embedded(handle, bar)
        if as_json:
            terms = {"terms": _terms(base)} if glossary else {}
            output.as_json({**asdict(added), "embedded": embedded, **terms})
            return
        for said in added.refused:
            output.note(said)
        if added.missing:
            output.note(f"no longer there, but remembered (--prune forgets them): {', '.join(added.missing)}")
        output.raw(
            f"{memory}: {output.counted(added.files, 'file')}, {output.counted(added.passages, 'passage')}, "
            f"{added.new:,} new, {added.forgotten:,} forgotten"
        )
        if glossary:
            _show_domain(base, True, False)


def write(
    theme: Annotated[str, typer.Argument(help="What it is about, as a headline; '-' reads standard input.")],
    writer: Annotated[str, typer.Option(help="As of extmem answer: what writes.")],
    memory: MemoryOption = DEFAULT,
    namespace: NamespaceOption = None,
    where: WhereOption = "",
    documents: Annotated[int, typer.Option(min=1, help="So many of the records found guide the text.")] = 8,
    max_tokens: Annotated[int, typer.Option(min=1, help="Of what is written.")] = 100,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest word; of our own models.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of a temperature above 0.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Write a text on THEME from what the memory holds on it. Our own models (a folder of extmem train) copy names and
    facts of the records found, each word from its place; others are given them as numbered sources. Then the places
    that the text is from. Exit status 1, and "not in memory", where nothing is found."""
    from extmem.tasks.write import write as written
    from extmem.tasks.write import writes

    wanted, text = given.json_object("--where", where), given.text(theme)
    sampling: dict[str, Any] = {"temperature": temperature, "seed": seed} if temperature else {}
    with output.warned(), opened(memory, namespace) as handle:
        found = written(
            handle, text, writes(writer), documents=documents, where=wanted, max_tokens=max_tokens, **sampling,
        )  # fmt: skip
    if as_json:
        output.as_json({"text": found.text, "citations": list(map(asdict, found.citations)), "found": found.found})
    else:
        output.raw(str(found))
        for one in found.citations[:5]:
            output.raw(f"  {one.weight:5.1%}  {one.key} [{one.start}:{one.end}]")
    if found.text is None:
        raise typer.Exit(1)


def _embedded(handle: Any, bar: output.Bar) -> int:
    """Embeds what is new, with the model that is kept or the default one, where that is installed."""
    try:
        count: int = handle.embed(None, lambda done, total: bar.update(done, total, f"{done:,} of {total:,}"))
        return count
    except ImportError as error:
        output.note(f"found by words alone: {error}")
        return 0


def _show_domain(base: Any, glossary: bool, as_json: bool) -> None:
    if glossary:
        if as_json:
            output.as_json({"terms": _terms(base)})
        for term in base.glossary() if not as_json else ():
            output.raw(f"{term.term}  {line(term.meaning)}  ({term.key})")
        return
    files = base.documents()
    if as_json:
        output.as_json({"files": files})
    for name, count in files.items() if not as_json else ():
        output.raw(f"{count:6,}  {name}")


def _terms(base: Any) -> list[dict[str, str]]:
    return [term._asdict() for term in base.glossary()]


COMMANDS = (answer, classify, domain, write)
