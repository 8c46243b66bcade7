"""train, memorize, evaluate, generate. Knows: LanguageModel, Memory. Does not know: how they work.

torch is loaded inside the commands, so that `extmem --help` and the records' commands start at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from extmem.cli import output
from extmem.cli.records import DEFAULT, JsonOption, MemoryOption, NamespaceOption, opened

if TYPE_CHECKING:
    from extmem.lm.evaluate import Evaluation
    from extmem.lm.generate import Generation
    from extmem.lm.train import Progress

DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
FollowOption = Annotated[
    int, typer.Option(min=0, help="Search only where fewer entries than this can be followed; 0: always.")
]
SeedOption = Annotated[int, typer.Option(help="The same seed gives the same result.")]


def train(
    context: typer.Context,
    corpus: Annotated[str, typer.Argument(help="A text file, or a folder; train.* and valid.* in it are used so.")],
    out: Annotated[str, typer.Option(help="The folder the model goes to.")],
    source: Annotated[str | None, typer.Option(help="For a translator: what CORPUS translates, line by line.")] = None,
    recipe: Annotated[str | None, typer.Option(help="Options found by measuring: ptb-small, translator.")] = None,
    tokenizer: Annotated[str, typer.Option(help="auto, words, whitespace, characters or bpe.")] = "auto",
    vocabulary: Annotated[int | None, typer.Option(min=3, help="Words; at most 10000 if not given.")] = None,
    embedding: Annotated[int, typer.Option(min=1, help="Width of a word's vector.")] = 128,
    units: Annotated[int, typer.Option(min=1, help="Width of the LSTM.")] = 128,
    layers: Annotated[int, typer.Option(min=1, help="LSTM layers.")] = 1,
    gates: Annotated[str, typer.Option(help="cell or input: what the output gate reads.")] = "cell",
    memory_layer: Annotated[bool, typer.Option(help="With ExternalMemoryLayer.")] = True,
    slots: Annotated[int, typer.Option(min=0, help="Learned pairs of the memory layer.")] = 32,
    capacity: Annotated[int, typer.Option(min=0, help="Steps the memory layer looks back.")] = 100,
    dropout: Annotated[float, typer.Option(help="From 0 to 1: of words, layers and outputs.")] = 0.25,
    word_dropout: Annotated[float, typer.Option(help="From 0 to 1: of whole words.")] = 0.0,
    recurrent_dropout: Annotated[float, typer.Option(help="From 0 to 1: of the LSTM's weights over time.")] = 0.0,
    encoder: Annotated[int, typer.Option(min=0, help="LSTM layers that read the source; 1 if there is one.")] = 0,
    epochs: Annotated[int, typer.Option(min=1, help="Times the corpus is read.")] = 14,
    batch: Annotated[int, typer.Option(min=1, help="Streams, or sentences, read side by side.")] = 20,
    sequence_length: Annotated[int, typer.Option(min=1, help="Steps back-propagated through.")] = 100,
    learning_rate: Annotated[float, typer.Option(help="The highest; it warms up, then falls as a cosine.")] = 3e-3,
    clip: Annotated[float, typer.Option(help="Largest norm of the gradient.")] = 1.0,
    patience: Annotated[int, typer.Option(min=1, help="Epochs without a better validation that end the training.")] = 4,
    frequent: Annotated[int, typer.Option(min=0, help="Words that every step's softmax sums over.")] = 1000,
    sampled: Annotated[int, typer.Option(min=0, help="How many of the others it sums over; 0: all.")] = 0,
    average: Annotated[int, typer.Option(min=0, help="Updates the weights are averaged over; 0: none.")] = 0,
    smoothing: Annotated[float, typer.Option(help="Share of each word's weight that all words get.")] = 0.0,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    log: Annotated[str | None, typer.Option(help="A folder for TensorBoard.")] = None,
    profile: Annotated[str | None, typer.Option(help="A folder for a PyTorch profiler trace.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Train a language model. Interrupted, the same command goes on where it was."""
    from extmem.lm.model import LanguageModel

    with TrainingBar(as_json) as bar:
        model = LanguageModel.train(corpus, out, progress=bar.show, **_typed(context))
    summary = model.summary()
    if as_json:
        output.as_json(summary)
    else:
        output.raw(
            f"{out}: {summary['parameters']:,} parameters, validation perplexity "
            f"{summary['validation_perplexity']:.1f}, model {summary['fingerprint']}"
        )


