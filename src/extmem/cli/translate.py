"""translate. Knows: Translator. Does not know: how it works."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from extmem.cli import given, output
from extmem.cli.model import DeviceOption
from extmem.cli.records import DEFAULT, JsonOption, MemoryOption, NamespaceOption, opened
from extmem.errors import InvalidInput

if TYPE_CHECKING:
    from extmem.tasks.translate import Translation


def translate(
    model: Annotated[str, typer.Argument(help="A folder of extmem train TARGET --source SOURCE.")],
    text: Annotated[str | None, typer.Argument(help="The text; '-' reads it from standard input.")] = None,
    file: Annotated[str, typer.Option(help="A file to translate, line by line.")] = "",
    memory: MemoryOption = DEFAULT,
    namespace: NamespaceOption = None,
    source: Annotated[str, typer.Option(help="Sentences to remember, a line each; or pairs, in a .tsv file.")] = "",
    target: Annotated[str, typer.Option(help="Their translations, line by line.")] = "",
    fit: Annotated[bool, typer.Option("--fit", help="Fit on some of those pairs how far to trust the memory.")] = False,
    term: Annotated[
        list[str] | None, typer.Option(help="As 'phrase=translation': always used; may be given again.")
    ] = None,
    beams: Annotated[int, typer.Option(min=1, help="Hypotheses kept side by side.")] = 5,
    cite: Annotated[bool, typer.Option("--cite", help="Show the records that every token is from.")] = False,
    allow_unknown: Annotated[
        bool, typer.Option("--allow-unknown", help="Translate what is in no known words.")
    ] = False,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Translate TEXT, line by line, with what is remembered. Remembered are the pairs of --source and --target, with no
    training, and each --term. A line that is remembered is translated as it was."""
    from extmem.text.parallel import read_pairs

    if target and not source:
        raise InvalidInput("--target holds translations: give --source, what they are of.", target)
    if not (text or file or source or term):
        raise InvalidInput("nothing to do: give a TEXT, --file, --source with --target, or --term.")
    pairs, terms = read_pairs(source, target or None) if source else [], dict(map(_term, term or ()))
    asked = given.text(text) if text is not None else _read(file)
    from extmem.lm.model import LanguageModel  # what is refused above need not wait for torch
    from extmem.lm.translate import Decoding
    from extmem.tasks.translate import Translator

    loaded, storing, done = LanguageModel.load(model, device), bool(pairs or terms), dict[str, Any]()
    with opened(memory, namespace, create=storing, optional=not storing) as handle:
        translator = Translator(loaded, handle, Decoding(beams=beams))
        if pairs:
            with output.Bar("remembering", as_json) as bar:
                added = translator.remember(
                    pairs, fit=fit, progress=lambda entries, key: bar.update(entries, None, f"{entries:,} entries")
                )
            done |= {"pairs": added.documents, "entries": added.entries}
        for phrase, wanted in terms.items():
            translator.define(phrase, wanted)
        done |= {"terms": terms} if terms else {}
        found = None if asked is None else translator.translate(asked, allow_unknown)
    if as_json:
        output.as_json(done | (_shown(found) if found else {}))
        return
    if pairs:
        output.raw(f"{memory}: {output.counted(done['pairs'], 'pair')}, {done['entries']:,} entries added")
    for line in found.lines if found else ():
        output.raw(str(line))
        for token, piece in zip(line.tokens, line.pieces, strict=True) if cite else ():
            places = ", ".join(f"{one.weight:.0%} {one.key} [{one.start}:{one.end}]" for one in token.citations)
            output.raw(f"  {piece.strip()}  {token.probability:.0%}  {places}")


def _shown(found: Translation) -> dict[str, Any]:
    lines = [
        {"source": line.prompt, "translation": line.text, "tokens": [asdict(token) for token in line.tokens]}
        for line in found.lines
    ]
    return {"translation": str(found), "lines": lines, "used": list(found.terms)}


def _term(typed: str) -> tuple[str, str]:
    phrase, equals, wanted = typed.partition("=")
    if not equals or not phrase.strip() or not wanted.strip():
        raise InvalidInput(
            f"--term {typed!r} is no term: give a phrase and its translation, 'phrase=translation'.", typed
        )
    return phrase, wanted


def _read(file: str) -> str | None:
    from extmem.text.documents import file_text

    if not file:
        return None
    if not Path(file).is_file():
        raise InvalidInput(f"{file} is no file: check the path.", file)
    return file_text(Path(file)).removesuffix("\n")


COMMANDS = (translate,)
