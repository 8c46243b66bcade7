"""What was typed, as values: text, moments, spans of time, JSON objects, names.

Knows: how each is written. Does not know: memories, commands.
"""

from __future__ import annotations

import json
import re
import sys
from datetime import datetime

from extmem.errors import InvalidInput

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def text(typed: str) -> str:
    """The text itself; for '-' standard input as it comes, without the last line break."""
    if typed != "-":
        return typed
    if sys.stdin is None:
        raise InvalidInput("standard input is closed: give the value as an argument.", typed)
    try:
        return re.sub(r"\r?\n\Z", "", sys.stdin.buffer.read().decode())
    except UnicodeDecodeError as error:
        raise InvalidInput(f"standard input is not UTF-8 text (at byte {error.start:,}): convert it.", typed) from error


def moment(typed: str) -> datetime | None:
    """A date, with or without a time; None where nothing was typed."""
    try:
        return datetime.fromisoformat(re.sub(r"[zZ]\Z", "+00:00", typed)) if typed else None
    except ValueError as error:
        raise InvalidInput(f"{typed!r} is not a date: give one as 2026-01-31 or 2026-01-31T12:00Z.", typed) from error


def span(typed: str) -> float | None:
    """Seconds: 90, 90s, 10m, 2h, 7d; None where nothing was typed."""
    number, unit = (typed[:-1], typed[-1]) if typed[-1:] in SECONDS else (typed, "s")
    try:
        return float(number) * SECONDS[unit] if typed else None
    except ValueError as error:
        raise InvalidInput(f"{typed!r} is not a time: give seconds, or as 90s, 10m, 2h or 7d.", typed) from error


def json_object(option: str, typed: str) -> dict[str, object] | None:
    """The object that an option's JSON stands for; None where nothing was typed."""
    try:
        found = json.loads(typed) if typed else None
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f'{option} {typed!r} is not JSON: give an object such as {{"a": 1}}.', typed) from error
    if found is not None and not isinstance(found, dict):
        raise InvalidInput(f'{option} {typed!r} is not a JSON object: give one such as {{"a": 1}}.', typed)
    return found


def namespace(typed: str) -> str:
    """The path of a namespace, of which no part is empty: an unset $USER_ID must not mean the root."""
    if not all(typed.split("/")):
        raise InvalidInput(f"{typed!r} is not a namespace: give a name, or names as team/alice.", typed)
    return typed
