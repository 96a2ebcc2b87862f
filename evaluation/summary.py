"""Values of queries summed up: means and spreads over all of them, and over the classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.checks import Flags, Values, check_form, check_lengths, refuse, row_counts


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


def _of_one_class(values: Values) -> ClassSummary:
    return ClassSummary(len(values), float(np.mean(values)), _spread(values))


def _spread(values: Values) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def _check_classes(values: Values, classes: Flags, names: Sequence[str]) -> None:
    check_form("values", values, ("queries",), "f")
    check_form("classes", classes, ("queries", "classes"), "b")
    check_lengths(len(values), len(classes), "classes")
    if not len(values):
        raise ValueError("there is no query to summarise")
    if classes.shape[1] != len(names) or len(set(names)) != len(names):
        raise ValueError(f"of {classes.shape[1]} classes there are {len(names)} names, {len(set(names))} different")
    refuse(~np.isfinite(values), "values are finite", values)
    refuse(row_counts(classes) == 0, "it belongs to no class, and would count in the micro mean only")
