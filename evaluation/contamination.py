"""Which of the data sets under evaluation a model has seen in training: its figures on them are too good."""

from collections.abc import Sequence
from pathlib import Path

from evaluation.collection import Collection
from radsearch.errors import RadSearchError
from radsearch.models import find_model

# The names that our readers and manifests give, and those that the table of models uses.
_NAMES = {
    "nih14": "NIH ChestX-ray14",
    "chexpert": "CheXpert",
    "mimic-cxr-jpg": "MIMIC-CXR",
    "radimagenet": "RadImageNet",
}


def seen_in_training(collection: Collection, rows: Sequence[int], settings_folder: Path) -> list[str] | None:
    """Names of data sets of these images that the model's row lists as its training data.

    Args:
        collection: the images.
        rows: those that are evaluated.
        settings_folder: where a table of the user's own models may be.

    Returns:
        None where no table knows the model, as for embeddings that were published.
    """
    try:
        trained_on = find_model(str(collection.model.get("model")), settings_folder).trained_on
    except RadSearchError:
        return None
    held = {collection.images[row].facts.get("dataset", "") for row in rows}
    return sorted(name for name in held if name and (name in trained_on or _NAMES.get(name.lower()) in trained_on))
