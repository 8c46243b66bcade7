"""The command line: one file a group of commands. Knows: the public API. Does not know: how it works.

Here, and only here, errors become one line and an exit status: 0 done, 1 the honest 'no', 2 bad
usage or bad input.
"""

from __future__ import annotations

import os
import sys

import typer
from typer.exceptions import TyperException

from extmem.cli import demo, exchange, memory, model, output, records
from extmem.errors import ExtmemError, storage_error

INTERRUPTED = 130  # what typer returns after Ctrl-C

app = typer.Typer(
    name="extmem",
    help="An external memory for language models: models read and write it, people read, edit and erase it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for group in (records, memory, exchange, model, demo):
    for command in group.COMMANDS:
        app.command(command.__name__.rstrip("_").replace("_", "-"))(command)


def main() -> None:
    """The entry point of `extmem`."""
    sys.exit(_status())


def _status() -> int:
    try:
        result = app(standalone_mode=False)
        if result == INTERRUPTED:
            raise KeyboardInterrupt
        return result if isinstance(result, int) else 0
    except ExtmemError as error:
        return output.failure(str(error))
    except TyperException as error:
        return output.failure(f"{error.format_message()} (see: extmem --help)")
    except (KeyboardInterrupt, typer.Abort):
        return output.failure("stopped; what was saved before is intact. Run the same command again to go on.")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except ImportError as error:
        cure = "" if "pip install" in str(error) else ". Install what it needs: pip install 'extmem[lm]'"
        return output.failure(f"{error}{cure}")
    except OSError as error:
        return output.failure(str(storage_error(error, error.filename or "disk")))
