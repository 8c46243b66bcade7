"""search, embed. Knows: Memory. Does not know: how anything is found."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

import typer

from extmem.cli import given, output
from extmem.cli.records import DEFAULT, JsonOption, MemoryOption, NamespaceOption, WhereOption, line, opened
from extmem.reading import Hit


def search(
    query: str,
    memory: MemoryOption = DEFAULT,
    k: Annotated[int, typer.Option(help="How many.")] = 10,
    where: WhereOption = "",
    namespace: NamespaceOption = None,
    words: Annotated[bool, typer.Option("--words", help="By words alone, though the memory is embedded.")] = False,
    around: Annotated[int, typer.Option(help="So many neighbours on each side, of its session or document.")] = 0,
    diversity: Annotated[float, typer.Option(help="How far hits are to differ from one another, 0 to 1.")] = 0.0,
    why: Annotated[bool, typer.Option("--why", help="What each part gave, and which words matched.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Find the records that answer QUERY, the best first. By words, and by meaning since `extmem embed`. Prints rank,
    score, key and text; exit status 1 if there is none."""
    wanted = given.json_object("--where", where)
    with output.warned(), opened(memory, namespace) as handle:
        hits = handle.search(query, k, wanted, by="words" if words else "all", around=around, diversity=diversity)
    if as_json:
        output.as_json({"hits": [_json(hit) for hit in hits]})
    else:
        scores = [_three_digits(hit.score) for hit in hits]
        width, indent = max(map(len, scores), default=0), len(str(k))
        for rank, (score, hit) in enumerate(zip(scores, hits, strict=True), 1):
            for key, value in hit.before:
                output.raw(f"{'':{indent}}  {'':{width}}  {key}  {line(value)}")
            output.raw(f"{rank:{indent}d}  {score:{width}}  {hit.key}  {line(hit.value)}")
            for key, value in hit.after:
                output.raw(f"{'':{indent}}  {'':{width}}  {key}  {line(value)}")
            if why:
                output.raw(f"{'':{indent}}  {'':{width}}  {_reasons(hit)}")
    if not hits:
        raise typer.Exit(1)


def embed(
    memory: MemoryOption = DEFAULT,
    model: Annotated[
        str, typer.Option(help="minilm, a folder or name of a sentence-transformers model, or http://host/v1#model.")
    ] = "",
    namespace: NamespaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have the memory searched by meaning as well. Embeds what is not embedded yet, with minilm or the model it was
    embedded with; another --model embeds everything anew. What is stored later is embedded by the next search.
    Interrupted, the same command goes on where it was."""
    with opened(memory, namespace) as handle, output.Bar("embedding", quiet=as_json) as bar:
        count = handle.embed(model or None, lambda done, total: bar.update(done, total, f"{done:,} of {total:,}"))
        kept = handle.derived.model()
    if as_json:
        output.as_json({"model": kept, "embedded": count})
    else:
        output.raw(f"embedded {output.counted(count, 'record')} with {kept}")


def _json(hit: Hit) -> dict[str, Any]:
    found: dict[str, Any] = {"key": hit.key, "value": hit.value, "score": hit.score, "source": hit.source}
    found |= {"parts": dict(hit.parts), "words": list(hit.words), "span": hit.span and list(hit.span)}
    beside = {"before": hit.before, "after": hit.after}
    return found | {side: [{"key": key, "value": value} for key, value in some] for side, some in beside.items()}


def _reasons(hit: Hit) -> str:
    parts = ", ".join(f"{name} {part:+.2f}" for name, part in hit.parts.items())
    return f"[{parts}]" + (f" {', '.join(hit.words)}" if hit.words else "")


def _three_digits(score: float) -> str:
    return f"{Decimal(f'{score:.2e}'):f}"  # never an exponent


COMMANDS = (search, embed)
