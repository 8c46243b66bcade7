"""Values as bytes, and back exactly as they went in.

Knows: text, bytes, numbers, JSON. Does not know: where they are kept.
"""

from __future__ import annotations

import json
from typing import TypeAlias

from extmem.errors import InvalidInput

Value: TypeAlias = "str | bytes | int | float | bool | list[object] | dict[str, object]"


def encode(value: object) -> tuple[str, bytes]:
    """(kind, bytes) of a value. Raises InvalidInput for what would not come back as it went in."""
    if isinstance(value, str):
        return "text", _utf8(value)
    if isinstance(value, bytes):
        return "bytes", value
    if value is None:
        raise InvalidInput("None means 'not there': use forget(key) to erase a record.")
    try:
        _check(value)
        return "json", _utf8(json.dumps(value, ensure_ascii=False))
    except InvalidInput:
        raise
    except (RecursionError, ValueError) as error:  # nested too deep, or an int of thousands of digits
        raise InvalidInput(f"this value cannot be written as JSON ({error}): store it as text or bytes.") from error


def decode(kind: str, content: bytes) -> Value:
    """The value that `encode` made these of."""
    if kind == "bytes":
        return content
    text = content.decode("utf-8")
    return text if kind == "text" else json.loads(text)


def check_key(key: object) -> str:
    """The key itself. Raises InvalidInput where it is not text, or no valid text."""
    if not isinstance(key, str):
        raise InvalidInput(f"key {key!r} is not text: give a str.", key)
    _utf8(key)
    return key


def _utf8(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidInput(
            f"character {error.start} is half a surrogate pair, which is no text: store it as bytes.", text
        ) from error


def _check(value: object) -> None:
    """Lets through what JSON gives back unchanged, types included."""
    if value is None or type(value) in (str, int, float, bool):
        return
    if type(value) is list:
        for item in value:
            _check(item)
    elif type(value) is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise InvalidInput(f"{key!r} as a key inside a value: make it text.", key)
            _check(item)
    else:
        raise InvalidInput(
            f"a value of type {type(value).__name__} would not come back as it went in: "
            "give text, bytes, a number, or lists and dicts of them.",
            value,
        )
