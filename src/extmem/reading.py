"""What every way of reading a memory returns: where it read, and how much each place counted.

Knows: plain values. Does not know: stores, indexes, models; `Nearest` is only the shape of a thing
that finds near vectors, so that a layer can read a datastore without knowing one.
Shapes: N queries, K neighbours, H width of a vector.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Span(NamedTuple):
    """A stretch of a record's text, in characters: text[start:end]."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Hit:
    """A record found by `Memory.search`, and why. A higher `score` is better; it is the sum of `parts`: what the
    words of the query gave, its meaning, the records beside this one, its speaker, time and form. `words` are
    those that matched, as they stand in the record; `span` is the passage nearest in meaning; `before` and
    `after` are (key, value) of its neighbours, where they were asked for.
    """

    key: str
    value: object
    score: float
    source: str
    parts: Mapping[str, float] = field(default_factory=dict)
    words: tuple[str, ...] = ()
    span: Span | None = None
    before: tuple[tuple[str, object], ...] = ()
    after: tuple[tuple[str, object], ...] = ()


@dataclass(frozen=True, slots=True)
class Citation:
    """Where a token came from: `weight` is the share of its probability that this place gave."""

    key: str
    start: int
    end: int
    weight: float


@dataclass(frozen=True, slots=True)
class Reading:
    """The K entries nearest to each of N queries: `entries` (N, K) are positions in the datastore that
    was read, -1 where there was none; `vectors` (N, K, H) float32 are their keys and `distances`
    (N, K) the squared L2 distances to the queries, from which the reader makes its weights.
    """

    entries: NDArray[np.int64]
    distances: NDArray[np.float32]
    vectors: NDArray[np.float32]


@runtime_checkable
class Nearest(Protocol):
    """Anything that finds the K stored vectors nearest to each of N queries (N, H) float32."""

    def nearest(self, queries: NDArray[np.float32], k: int) -> Reading:
        """The nearest first; fewer than K stored ones leave entries of -1 at the end."""
        ...
