"""Following: the entries behind those that were read last are read instead of searching (RetoMaton, Alon et al. 2022).

Knows: a view of a datastore. Does not know: models, mixtures.

An entry whose token did come is followed to the next entry of its record: a text that agrees with a stored one runs
along it. Where too few entries agree, it is searched again.
Shapes: T tokens of a text, K entries, D width of a state.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from extmem.indexes.view import View


def follow(
    view: View, entries_K: NDArray[np.int64], token: int, query_D: NDArray[np.float32], least: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]] | None:
    """The entries behind those of `entries_K` that were followed by `token`, the nearest to the query first, and
    their squared distances; None where there are fewer than `least`."""
    entries = entries_K[entries_K >= 0]
    entries = view.following(entries[view.tokens(entries) == token])
    if len(entries) < max(1, least):
        return None
    entries = np.sort(entries)
    distances = view.distances(query_D, entries)
    order = np.argsort(distances, kind="stable")
    return entries[order], distances[order]


def read_along(
    view: View, queries_TD: NDArray[np.float32], token_T: NDArray[np.int64], k: int, least: int
) -> tuple[NDArray[np.int64], NDArray[np.float32], int]:
    """Reads a text token by token: entries and squared distances, (T, K) each, -1 and inf where there are fewer; and
    for how many tokens it searched. `queries_TD[t]` predicts `token_T[t]`."""
    entries = np.full((len(queries_TD), k), -1, np.int64)
    distances = np.full((len(queries_TD), k), np.inf, np.float32)
    searched = 0
    for at, query in enumerate(queries_TD):
        found = follow(view, entries[at - 1], int(token_T[at - 1]), query, least) if at else None
        if found is None:
            searched += 1
            entries[at], distances[at] = (one[0] for one in view.search(query[None], k))
        else:
            entries[at, : len(found[0])], distances[at, : len(found[0])] = found
    return entries, distances, searched
