"""serve, grant, grants, revoke. Knows: Memory, serve. Does not know: routes.

FastAPI is loaded inside the commands, so that `extmem --help` starts at once.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from extmem.cli import given, output
from extmem.cli.records import JsonOption, opened
from extmem.errors import InvalidInput
from extmem.opening import is_server

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from extmem.lm.evaluate import Evaluation
    from extmem.serve.app import Limits
    from extmem.serve.sessions import Sessions

MemoryArgument = Annotated[str, typer.Argument(help="A folder, or postgresql://…")]


def serve(
    memory: MemoryArgument,
    model: Annotated[str | None, typer.Option(help="A model's folder: it writes and measures.")] = None,
    host: Annotated[str, typer.Option(help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    audit: Annotated[str | None, typer.Option(help="Where to note who did what; else MEMORY.audit.jsonl.")] = None,
    body: Annotated[int, typer.Option(min=1, help="Bytes of a body at most; an import is a stream.")] = 16 << 20,
    seconds: Annotated[float, typer.Option(min=0.1, help="Until an answer must begin.")] = 30.0,
    requests: Annotated[int, typer.Option(min=1, help="In progress at once; beyond it 503.")] = 256,
    rate: Annotated[float, typer.Option(min=0, help="Requests a second and key, beyond it 429; 0: any.")] = 0.0,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes; limits are of each.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Serve a memory over HTTP. Keys are made by `extmem grant`; without one nothing is answered. Prints its address,
    logs on stderr, and ends on SIGTERM or Ctrl-C when it has finished what it began."""

    def said(address: str, page: str) -> None:
        if as_json:
            output.as_json({"address": address, "page": page})
        else:
            output.raw(address)
            output.raw(f"{page}  (the page: opens once, within ten minutes)")

    limits = {"body": body, "seconds": seconds, "requests": requests, "rate": rate}
    serve_until_stopped(memory, model, said, host, port, audit=audit, limits=limits, workers=workers)


def grant(
    memory: MemoryArgument,
    namespace: Annotated[list[str] | None, typer.Option(help="One it opens; may be repeated; else all.")] = None,
    may: Annotated[str, typer.Option(help="read, write or admin; each includes the ones before.")] = "read",
    as_json: JsonOption = False,
) -> None:
    """Make a key for the server, and print it once. It is kept hashed: nobody can be shown it again."""
    from extmem.serve import keys

    spaces = [given.namespace(path) for path in namespace or ()] or [""]
    with opened(memory, create=True) as handle:
        number, key = keys.grant(handle, spaces, may)
    if as_json:
        output.as_json({"id": number, "key": key, "namespaces": spaces, "may": may})
    else:
        output.raw(key)


def grants(memory: MemoryArgument, as_json: JsonOption = False) -> None:
    """Print the keys there are: id, right, namespaces."""
    from extmem.serve import keys

    with opened(memory) as handle:
        found = keys.grants(handle)
    if as_json:
        said = [{"id": one.id, "may": one.may, "namespaces": one.namespaces, "made": one.made} for one in found]
        output.as_json({"keys": said})
        return
    for one in found:
        output.raw(f"{one.id}  {one.may:5}  {', '.join(space or '(all)' for space in one.namespaces)}")


def revoke(
    memory: MemoryArgument,
    key: Annotated[str, typer.Argument(metavar="ID", help="The id, as `extmem grants` prints it.")],
    as_json: JsonOption = False,
) -> None:
    """Have a key open nothing from now on. Servers see it within a second; exit status 1 if there is none."""
    from extmem.serve import keys

    with opened(memory) as handle:
        there = keys.revoke(handle, key)
    if as_json:
        output.as_json({"id": key, "revoked": there})
    if not there:
        raise typer.Exit(1)


def serve_until_stopped(
    place: str,
    model: str | None,
    said: Callable[[str, str], None],
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    audit: str | None = None,
    limits: Mapping[str, Any] | None = None,
    workers: int = 1,
    measured: Sequence[Evaluation] = (),
) -> None:
    """Answers for the memory at `place` until SIGTERM or Ctrl-C. `said` is told its address and the page's one-time
    link; `measured` are results that the page begins with."""
    from extmem.serve import keys, running
    from extmem.serve.sessions import Sessions

    def made() -> AbstractContextManager[ASGIApp]:
        from extmem.serve.app import Limits  # not before the workers know where their figures go

        return _app(place, model, audit, sessions, Limits(**limits or {}), measured)

    def ready() -> None:
        address = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
        said(address, f"{address}/#link={sessions.link()}")
        sys.stdout.flush()

    with tempfile.TemporaryDirectory(prefix="extmem-") as shared, running.listening(host, port) as listener:
        sessions = Sessions(Path(shared))
        with opened(place) as handle:
            if not running.is_loopback(listener) and not keys.grants(handle):
                message = f"{host} is seen from outside and the memory has no key: extmem grant makes one."
                raise InvalidInput(message, host)
        running.run(made, listener, workers, Path(shared), ready)


@contextmanager
def _app(
    place: str, model: str | None, audit: str | None, sessions: Sessions, limits: Limits, measured: Sequence[Evaluation]
) -> Iterator[ASGIApp]:
    from extmem.serve.app import build, limited, with_model
    from extmem.serve.journal import Journal

    beside = None if is_server(place) else Path(place).resolve().with_name(f"{Path(place).resolve().name}.audit.jsonl")
    path = Path(audit) if audit else beside
    with opened(place) as memory:
        app = build(memory, Journal.at(path) if path else Journal(None), sessions, limits, direct=not is_server(place))
        if model is not None:
            from extmem.lm.model import LanguageModel

            loaded = LanguageModel.load(model)
            loaded.datastore(memory)  # raises where only other models wrote one
            with_model(app, loaded, measured)
        yield limited(app, limits, Journal(2))


COMMANDS = (serve, grant, grants, revoke)
