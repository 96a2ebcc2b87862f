"""Figures of merit of ranked neighbours: one value a query, and their summary over queries and classes.

A ranking is taken as it is handed in, the best neighbour first. The search that made it puts neighbours of equal score
in the order of their position in the index; nothing here sees a score or breaks a tie of scores. An image comes at most
once in a query's ranking.

All rankings of a call have one depth. A query that has fewer neighbours, because little is left of a small index, is
filled up with absent ones: no hit (False), no gain (0), index -1. An absent neighbour counts as a miss and no divisor
shrinks for it, so a short ranking never looks better than a long one. For the same reason a `k` beyond the depth is an
error. `available` counts the images that the query was allowed to find, after the same exclusions as the ranking.

What contradicts itself is refused with a ValueError, and so is a query for which there is nothing to be found: it is
dropped, and counted, before it comes here. No function returns NaN, and no value is outside 0 to 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Flags: TypeAlias = NDArray[np.bool_]
Whole: TypeAlias = NDArray[np.signedinteger[Any]]
Gains: TypeAlias = NDArray[np.floating[Any]]
Values: TypeAlias = NDArray[np.float64]

ABSENT = -1  # the index of a neighbour that is not there
_ROUNDING = 1e-6  # of gains that were worked out in float32 along two ways
_KINDS = {"b": "bool", "i": "signed whole numbers", "f": "floating-point numbers"}  # by numpy's dtype.kind


@dataclass(frozen=True, slots=True)
class ClassSummary:
    """The queries of one class.

    queries: how many there are. mean: of their values. sd: sample standard deviation (ddof 1), None of one query.
    """

    queries: int
    mean: float
    sd: float | None


@dataclass(frozen=True, slots=True)
class Summary:
    """The queries of all classes.

    micro: mean over the queries. micro_sd: their sample standard deviation (ddof 1), None of one query.
    macro: mean over the classes of the class mean, each class with the same weight. macro_sd: mean of the classes' own
        standard deviations; a class of one query has none and is left out of it; None where no class has one.
    per_class: by name, in the order of the names; classes without a query are not in it and count for nothing.

    Source: Denner et al., arXiv 2403.06567 (macro_sd is the spread inside of the classes, not between them).
    """

    micro: float
    micro_sd: float | None
    macro: float
    macro_sd: float | None
    per_class: Mapping[str, ClassSummary]


def capped_precision(hits: Flags, available: Whole, *, k: int) -> Values:
    """Hits among the first n neighbours / n, with n = min(k, available).

    A query whose class has fewer than `k` images in the index can reach 1, and its neighbours behind n do not count.

    Args:
        hits: (queries, depth) bool, whether the neighbour is of the query's class.
        available: (queries,) whole numbers >= 1, images in the index that could be a hit.
        k: from 1 to the depth.

    Returns:
        (queries,) float64 from 0 to 1.

    Raises:
        ValueError: the input is not of this form, or a query has more hits than are available.

    Source: Denner et al., arXiv 2403.06567.
    """
    _check_hits(hits, k)
    _check_available(available, hits)
    counted = np.minimum(available, k)
    return _hits_within(hits[:, :k], counted) / counted


def precision(hits: Flags, k: int) -> Values:
    """Hits among the first k neighbours / k, however few could be found: P@k as trec_eval has it.

    Args:
        hits: (queries, depth) bool.
        k: from 1 to the depth.

    Returns:
        (queries,) float64 from 0 to 1.

    Raises:
        ValueError: the input is not of this form.
    """
    _check_hits(hits, k)
    return _counted(hits[:, :k]) / k


def r_precision(hits: Flags, available: Whole) -> Values:
    """Hits among the first R neighbours / R, with R = available: Rprec of trec_eval.

    Args:
        hits: (queries, depth) bool.
        available: (queries,) whole numbers from 1 to the depth.

    Returns:
        (queries,) float64 from 0 to 1.

    Raises:
        ValueError: the input is not of this form, a query has more hits than are available, or its R is beyond the
            depth, where it cannot be known.
    """
    _check_hits(hits)
    _check_available(available, hits)
    depth = hits.shape[1]
    _refuse(available > depth, f"R is beyond the depth of the ranking, {depth}: search deeper", available)
    return _hits_within(hits, available) / available


def average_precision(hits: Flags, available: Whole, *, k: int) -> Values:
    """The precision at each hit among the first k, summed, / min(k, available): the summand of mAP@k.

    A perfect ranking reaches 1 at every k. trec_eval's map_cut divides by `available` instead, so that a query with
    more than k images to be found cannot reach 1; up to k of them the two are equal.

    Args:
        hits: (queries, depth) bool.
        available: (queries,) whole numbers >= 1, images in the index that could be a hit.
        k: from 1 to the depth.

    Returns:
        (queries,) float64 from 0 to 1.

    Raises:
        ValueError: the input is not of this form, or a query has more hits than are available.
    """
    _check_hits(hits, k)
    _check_available(available, hits)
    first = hits[:, :k]
    precisions = np.cumsum(first, axis=1) / np.arange(1, k + 1)
    summed: Values = np.where(first, precisions, 0.0).sum(axis=1)
    return summed / np.minimum(available, k)


def ndcg(gains: Gains, ideal: Gains, *, k: int) -> Values:
    """Discounted gain of the first k neighbours / that of the best k images there are: nDCG@k.

    The gain is linear, as it is handed in, and divided by log2(rank + 1), with ranks from 1: ndcg_cut of trec_eval.

    Args:
        gains: (queries, depth) float >= 0, of the neighbours; 0 of an absent one.
        ideal: (queries, at least k) float >= 0, the best gains that the index holds for the query, never rising from
            left to right; 0 where there are no more.
        k: from 1 to the depth.

    Returns:
        (queries,) float64 from 0 to 1.

    Raises:
        ValueError: the input is not of this form, a query has nothing to be found (its ideal is 0), or its neighbours
            gain more than its ideal, which then is not the ideal.

    Source: Järvelin and Kekäläinen, Cumulated gain-based evaluation, ACM TOIS 20(4), 2002, with trec_eval's discount.
    """
    for name, each in (("gains", gains), ("ideal", ideal)):
        _check_gains(name, each, k)
    _check_lengths(len(gains), len(ideal), "ideal gains")
    _refuse(np.diff(ideal, axis=1) > 0, "the ideal gains rise: they are to be sorted, the best first")
    reached, best = _discounted(gains[:, :k]), _discounted(ideal[:, :k])
    _refuse(best == 0, "the ideal gain is 0: drop the query, there is nothing to be found")
    ratio = reached / best
    _refuse(~(ratio <= 1 + _ROUNDING), "the neighbours gain more than the ideal", ratio)  # so is NaN, of an overflow
    return np.minimum(ratio, 1.0)


def reciprocal_rank(hits: Flags) -> Values:
    """1 / rank of the first hit, 0 where there is none within the depth.

    Args:
        hits: (queries, depth) bool.

    Returns:
        (queries,) float64 from 0 to 1.

    Raises:
        ValueError: the input is not of this form.
    """
    _check_hits(hits)
    return np.where(hits.any(axis=1), 1.0 / (hits.argmax(axis=1) + 1), 0.0)


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
    of_query, of_image = (_counted(labels).astype(np.int32) for labels in (query_labels, index_labels))
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
    _check_k(k, neighbours, "neighbours")
    votes = np.zeros(query_labels.shape, np.int64)
    nearness = np.zeros(query_labels.shape, np.int64)
    for rank in range(k, 0, -1):
        carried = _of_neighbours(index_labels, neighbours[:, rank - 1])
        votes += carried
        nearness[carried] = k + 1 - rank  # written last by the nearest carrier
    standing = votes * (k + 1) + nearness  # nearness is at most k: it decides between equal votes only
    winners = (standing == standing.max(axis=1, keepdims=True, initial=0)) & (votes > 0)
    return _counted(winners & query_labels) / np.maximum(_counted(winners), 1)


def summarise(values: Values, classes: Flags, *, names: Sequence[str]) -> Summary:
    """Means and standard deviations over all queries and over the classes.

    Args:
        values: (queries,) finite numbers, one a query.
        classes: (queries, classes) bool, to which classes a query belongs; to one at least. A query of several counts
            once in the micro mean and once in each of its classes.
        names: of the classes, all different.

    Raises:
        ValueError: the input is not of this form, or there is no query.
    """
    values = np.asarray(values, np.float64)  # the mean of float32 would be summed in float32
    _check_classes(values, classes, names)
    per_class = {
        name: _of_one_class(values[members]) for name, members in zip(names, classes.T, strict=True) if members.any()
    }
    spreads = [one.sd for one in per_class.values() if one.sd is not None]
    return Summary(
        micro=float(np.mean(values)),
        micro_sd=_spread(values),
        macro=float(np.mean([one.mean for one in per_class.values()])),
        macro_sd=float(np.mean(spreads)) if spreads else None,
        per_class=per_class,
    )


def _hits_within(hits: Flags, counted: Whole) -> Whole:
    """(queries,) hits among the first `counted` neighbours of each query."""
    inside = np.arange(hits.shape[1]) < counted[:, None]
    return _counted(hits & inside)


def _counted(flags: Flags) -> NDArray[np.int64]:
    """(rows,) how many of each row are True."""
    counts: NDArray[np.int64] = np.count_nonzero(flags, axis=1)
    return counts


def _discounted(gains: Gains) -> Values:
    """(queries,) float64, the gains summed with their discount."""
    summed: Values = (gains / np.log2(np.arange(2, gains.shape[1] + 2))).sum(axis=1)
    return summed


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


def _of_one_class(values: Values) -> ClassSummary:
    return ClassSummary(len(values), float(np.mean(values)), _spread(values))


def _spread(values: Values) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def _check_form(name: str, table: NDArray[Any], axes: tuple[str, ...], kind: str) -> None:
    if table.ndim != len(axes) or table.dtype.kind != kind:
        form = f"({', '.join(axes)}) of {_KINDS[kind]}"
        raise ValueError(f"{name} are to be {form}, and are {table.shape} of {table.dtype}")


def _check_k(k: int, ranking: NDArray[Any], name: str) -> None:
    if k < 1:
        raise ValueError(f"k is at least 1, not {k}")
    if k > ranking.shape[1]:
        raise ValueError(f"k is {k} and {name} go to {ranking.shape[1]}: search deeper, or fill up with absent ones")


def _check_hits(hits: Flags, k: int = 1) -> None:
    _check_form("hits", hits, ("queries", "depth"), "b")
    _check_k(k, hits, "hits")


def _check_available(available: Whole, hits: Flags) -> None:
    _check_form("available", available, ("queries",), "i")
    _check_lengths(len(hits), len(available), "available")
    _refuse(available < 1, "no image is available: drop the query, there is nothing to be found", available)
    found = _counted(hits)
    _refuse(found > available, "it has more hits than there are images available", found)


def _check_gains(name: str, gains: Gains, k: int) -> None:
    _check_form(name, gains, ("queries", "depth"), "f")
    _check_k(k, gains, name)
    _refuse(~np.isfinite(gains) | (gains < 0), f"{name} are finite and at least 0")


def _check_labels(query_labels: Flags, index_labels: Flags, neighbours: Whole) -> None:
    _check_form("query_labels", query_labels, ("queries", "labels"), "b")
    _check_form("index_labels", index_labels, ("images", "labels"), "b")
    _check_form("neighbours", neighbours, ("queries", "depth"), "i")
    _check_lengths(len(query_labels), len(neighbours), "neighbours")
    images, labels = index_labels.shape
    if labels != query_labels.shape[1]:
        raise ValueError(f"queries have {query_labels.shape[1]} labels to choose from and the index has {labels}")
    if not images:
        raise ValueError("the index holds no image")
    beyond = (neighbours < ABSENT) | (neighbours >= images)
    _refuse(beyond, f"neighbours are rows of the index, 0 to {images - 1}, or {ABSENT}")
    _refuse(_counted(query_labels) == 0, "it has no label: drop the query, there is nothing to be found")


def _check_classes(values: Values, classes: Flags, names: Sequence[str]) -> None:
    _check_form("values", values, ("queries",), "f")
    _check_form("classes", classes, ("queries", "classes"), "b")
    _check_lengths(len(values), len(classes), "classes")
    if not len(values):
        raise ValueError("there is no query to summarise")
    if classes.shape[1] != len(names) or len(set(names)) != len(names):
        raise ValueError(f"of {classes.shape[1]} classes there are {len(names)} names, {len(set(names))} different")
    _refuse(~np.isfinite(values), "values are finite", values)
    _refuse(_counted(classes) == 0, "it belongs to no class, and would count in the micro mean only")


def _check_lengths(queries: int, length: int, name: str) -> None:
    if length != queries:
        raise ValueError(f"there are {queries} queries, and {name} are of {length}")


def _refuse(wrong: Flags, why: str, found: NDArray[Any] | None = None) -> None:
    """ValueError where any element of (queries,) or (queries, columns) is wrong, with the place of the first query."""
    places = np.argwhere(wrong)
    if len(places):
        place = int(places[0, 0])
        value = "" if found is None else f" ({found[place]})"
        raise ValueError(f"query {place} of {len(wrong)}{value}: {why}")
