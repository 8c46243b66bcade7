"""Dates: the day that a question names, and how well the time of a record agrees with it.

Knows: English and Chinese ways to write a date. Does not know: records.
"""

from __future__ import annotations

import re
from datetime import date, datetime, timezone
from typing import NamedTuple

from extmem.errors import InvalidInput
from extmem.records.timeline import Moment, seconds

_MONTHS = "january february march april may june july august september october november december"
MONTHS = tuple(_MONTHS.split())
_MONTH = "|".join((*MONTHS, *(f"{name[:3]}\\.?" for name in MONTHS)))
_NAMED = re.compile(
    rf"\b(?:(\d{{1,2}})(?:st|nd|rd|th)?,? (?:of )?)?({_MONTH})\b(?:,? (\d{{1,2}})(?:st|nd|rd|th)?\b)?", re.I
)
_MAY = re.compile(r"\b(?:in|of|on|during|since|by|until|before|after|last|this) may\b|\bmay,? \d", re.I)
_YEAR = re.compile(r"\b(?:19|20)\d\d\b")
_ISO = re.compile(r"\b((?:19|20)\d\d)-(\d{1,2})(?:-(\d{1,2}))?\b")
_CHINESE = re.compile(r"(?:((?:19|20)\d\d)年)?(\d{1,2})月(?:(\d{1,2})[日号])?")


class Named(NamedTuple):
    """What a text says of a day; None where it does not."""

    year: int | None = None
    month: int | None = None
    day: int | None = None


def named(text: str) -> Named:
    """The date that a text names first, or parts of one."""
    for pattern in (_ISO, _CHINESE):
        if found := pattern.search(text):
            return Named(*(None if part is None else int(part) for part in found.groups()))
    year = _YEAR.search(text)
    for found in _NAMED.finditer(text):
        before, month, after = found.groups()
        if month.lower() != "may" or before or _MAY.search(text):
            number = next(n for n, name in enumerate(MONTHS, 1) if name.startswith(month.lower().rstrip(".")))
            day = before or after
            return Named(year and int(year[0]), number, int(day) if day else None)
    return Named(year and int(year[0]))


def agreement(wanted: Named, when: date) -> float:
    """How well a day agrees with a date, 0 to 1. What is told of a day is mostly told on it or soon after."""
    if wanted == Named() or wanted.year not in (None, when.year):
        return 0.0
    if wanted.month is None:
        return 0.3
    if wanted.day is None:
        return float(wanted.month == when.month)
    try:
        gap = (when - date(wanted.year or when.year, wanted.month, wanted.day)).days
    except ValueError:  # the 31st of February
        return 0.0
    return 1.0 if 0 <= gap <= 3 else 0.6 if -1 <= gap <= 14 else 0.2 if wanted.month == when.month else 0.0


def day_of(moment: object) -> date | None:
    """The day, in UTC, of a moment given as ISO 8601, a datetime or seconds since 1970; None for anything else."""
    try:
        if isinstance(moment, str):
            moment = datetime.fromisoformat(moment)
        if isinstance(moment, bool) or not isinstance(moment, int | float | datetime):
            return None
        at: Moment = moment
        return datetime.fromtimestamp(seconds(at), timezone.utc).date()
    except (ValueError, OverflowError, OSError, InvalidInput):
        return None
