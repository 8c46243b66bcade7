"""The command line: one file a group of commands. Knows: the public API. Does not know: how it works.

Here, and only here, errors become one line (one object under --json) and an exit status: 0 done, 1 the
honest 'no', 2 bad usage or bad input.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from typer.exceptions import TyperException

from extmem.cli import chat, demo, exchange, mcp, memory, model, output, records, search, serve, tasks, translate
from extmem.errors import ExtmemError, VersionConflict, storage_error

INTERRUPTED = 130  # what typer returns after Ctrl-C
EXTRAS = {  # other than lm
    "sklearn": "tasks",
    "scipy": "tasks",
    "pypdf": "documents",
    "transformers": "writers",
    "fastapi": "serve",
    "uvicorn": "serve",
    "argon2": "serve",
    "prometheus_client": "serve",
    "mcp": "mcp",
}
STOPPED = "stopped; what was saved before is intact. Run the same command again to go on."

app = typer.Typer(
    name="extmem",
    help="An external memory for language models: models read and write it, people read, edit and erase it.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in (records, search, tasks, chat, translate, memory, exchange, model, serve, mcp, demo):
    for command in group.COMMANDS:
        app.command(command.__name__.rstrip("_").replace("_", "-"))(command)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        output.raw(f"extmem {installed('extmem')}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        output.raw(context.get_help())
        raise typer.Exit(2)


def main() -> None:
    """The entry point of `extmem`."""
    try:
        status = _status()
        sys.stdout.flush()
    except BrokenPipeError:  # as in `extmem list | head -1`
        output.nowhere()
        status = 0
    except OSError as error:  # stdout cannot be written
        output.nowhere()
        status = _failed(error)
    sys.exit(status)


def _status() -> int:
    try:
        result = app(standalone_mode=False)
        if result == INTERRUPTED:
            raise KeyboardInterrupt
        return result if isinstance(result, int) else 0
    except SystemExit as stopped:  # typer's and rich's answer to a broken pipe
        if not isinstance(stopped.__context__, BrokenPipeError):
            raise
        output.nowhere()
        return 0
    except (ExtmemError, TyperException, KeyboardInterrupt, typer.Abort, ImportError, OSError) as error:
        return _failed(error)


def _failed(error: BaseException) -> int:
    """Says what went wrong, and how to mend it."""
    if isinstance(error, OSError) and not isinstance(error, ExtmemError):
        error = storage_error(error, error.filename or "disk")
    message = str(error)
    if isinstance(error, TyperException):
        context = getattr(error, "ctx", None)
        message = f"{error.format_message()} (see: {context.command_path if context else 'extmem'} --help)"
    elif isinstance(error, KeyboardInterrupt | typer.Abort):
        message = STOPPED
    elif isinstance(error, ImportError) and "pip install" not in message:
        extra = EXTRAS.get((error.name or "").partition(".")[0], "lm")
        message += f". Install what it needs: pip install 'extmem[{extra}]'"
    typed = sys.argv[1 : sys.argv.index("--")] if "--" in sys.argv else sys.argv[1:]
    output.failure(message, type(error).__name__, "--json" in typed)
    return 1 if isinstance(error, VersionConflict) else 2
