"""Values as text or bytes, and back exactly as they went in.

Knows: text, bytes, numbers, JSON. Does not know: where they are kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Final, TypeAlias

from extmem.errors import InvalidInput

Value: TypeAlias = "str | bytes | int | float | bool | list[object] | dict[str, object]"

TEXT, BYTES, JSON, NOTHING = 0, 1, 2, 3  # NOTHING: the key is known, no value of it is valid now
DEPTH: Final = 100  # lists in lists: what json reads back from anywhere in a program


def encode(value: object) -> tuple[int, str | bytes]:
    """(kind, content) of a value. Raises InvalidInput for what would not come back as it went in."""
    of = type(value)
    if of is str:
        return TEXT, valid_text(value)  # type: ignore[arg-type]
    if of is bytes:
        return BYTES, value  # type: ignore[return-value]
    if value is None:
        raise InvalidInput("None means 'not there': use forget(key) to erase a record.")
    return JSON, encode_json(value)


def decode(kind: int, content: str | bytes) -> Value:
    """The value that `encode` made these of; `content` may be the text or its UTF-8 bytes."""
    if kind == BYTES:
        return content
    text = content.decode("utf-8") if isinstance(content, bytes) else content
    return json.loads(text) if kind == JSON else text


def encode_json(value: object) -> str:
    """JSON that gives `value` back unchanged, types included. Raises InvalidInput where none does."""
    _check(value, DEPTH)
    try:
        return valid_text(json.dumps(value, ensure_ascii=False))
    except InvalidInput as error:
        raise InvalidInput(str(error), value) from error
    except ValueError as error:  # an int of thousands of digits
        raise InvalidInput(f"this value cannot be written as JSON ({error}): store it as text.", value) from error


def check_key(key: object) -> str:
    """The key as plain text. Raises InvalidInput where it is not text, or no valid text."""
    if not isinstance(key, str):
        raise InvalidInput(f"key {key!r} is not text: give a str.", key)
    return valid_text(str.__str__(key))


def check_keys(keys: Iterable[str]) -> list[str]:
    """The keys as a list; one key alone is one of them. Raises InvalidInput."""
    if not isinstance(keys, Iterable):
        raise InvalidInput(f"keys {keys!r}: give a list of them.", keys)
    return [check_key(keys)] if isinstance(keys, str) else [check_key(key) for key in keys]


def valid_text(text: str) -> str:
    """The text itself. Raises InvalidInput for half a surrogate pair."""
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InvalidInput(
                f"character {error.start} is half a surrogate pair, which is not text: store it as bytes.", text
            ) from error
    return text


def _check(value: object, depth: int) -> None:
    """Lets through what JSON gives back unchanged, types included."""
    if value is None or type(value) in (str, int, float, bool):
        return
    if depth == 0:
        raise InvalidInput(f"a value nested more than {DEPTH} deep: store it as text or bytes.", value)
    if type(value) is list:
        for item in value:
            _check(item, depth - 1)
    elif type(value) is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise InvalidInput(f"{key!r} as a key inside a value: make it text.", key)
            _check(item, depth - 1)
    else:
        raise InvalidInput(
            f"a value of type {type(value).__name__} would not come back as it went in: "
            "give text, bytes, a number, or lists and dicts of them.",
            value,
        )
