"""Which of the data sets under evaluation a model has seen in training: its figures on them are too good."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from evaluation.collection import Collection
from evaluation.protocols import Trial
from radsearch.errors import NobodyNewError, RadSearchError, SettingsError, UnknownNameError
from radsearch.models import find_model
from radsearch.models.adapted import ADAPTED, described, patients_of
from radsearch.models.weights import HEAD

# Names of one data set, lower case and without signs: of our readers, of manifests, and of the table of models.
_NIH = {"nih", "nih14", "nihcxr", "nihcxr14", "nihchestxray", "nihchestxray14"}
_SAME = (
    frozenset({*_NIH, "chestxray8", "chestxray14", "chestmnist"}),
    frozenset({"chexpert", "chexpertsmall", "chexpertplus"}),
    frozenset({"mimic", "mimiccxr", "mimiccxrjpg"}),
    frozenset({"radimagenet", "radimagenetsplit", "radiologyai"}),
    frozenset({"padchest", "bimcvpadchest"}),
)
_ITS_VERSION = re.compile(r"[-_ ]?v?\d+(\.\d+)+|_(28|64|128|224)$")  # a number with points; sizes of MedMNIST+
_KNOWN = "the model was learned from their patients"
_INCOMPLETE = "and others"  # in a model's row


@dataclass(frozen=True, slots=True)
class Training:
    """What is known of a model's training and the images of an evaluation.

    seen: data sets of these images that it was trained on, sorted; None where nothing is known of its training.
    unknown: images of which it is not known: they state no data set, or the model's row does not list all of its own.
    """

    seen: Sequence[str] | None = None
    unknown: int = 0


def seen_in_training(collection: Collection, rows: Sequence[int], settings_folder: Path) -> Training:
    """What of these images the model's row in the table of models lists as its training data.

    Args:
        collection: the images.
        rows: those that are evaluated.
        settings_folder: where a table of the user's own models may be.
    """
    try:
        trained_on = find_model(str(collection.model.get("model")), settings_folder).trained_on
    except RadSearchError:
        trained_on = ()  # of published embeddings no table need know
    if not trained_on:
        return Training(None, len(rows))
    own = frozenset().union(*(_names_of(name) for name in trained_on))
    held = Counter(collection.images[row].facts.get("dataset", "") for row in rows)
    seen = sorted(name for name in held if _names_of(name) & own)
    others = {name: number for name, number in held.items() if name not in seen}
    return Training(seen, sum(others.values()) if _INCOMPLETE in trained_on else others.get("", 0))


def without_known(trial: Trial, collection: Collection, settings_folder: Path) -> Trial:
    """The trial without queries of patients whose labels the model was learned from; their images can be found still.

    Args:
        trial: what a protocol makes of the collection.
        collection: the images.
        settings_folder: where models that were learned are kept.

    Raises:
        NobodyNewError: nobody else is left.
        SettingsError: it is not known here whom the model knows.
    """
    name = str(collection.model.get("model"))
    try:
        spec = find_model(name, settings_folder)
    except UnknownNameError:
        if HEAD in str(collection.model.get("preprocessing", "")):
            raise SettingsError(
                f"{name} was learned from labels, and from whose is not known here: bring its folder below "
                f"{settings_folder / ADAPTED}"
            ) from None
        return trial  # of published embeddings no table need know
    if spec.head is None:
        return trial
    known = patients_of(spec.head)
    strange = np.array([collection.images[row].patient not in known for row in trial.queries.tolist()], bool)
    if strange.all():
        return trial
    if not strange.any():
        raise NobodyNewError(
            f"{name} was learned from all patients that ask here: figures on them would say nothing of new ones"
        )
    return replace(trial, queries=trial.queries[strange], dropped={**trial.dropped, _KNOWN: int((~strange).sum())})


def require_same_secret(model: str, secret_check: str | None, settings_folder: Path) -> None:
    """Refuse to tell a learned model's patients from others by pseudonyms that another secret has made.

    Args:
        model: whose images are looked at.
        secret_check: of the pseudonyms of these.
        settings_folder: where models that were learned are kept.

    Raises:
        SettingsError: the model was learned from an index of another secret.
    """
    try:
        head = find_model(model, settings_folder).head
    except UnknownNameError:
        return
    if head is not None and described(head).get("secret_check") != secret_check:
        raise SettingsError(
            f"{model} was learned from patients whose pseudonyms another secret has made: nobody can tell whether they "
            "are here again"
        )


def _names_of(dataset: str) -> frozenset[str]:
    plain = re.sub(r"[\W_]", "", _ITS_VERSION.sub("", dataset.lower()))
    return next((names for names in _SAME if plain in names), frozenset({plain} - {""}))
