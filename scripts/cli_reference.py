"""Prints docs/cli.md: every command of `extmem`, from the commands themselves. A test compares.

.venv/bin/python scripts/cli_reference.py > docs/cli.md
"""

from __future__ import annotations

from typing import Any

from typer.main import get_command

from extmem.cli import app

HEAD = """# The commands

Every command takes `--json` and then prints one JSON object. Exit status 0: done; 1: not there, nothing
found, or verification failed; 2: bad usage or bad input, one line on stderr that says what is wrong and how
to mend it; with `--json` `{"error": …, "kind": …}` on stdout instead. A version that is not the expected one
(`store --expect`) is told in the same way, with status 1. `--memory` is the folder that EXTMEM_MEMORY names,
else `./extmem.mem`; only store, import, restore and memorize make one, evaluate and generate do without it
where the default is not there. `extmem --version` prints the version, `-h` and `--help` the help.
"""


def reference() -> str:
    """The page."""
    commands = get_command(app).commands
    return HEAD + "".join(section(name, command) for name, command in commands.items())


def section(name: str, command: Any) -> str:
    """One command: how it is typed, what it does, its options with their defaults."""
    words = [p.metavar or p.name.upper() for p in command.params if p.param_type_name == "argument"]
    rows = [row(p) for p in command.params if p.param_type_name == "option" and p.name not in ("as_json", "help")]
    table = "\n| option | default | |\n|---|---|---|\n" + "".join(rows) if rows else ""
    return f"\n## extmem {' '.join([name, *words])}\n\n{command.help}\n{table}"


def row(option: Any) -> str:
    """A line of the options' table."""
    default = "required" if option.required else "" if option.default in (None, "") else option.default
    names = ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
    return f"| {names} | {default} | {getattr(option, 'help', None) or ''} |\n"


if __name__ == "__main__":
    print(reference(), end="")
