"""serve, grant, grants, revoke. Knows: Memory, serve. Does not know: routes.

FastAPI is loaded inside the commands, so that `extmem --help` starts at once.
"""

from __future__ import annotations

import errno
import ipaddress
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from extmem.cli import given, output
from extmem.cli.records import JsonOption, opened
from extmem.errors import InvalidInput
from extmem.memory import Memory
from extmem.opening import is_server

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.types import ASGIApp

    from extmem.lm.evaluate import Evaluation
    from extmem.lm.model import LanguageModel
    from extmem.serve.app import Limits

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
    as_json: JsonOption = False,
) -> None:
    """Serve a memory over HTTP. Keys are made by `extmem grant`; without one nothing is answered. Prints its address,
    logs on stderr, and ends on SIGTERM or Ctrl-C when it has finished what it began."""
    from extmem.serve.app import Limits

    def said(address: str, page: str) -> None:
        if as_json:
            output.as_json({"address": address, "page": page})
        else:
            output.raw(address)
            output.raw(f"{page}  (the page: opens once, within ten minutes)")

    with opened(memory) as handle, listening(handle, host, port) as listener:
        serve_until_stopped(
            handle, memory, listener, said, _loaded(model, handle), audit, Limits(body, seconds, requests, rate)
        )


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


def listening(memory: Memory, host: str, port: int) -> socket.socket:
    """A socket at that address. Raises InvalidInput."""
    from extmem.serve import keys

    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise InvalidInput(f"there is no address {host}: give one of this machine's.", host) from error
    if not ipaddress.ip_address(str(address[0])).is_loopback and not keys.grants(memory):
        raise InvalidInput(f"{host} is seen from outside and the memory has no key: extmem grant makes one.", host)
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        cause = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be had ({error.strerror})"
        raise InvalidInput(f"{host} port {port} {cause}: give another --port.", port) from error
    return listener


def serve_until_stopped(
    memory: Memory,
    place: str,
    listener: socket.socket,
    said: Callable[[str, str], None],
    model: LanguageModel | None = None,
    audit: str | None = None,
    limits: Limits | None = None,
    measured: Sequence[Evaluation] = (),
) -> None:
    """Answers for the memory at `place` until SIGTERM or Ctrl-C. `said` is told its address and the page's one-time
    link; `measured` are results that the page begins with."""
    from extmem.serve.app import Limits, build, limited, with_model
    from extmem.serve.journal import Journal

    limits = limits or Limits()
    beside = None if is_server(place) else Path(place).resolve().with_name(f"{Path(place).resolve().name}.audit.jsonl")
    path = Path(audit) if audit else beside
    app = build(memory, Journal.at(path) if path else Journal(None), limits, direct=not is_server(place))
    if model is not None:
        with_model(app, model, measured)
    host, port = listener.getsockname()[:2]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    said(address, f"{address}/#link={app.state.access.sessions.link()}")
    sys.stdout.flush()
    _run(limited(app, limits, Journal(2)), listener)


def _loaded(model: str | None, memory: Memory) -> LanguageModel | None:
    """The model of a folder. Raises WrongModel where only other models wrote a datastore."""
    if model is None:
        return None
    from extmem.lm.model import LanguageModel

    loaded = LanguageModel.load(model)
    loaded.datastore(memory)
    return loaded


def _run(app: ASGIApp, listener: socket.socket) -> None:
    import uvicorn

    for ending in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises them again when it has ended
        signal.signal(ending, lambda *_: None)
    config = uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False, date_header=False, lifespan="off"
    )
    uvicorn.Server(config).run(sockets=[listener])


COMMANDS = (serve, grant, grants, revoke)
