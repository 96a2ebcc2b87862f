"""The studies: what else can be asked of a collection and a trial, by name. Listing them imports no heavy library."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from evaluation.collection import Collection
from evaluation.protocols import Trial
from evaluation.settings import SearchSettings


def _index_size(collection: Collection, trial: Trial, settings: SearchSettings) -> dict[str, Any]:
    from evaluation.studies.index_size import study_index_size

    return asdict(study_index_size(collection, trial, settings))


def _dimension(collection: Collection, trial: Trial, settings: SearchSettings) -> dict[str, Any]:
    from evaluation.studies.dimension import study_dimension

    return asdict(study_dimension(collection, trial, settings))


def _space(collection: Collection, trial: Trial, settings: SearchSettings) -> dict[str, Any]:
    from evaluation.studies.space import study_space

    return asdict(study_space(collection, trial, settings))


def _knn(collection: Collection, trial: Trial, settings: SearchSettings) -> dict[str, Any]:
    from evaluation.studies.knn import study_knn

    return asdict(study_knn(collection, trial, settings))


def _linear(collection: Collection, trial: Trial, settings: SearchSettings) -> dict[str, Any]:
    from evaluation.studies.linear import study_linear

    return asdict(study_linear(collection, trial, settings))


def _confounds(collection: Collection, trial: Trial, settings: SearchSettings) -> dict[str, Any]:
    from evaluation.studies.confounds import study_confounds

    return asdict(study_confounds(collection, trial, settings))


def _relink(collection: Collection, _trial: Trial, settings: SearchSettings) -> dict[str, Any]:
    from evaluation.studies.relink import study_relink

    return asdict(study_relink(collection, settings))


STUDIES: Mapping[str, Callable[[Collection, Trial, SearchSettings], dict[str, Any]]] = {
    "index-size": _index_size,
    "dimension": _dimension,
    "space": _space,
    "knn": _knn,
    "linear": _linear,
    "confounds": _confounds,
    "relink": _relink,
}
