"""Learn a head from labelled vectors and keep it as a model of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evaluation.adapting.choosing import Chosen, choose
from evaluation.adapting.discriminants import fit, labelled
from evaluation.adapting.folds import whole_patients
from evaluation.checks import Rows
from evaluation.collection import Collection
from evaluation.protocols import Level, Trial, leave_patient_out
from evaluation.settings import SearchSettings
from radsearch.errors import EmbeddingError, SettingsError
from radsearch.models import ModelSpec
from radsearch.models.adapted import check_out, load, refuse_other_base, save
from radsearch.models.heads import Head
from radsearch.study import Fingerprint

TARGETS: Mapping[str, Level] = {"pathology": "label", "region": "region", "modality": "modality"}
MOST_IMAGES = 20_000  # that a head is fitted on: whole patients by chance, where there are more
_DIGITS = 4


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """A head, and what is to be said of it.

    chosen: by cross-validation. said: in JSON. patients: pseudonyms of those whose images it learned from.
    """

    head: Head
    chosen: Chosen
    said: Mapping[str, Any]
    patients: frozenset[str]


def learn(collection: Collection, target: str, parts: Sequence[int], settings: SearchSettings) -> Learned:
    """Learn from all labelled images of a collection.

    Args:
        collection: images with the vectors of the frozen model.
        target: what images are to be found by: `pathology` (whole label paths), `region` or `modality`.
        parts: lengths of the vectors' blocks.
        settings: device and memory of the searches.

    Raises:
        NothingToSearchError: there are too few labels, or patients, to learn from.
        EmbeddingError: the vectors have another length than the blocks.
    """
    if sum(parts) != collection.vectors.shape[1]:
        raise EmbeddingError(
            f"the vectors of {collection.source} have {collection.vectors.shape[1]} numbers, not the {sum(parts)} of "
            "the model's row"
        )
    trial = trial_of(collection, target)
    chosen = choose(collection, trial, trial.index, parts, settings)
    head = head_of(collection, trial, trial.index, parts, chosen)
    images = [collection.images[row] for row in trial.index.tolist()]
    patients = frozenset(image.patient for image in images)
    said = {
        "target": target,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "images": len(images),
        "patients": len(patients),
        "labels": sorted({name for row in trial.index.tolist() for name in trial.labels["label"][row]}),
        "datasets": sorted({image.facts.get("dataset", "") for image in images} - {""}),
        "parameters": asdict(chosen.parameters),
        "fits": chosen.fits,
        "cross_validation": {"frozen": _rounded(chosen.frozen), "adapted": _rounded(chosen.answers.answerable.figures)},
    }
    return Learned(head, chosen, said, patients)


def trial_of(collection: Collection, target: str) -> Trial:
    """All labelled images, each of whom is a query; `labels["label"]` is what counts for the target.

    Raises:
        NothingToSearchError: there are none, or only one patient's.
        SettingsError: there is no such target.
    """
    if target not in TARGETS:
        raise SettingsError(f"the target is one of {', '.join(TARGETS)}, not {target!r}")
    trial = leave_patient_out(collection)
    return replace(trial, labels={**trial.labels, "label": trial.labels[TARGETS[target]]})


def head_of(collection: Collection, trial: Trial, rows: Rows, parts: Sequence[int], chosen: Chosen) -> Head:
    """The head that learns from these rows, or as many as fit, with the parameters that were chosen."""
    patients = [image.patient for image in collection.images]
    rows = whole_patients(patients, rows, MOST_IMAGES)
    learned = labelled(trial.labels["label"], patients, rows.tolist())
    return fit(collection.vectors, tuple(parts), learned, chosen.parameters)


def derived(collection: Collection, on: Fingerprint, spec: ModelSpec) -> Collection:
    """The same images with a derived model's vectors.

    Args:
        collection: images with the vectors of its base.
        on: the fingerprint of those.
        spec: the derived model's row.

    Raises:
        ModelUnavailableError: it was learned on other vectors.
    """
    refuse_other_base(spec, on)
    model = {**collection.model, "model": spec.name, "dimension": spec.dimension}
    return replace(collection, vectors=load(spec).apply(collection.vectors), model=model)


def keep(  # noqa: PLR0913, PLR0917 -- what was learned, on what, and by whose pseudonyms
    settings_folder: Path, base: ModelSpec, out: str, learned: Learned, on: Fingerprint, secret_check: str | None
) -> str:
    """Keep it below the settings folder; gives its name.

    Raises:
        SettingsError: no name can be made of `out`, or the folder cannot be written.
    """
    said = {**learned.said, "secret_check": secret_check}
    return save(settings_folder, base, out, learned.head, on=on, said=said, patients=learned.patients)


def require_base(spec: ModelSpec, out: str) -> None:
    """Refuse what could not be kept, before anything is learned.

    Raises:
        SettingsError: the model was learned itself, or no name can be made of `out`.
    """
    if spec.base is not None:
        raise SettingsError(f"{spec.name} was learned itself; adapt {spec.base.name} again instead")
    check_out(out)


def _rounded(figures: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, _DIGITS) for name, value in figures.items()}
