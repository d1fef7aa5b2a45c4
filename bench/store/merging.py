"""Sorted tables that come in pieces, merged into one that does: no more of any is in memory than one or two pieces."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def merged(tables: Sequence[Iterator[pa.Table]], key: str) -> Iterator[pa.Table]:
    """The rows of all tables in order of the numbers in the column `key`, in which each table is; equal ones in theirs.

    What can be given is what no table has anything before: the keys below the least of those that were read last.
    """
    sources = [_Source(pieces, key) for pieces in tables]
    while True:
        going_on = [source for source in sources if not source.ended]
        bound = min((source.last for source in going_on), default=math.inf)
        taken = [source.below(bound) for source in sources if source.first < bound]
        if taken:
            rows = pa.concat_tables(taken).unify_dictionaries().combine_chunks()
            yield rows.take(np.argsort(rows[key].to_numpy(), kind="stable"))
        if not going_on:
            return
        for source in going_on:
            if source.last == bound:
                source.read()


class _Source:
    """A table of which some rows were read and not given yet."""

    def __init__(self, pieces: Iterator[pa.Table], key: str) -> None:
        """Nothing is read yet."""
        self.ended = False
        self._pieces, self._key = pieces, key
        self._held: list[pa.Table] = []
        self._keys: NDArray[np.float64] = np.empty(0)

    @property
    def first(self) -> float:
        """The key of the first row that was read and not given."""
        return float(self._keys[0]) if len(self._keys) else math.inf

    @property
    def last(self) -> float:
        """The key of the last row that was read and not given."""
        return float(self._keys[-1]) if len(self._keys) else -math.inf

    def read(self) -> None:
        """Read the next piece, or find that there is none."""
        piece = next(self._pieces, None)
        if piece is None:
            self.ended = True
            return
        self._held.append(piece)
        self._keys = np.concatenate([self._keys, piece[self._key].to_numpy()])

    def below(self, bound: float) -> pa.Table:
        """Give the rows whose keys are below `bound`, which are the first ones."""
        count, rows = int(np.searchsorted(self._keys, bound)), pa.concat_tables(self._held)
        self._held, self._keys = [rows.slice(count)], self._keys[count:]
        return rows.slice(0, count)