def _typed(context: typer.Context) -> dict[str, Any]:
    """The options that were typed: those that were not are the recipe's, or else LanguageModel's own."""
    others = {"corpus", "out", "as_json"}
    sources = {name: context.get_parameter_source(name) for name in context.params if name not in others}
    typed = [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
    return {name: context.params[name] for name in typed}


def memorize(
    model: Annotated[str, typer.Argument(help="A model's folder.")],
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Files or folders to remember.")],
    memory: MemoryOption = DEFAULT,
    preset: Annotated[str | None, typer.Option(help="accurate, or compact: a sixth of the bytes.")] = None,
    fit: Annotated[str | None, typer.Option(help="A held-out text to fit λ on.")] = None,
    namespace: NamespaceOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Remember documents, without training. A record each, and a datastore entry per token."""
    from extmem.lm.model import LanguageModel

    loaded = LanguageModel.load(model, device)
    with opened(memory, namespace, create=True) as store:
        with output.Bar("memorizing", as_json) as bar:
            added = loaded.memorize(
                store, files, lambda done, key: bar.update(done, None, f"{done:,} entries  {key}"), preset
            )
        if fit is not None:
            loaded.fit(store, fit)
    if as_json:
        output.as_json({"documents": added.documents, "entries": added.entries, "memory": memory})
    else:
        output.raw(f"{memory}: {added.documents:,} documents, {added.entries:,} entries added")


def evaluate(
    model: Annotated[str, typer.Argument(help="A model's folder.")],
    file: Annotated[str, typer.Argument(help="A text that neither model nor memory has seen.")],
    memory: MemoryOption = DEFAULT,
    namespace: NamespaceOption = None,
    fit: Annotated[str | None, typer.Option(help="A text to fit the gates on; if not given, the other half.")] = None,
    follow: FollowOption = 0,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Measure the perplexity of FILE. By the model alone, with cache, with datastore, with both."""
    from extmem.lm.model import LanguageModel

    with opened(memory, namespace, optional=True) as store:
        result = LanguageModel.load(model, device).evaluate(file, store, follow, fit)
    if as_json:
        output.as_json(result.to_json())
        return
    show_evaluation(f"{Path(file).name}: {result.tokens:,} tokens", result)
    if result.perplexity["datastore"] is None:
        output.note(f"nothing is memorized in {memory}: extmem memorize {model} FILE --memory {memory}")


def generate(
    model: Annotated[str, typer.Argument(help="A model's folder.")],
    prompt: Annotated[str, typer.Argument(help="The text to go on from.")],
    memory: MemoryOption = DEFAULT,
    namespace: NamespaceOption = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Words at most.")] = 60,
    min_tokens: Annotated[int, typer.Option(min=0, help="A text that ends before goes on to another paragraph.")] = 1,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest word.")] = 0.0,
    top_k: Annotated[int, typer.Option(min=0, help="Only the k likeliest words; 0 takes all.")] = 0,
    top_p: Annotated[float, typer.Option(help="Only the likeliest words that make up p.")] = 1.0,
    beams: Annotated[int, typer.Option(min=1, help="More than one: search for the likeliest text.")] = 1,
    repetition: Annotated[float, typer.Option(help="Divides the probability of recent words.")] = 1.2,
    follow: FollowOption = 0,
    seed: SeedOption = 0,
    allow_unknown: Annotated[bool, typer.Option(help="Accept words nobody knows in the prompt.")] = False,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Write on from PROMPT. Words that came from the memory are coloured, their sources listed."""
    from extmem.lm.model import LanguageModel

    with opened(memory, namespace, optional=True) as store:
        text = LanguageModel.load(model, device).generate(
            prompt, store, allow_unknown=allow_unknown, max_tokens=max_tokens, min_tokens=min_tokens,
            temperature=temperature, top_k=top_k, top_p=top_p, beams=beams, repetition=repetition, follow=follow,
            seed=seed,
        )  # fmt: skip
    if as_json:
        output.as_json({"prompt": prompt, "text": text.text, "tokens": [token.to_json() for token in text.tokens]})
        return
    show_generation(text)


class TrainingBar(output.Bar):
    """A bar for the epoch, and a line for each epoch done."""

    def __init__(self, quiet: bool) -> None:
        super().__init__("training", quiet)

    def show(self, at: Progress) -> None:
        """Takes what `train` reports."""
        if at.validation is not None:
            self.line(
                f"epoch {at.epoch}/{at.epochs}  validation perplexity {at.validation:.1f}  "
                f"{at.tokens_per_second:,.0f} tokens/s"
            )
        else:
            done = (at.epoch - 1) * at.total + at.done
            self.update(done, at.epochs * at.total, f"epoch {at.epoch}  {at.tokens_per_second:,.0f} tokens/s")


def show_evaluation(title: str, result: Evaluation) -> None:
    """The table of an evaluation."""
    names = {"model": "model alone", "cache": "+ cache", "datastore": "+ datastore", "memory": "+ both"}
    rows = [
        (
            name,
            f"{result.perplexity[row]:.1f}",
            f"{result.bits_per_character[row]:.3f}",
            f"{-(result.reduction_percent[row] or 0):+.1f} %" if row != "model" else "",
            f"{result.seconds[row]:.1f} s",
        )
        for row, name in names.items()
        if result.perplexity[row] is not None and (row != "memory" or result.perplexity["datastore"] is not None)
    ]
    output.table(title, ("", "perplexity", "bits/character", "change", "time"), rows)


def show_generation(text: Generation) -> None:
    """The text, coloured by what the memory gave of each word, then the places it cites."""
    from rich.markup import escape

    shown = [escape(text.prompt)]
    places: dict[str, float] = {}
    for token, piece in zip(text.tokens, text.pieces, strict=True):
        style = "bold green" if token.memory_share > 0.66 else "yellow" if token.memory_share > 0.33 else ""
        shown.append(f"[{style}]{escape(piece)}[/]" if style and piece else escape(piece))
        for citation in token.citations:
            places[citation.key] = places.get(citation.key, 0.0) + citation.weight
    output.say("".join(shown))
    for key, weight in sorted(places.items(), key=lambda place: -place[1])[:5]:
        output.say(f"  [dim]{weight / max(1, len(text.tokens)):6.1%}  {escape(key)}[/dim]")


COMMANDS = (train, memorize, evaluate, generate)
