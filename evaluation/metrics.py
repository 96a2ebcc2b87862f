"""Figures of merit of ranked neighbours: one value a query.

A ranking is taken as it is handed in, the best neighbour first. The search that made it puts neighbours of equal score
in the order of their position in the index; nothing here sees a score or breaks a tie of scores. An image comes at most
once in a query's ranking.

All rankings of a call have one depth. A query that has fewer neighbours, because little is left of a small index, is
filled up with absent ones: no hit (False), no gain (0). An absent neighbour counts as a miss and no divisor shrinks for
it, so a short ranking never looks better than a long one. For the same reason a `k` beyond the depth is an error.
`available` counts the images that the query was allowed to find, after the same exclusions as the ranking.

What contradicts itself is refused with a ValueError, and so is a query for which there is nothing to be found: it is
dropped, and counted, before it comes here. No function returns NaN, and no value is outside 0 to 1.
"""

import numpy as np

from evaluation.checks import Flags, Gains, Values, Whole, check_form, check_k, check_lengths, refuse, row_counts

_ROUNDING = 1e-6  # of gains that were worked out in float32 along two ways


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
    return row_counts(hits[:, :k]) / k


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
    refuse(available > depth, f"R is beyond the depth of the ranking, {depth}: search deeper", available)
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
    check_lengths(len(gains), len(ideal), "ideal gains")
    refuse(np.diff(ideal, axis=1) > 0, "the ideal gains rise: they are to be sorted, the best first")
    reached, best = _discounted(gains[:, :k]), _discounted(ideal[:, :k])
    refuse(best == 0, "the ideal gain is 0: drop the query, there is nothing to be found")
    ratio = reached / best
    refuse(~(ratio <= 1 + _ROUNDING), "the neighbours gain more than the ideal", ratio)  # so is NaN, of an overflow
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


def _hits_within(hits: Flags, counted: Whole) -> Whole:
    """(queries,) hits among the first `counted` neighbours of each query."""
    inside = np.arange(hits.shape[1]) < counted[:, None]
    return row_counts(hits & inside)


def _discounted(gains: Gains) -> Values:
    """(queries,) float64, the gains summed with their discount."""
    summed: Values = (gains / np.log2(np.arange(2, gains.shape[1] + 2))).sum(axis=1)
    return summed


def _check_hits(hits: Flags, k: int = 1) -> None:
    check_form("hits", hits, ("queries", "depth"), "b")
    check_k(k, hits, "hits")


def _check_available(available: Whole, hits: Flags) -> None:
    check_form("available", available, ("queries",), "i")
    check_lengths(len(hits), len(available), "available")
    refuse(available < 1, "no image is available: drop the query, there is nothing to be found", available)
    found = row_counts(hits)
    refuse(found > available, "it has more hits than there are images available", found)


def _check_gains(name: str, gains: Gains, k: int) -> None:
    check_form(name, gains, ("queries", "depth"), "f")
    check_k(k, gains, name)
    refuse(~np.isfinite(gains) | (gains < 0), f"{name} are finite and at least 0")
