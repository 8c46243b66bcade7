"""Starting: from the names of a memory, a model and a writer to a server that answers.

Knows: how the parts of serve/ are put together. Does not know: who asked for it, where it is printed. What imports
prometheus_client is imported when the workers know where their figures go.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from extmem.errors import InvalidInput
from extmem.memory import Memory
from extmem.opening import is_server
from extmem.serve import keys, running
from extmem.serve.journal import Journal
from extmem.serve.limits import Limits
from extmem.serve.measuring import Results
from extmem.serve.sessions import Sessions

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from extmem.lm.evaluate import Evaluation


@dataclass(frozen=True)
class Plan:
    """What is served: the memory at `place`, which is there, with its `key` where it is encrypted; a model's folder; a
    writer's name; where it is noted who did what; a collector of traces; results that the page begins with."""

    place: str
    key: str | None = None
    model: str | None = None
    writer: str = ""
    audit: Path | None = None
    traces: str | None = None
    limits: Limits = field(default_factory=Limits)
    measured: Sequence[Evaluation] = ()

    def journal(self) -> Journal:
        """The audit, beside a memory that is a folder."""
        if self.audit is None and is_server(self.place):
            return Journal(None)
        folder = Path(self.place).resolve()
        return Journal.at(self.audit or folder.with_name(f"{folder.name}.audit.jsonl"))


def serve(
    plan: Plan, said: Callable[[str, str], None], host: str = "127.0.0.1", port: int = 0, workers: int = 1
) -> None:
    """Answers until SIGTERM or Ctrl-C. `said` is told the address and the page's one-time link. Raises InvalidInput for
    an address that cannot be had, or that others reach while the memory has no key; what opening raises."""
    with tempfile.TemporaryDirectory(prefix="extmem-") as shared, running.listening(host, port) as listener:
        sessions, results = Sessions(Path(shared)), Results(Path(shared))
        for one in plan.measured:
            results.keep("", one)
        with Memory(plan.place, key=plan.key) as memory:
            if not running.is_loopback(listener) and not keys.grants(memory):
                message = f"{host} is seen from outside and the memory has no key: extmem grant makes one."
                raise InvalidInput(message, host)

        def ready() -> None:
            address = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
            said(address, f"{address}/#link={sessions.link()}")

        running.run(partial(_app, plan, sessions), listener, workers, Path(shared), ready)


@contextmanager
def _app(plan: Plan, sessions: Sessions) -> Iterator[ASGIApp]:
    from extmem.serve.access import Access
    from extmem.serve.app import build, limited, with_model
    from extmem.serve.traces import provider
    from extmem.tasks.chat import TOLD
    from extmem.writers.base import writer_named

    with Memory(plan.place, key=plan.key) as memory:
        access = Access(memory, plan.journal(), sessions, plan.limits.rate, direct=not is_server(plan.place))
        tracer = None if plan.traces is None else provider(plan.traces)
        app = build(access, writer_named(plan.writer, TOLD) if plan.writer else None, tracer)
        if plan.model is not None:
            from extmem.lm.model import LanguageModel

            model = LanguageModel.load(plan.model)
            model.datastore(memory)  # raises where only other models wrote one
            with_model(app, model)
        try:
            yield limited(app, plan.limits, Journal(2))
        finally:
            if tracer is not None:
                tracer.shutdown()
