"""Writer: a question and numbered sources -> an answer that says which of them it is from.

Knows: what every writer gives, by what name each is asked for. Does not know: any model, where the sources are from.

    a folder of `extmem train`        our own language model, with the sources for its memory: no network
    a folder, or a name               a causal model of Hugging Face's transformers, here or on the Hub
    "http://host:port/v1#model"       a server that answers POST /v1/chat/completions as OpenAI's does
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from extmem.errors import InvalidInput

NOT_IN_MEMORY = "not in memory"
TOKENS = 200  # of an answer, at most
Heard = Callable[[str], None]  # is told an answer piece by piece


@dataclass(frozen=True)
class Written:
    """An answer. `cited` are the places, in the list of sources, of those that it is from, in the order in which it
    names them; `dropped` counts what it named and was not given, which is taken out of the text; `left_out` are the
    sources, from the end of the list, that the model had no room for (the first is cut where it alone is too long)."""

    text: str
    cited: tuple[int, ...]
    dropped: int = 0
    left_out: int = 0

    @property
    def known(self) -> bool:
        """Whether it says more than that it is not in memory."""
        return re.sub(r"\[.*?\]|[^\w\s]", "", self.text).strip().lower() not in ("", NOT_IN_MEMORY)


class Writer(ABC):
    """What writes answers. May be called from any thread."""

    name: str

    @abstractmethod
    def write(
        self, question: str, sources: Sequence[str], max_tokens: int = TOKENS, heard: Heard | None = None
    ) -> Written:
        """The answer to a question from these sources, the most fitting first. `heard` is told it as it comes, with
        the citations that are taken out later, or where the model gives it whole at the end. Raises ModelError where
        the model or its server fails, PromptTooLong where not even the question fits."""


def writer_named(spec: str, told: str | None = None) -> Writer:
    """The writer of this name (see the top of this file), ready; `told` is what a model that follows instructions is
    told instead of `prompted.TOLD`. Raises InvalidInput for a name that is none; ModelError for a model that cannot be
    used; ImportError."""
    if not isinstance(spec, str) or not spec.strip():
        raise InvalidInput(f"{spec!r} is not a writer: give a model's folder, its name or http://host/v1#model.", spec)
    if (Path(spec) / "model.json").is_file():
        from extmem.lm.model import LanguageModel
        from extmem.writers.remembering import Remembering

        return Remembering(LanguageModel.load(spec), spec)
    from extmem.writers.prompted import TOLD, Prompted

    if spec.startswith(("http://", "https://")):
        from extmem.writers.endpoint import EndpointCompleter

        return Prompted(EndpointCompleter(spec), told or TOLD)
    try:
        from extmem.writers.transformers import TransformersCompleter
    except ModuleNotFoundError as error:
        raise ImportError(f"a model of Hugging Face's needs {error.name}: pip install 'extmem[writers]'") from error
    return Prompted(TransformersCompleter(spec), told or TOLD)
