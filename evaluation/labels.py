"""Labels of queries and of their neighbours compared: the hits and gains for `evaluation.metrics`, and the vote.

A ranking is one of `evaluation.metrics`. A neighbour that is absent has the index -1 and no label. What contradicts
itself is refused as it is there.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.checks import Flags, Values, Whole, check_form, check_k, check_lengths, refuse, row_counts

ABSENT = -1  # the index of a neighbour that is not there
_TALLIED = 2**18  # labels of queries whose votes are counted at once: some 10 MB


def label_overlap(query_labels: Flags, index_labels: Flags, *, neighbours: Whole) -> NDArray[np.float32]:
    """Labels that query and neighbour have in common / labels that either has: Jaccard's index, a gain for `ndcg`.

    What it takes is some arrays of the answer's size, whatever the number of labels.

    Args:
        query_labels: (queries, labels) bool, at least one label a query.
        index_labels: (images, labels) bool, of the index; an image without a label overlaps with none.
        neighbours: (queries, depth) whole numbers, rows of `index_labels`; -1 of an absent one, which overlaps by 0.

    Returns:
        (queries, depth) float32 from 0 to 1.

    Raises:
        ValueError: the input is not of this form.

    Source: Jaccard, The distribution of the flora in the alpine zone, New Phytologist 11, 1912.
    """
    common = _labels_in_common(query_labels, index_labels, neighbours)
    of_query, of_image = (row_counts(labels).astype(np.int32) for labels in (query_labels, index_labels))
    either = of_query[:, None] + _of_neighbours(of_image, neighbours) - common
    overlap: NDArray[np.float32] = np.divide(common, either, dtype=np.float32)
    return overlap


def share_label(query_labels: Flags, index_labels: Flags, *, neighbours: Whole) -> Flags:
    """Have query and neighbour any label in common: the hits of images that may have several labels.

    Args:
        query_labels: (queries, labels) bool, at least one label a query.
        index_labels: (images, labels) bool, of the index.
        neighbours: (queries, depth) whole numbers, rows of `index_labels`; -1 of an absent one, which is no hit.

    Returns:
        (queries, depth) bool.

    Raises:
        ValueError: the input is not of this form.
    """
    return _labels_in_common(query_labels, index_labels, neighbours) > 0


def majority_vote(query_labels: Flags, index_labels: Flags, *, neighbours: Whole, k: int) -> Values:
    """Is the label that most of the first k neighbours carry one of the query's: the summand of mMV@k.

    Every neighbour votes once for each of its labels. Of labels with as many votes that one wins whose best neighbour
    is nearer. Labels that are tied still, as one neighbour brought them both, win together, and the value is the part
    of them that the query has: what one drawn by lot would reach in the mean, whatever the order of the labels.
    Without a vote, as all k are absent or without a label, it is 0.

    Beside some numbers a query it takes less than 64 MB, as far as 40 bytes a label make do with it.

    Args:
        query_labels: (queries, labels) bool, at least one label a query.
        index_labels: (images, labels) bool, of the index.
        neighbours: (queries, depth) whole numbers, rows of `index_labels`; -1 of an absent one, which has no vote.
        k: from 1 to the depth.

    Returns:
        (queries,) float64 from 0 to 1; 0 or 1 where no image has two labels.

    Raises:
        ValueError: the input is not of this form.
    """
    _check_labels(query_labels, index_labels, neighbours)
    check_k(k, neighbours, "neighbours")
    values = np.empty(len(query_labels))
    step = max(1, _TALLIED // max(1, query_labels.shape[1]))
    for start in range(0, len(values), step):
        block = slice(start, start + step)
        values[block] = _won(query_labels[block], index_labels, neighbours[block, :k])
    return values


def _won(query_labels: Flags, index_labels: Flags, neighbours: Whole) -> Values:
    """(queries,) the part of the winning labels that the query has, of a block; all neighbours vote."""
    k = neighbours.shape[1]
    votes = np.zeros(query_labels.shape, np.int64)
    nearness = np.zeros(query_labels.shape, np.int64)
    for rank in range(k, 0, -1):
        carried = _of_neighbours(index_labels, neighbours[:, rank - 1])
        votes += carried
        nearness[carried] = k + 1 - rank  # written last by the nearest carrier
    standing = votes * (k + 1) + nearness  # nearness is at most k: it decides between equal votes only
    winners = (standing == standing.max(axis=1, keepdims=True, initial=0)) & (votes > 0)
    return row_counts(winners & query_labels) / np.maximum(row_counts(winners), 1)


def _labels_in_common(query_labels: Flags, index_labels: Flags, neighbours: Whole) -> NDArray[np.int32]:
    """(queries, depth) int32, how many labels query and neighbour share."""
    _check_labels(query_labels, index_labels, neighbours)
    common = np.zeros(neighbours.shape, np.int32)
    # Eight labels at a time: a (queries, depth, labels) array would not fit into memory.
    packed = (np.packbits(labels, axis=1).T.copy() for labels in (query_labels, index_labels))
    for of_query, of_image in zip(*packed, strict=True):
        common += np.bitwise_count(of_query[:, None] & _of_neighbours(of_image, neighbours))
    return common


def _of_neighbours(of_image: NDArray[Any], neighbours: Whole) -> NDArray[Any]:
    """What each neighbour has, taken from the rows of all images; 0 or False of an absent one."""
    taken = of_image[neighbours]
    taken[neighbours == ABSENT] = 0
    return taken


def _check_labels(query_labels: Flags, index_labels: Flags, neighbours: Whole) -> None:
    check_form("query_labels", query_labels, ("queries", "labels"), "b")
    check_form("index_labels", index_labels, ("images", "labels"), "b")
    check_form("neighbours", neighbours, ("queries", "depth"), "i")
    check_lengths(len(query_labels), len(neighbours), "neighbours")
    images, labels = index_labels.shape
    if labels != query_labels.shape[1]:
        raise ValueError(f"queries have {query_labels.shape[1]} labels to choose from and the index has {labels}")
    if not images:
        raise ValueError("the index holds no image")
    if neighbours.min(initial=0) < ABSENT or neighbours.max(initial=ABSENT) >= images:  # without a table of all of them
        beyond = (neighbours < ABSENT) | (neighbours >= images)
        refuse(beyond, f"neighbours are rows of the index, 0 to {images - 1}, or {ABSENT}")
    refuse(row_counts(query_labels) == 0, "it has no label: drop the query, there is nothing to be found")
