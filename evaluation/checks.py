"""What the figures of merit take: the types of their arrays, and the ValueError for one that contradicts itself."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Flags: TypeAlias = NDArray[np.bool_]
Whole: TypeAlias = NDArray[np.signedinteger[Any]]
Rows: TypeAlias = NDArray[np.int64]
Gains: TypeAlias = NDArray[np.floating[Any]]
Values: TypeAlias = NDArray[np.float64]

_KINDS = {"b": "bool", "i": "signed whole numbers", "f": "floating-point numbers"}  # by numpy's dtype.kind


def check_form(name: str, table: NDArray[Any], axes: tuple[str, ...], kind: str) -> None:
    """ValueError where a table has not these axes, or is not of this kind: "b", "i" or "f" as numpy has them."""
    if table.ndim != len(axes) or table.dtype.kind != kind:
        form = f"({', '.join(axes)}) of {_KINDS[kind]}"
        raise ValueError(f"{name} are to be {form}, and are {table.shape} of {table.dtype}")


def check_k(k: int, ranking: NDArray[Any], name: str) -> None:
    """ValueError where k is not from 1 to the depth. ranking: (queries, depth)."""
    if k < 1:
        raise ValueError(f"k is at least 1, not {k}")
    if k > ranking.shape[1]:
        raise ValueError(f"k is {k} and {name} go to {ranking.shape[1]}: search deeper, or fill up with absent ones")


def check_lengths(queries: int, length: int, name: str) -> None:
    """ValueError where an array has not one row a query."""
    if length != queries:
        raise ValueError(f"there are {queries} queries, and {name} are of {length}")


def refuse(wrong: Flags, why: str, found: NDArray[Any] | None = None) -> None:
    """ValueError where any element of (queries,) or (queries, columns) is wrong, with the place of the first query."""
    places = np.argwhere(wrong)
    if len(places):
        place = int(places[0, 0])
        value = "" if found is None else f" ({found[place]})"
        raise ValueError(f"query {place} of {len(wrong)}{value}: {why}")


def row_counts(flags: Flags) -> NDArray[np.int64]:
    """(rows,) how many of each row are True."""
    counts: NDArray[np.int64] = np.count_nonzero(flags, axis=1)
    return counts
