"""Foundation models behind one interface: a table of rows, one loader file a library, one base for all."""

from pathlib import Path

from radsearch.errors import UnknownNameError
from radsearch.models import adapted
from radsearch.models.spec import ModelSpec, Preprocessing
from radsearch.models.table import built_in_models, models_of
from radsearch.models.weights import fingerprint_of, weights_are_here

__all__ = [
    "ModelSpec",
    "Preprocessing",
    "built_in_models",
    "find_model",
    "fingerprint_of",
    "models_of",
    "weights_are_here",
]


def find_model(name: str, settings_folder: Path | None = None) -> ModelSpec:
    """The row of that name, ours or the user's own.

    Raises:
        UnknownNameError: there is none; the message lists all and suggests the nearest.
        SettingsError: the user's own table has a fault, or the model is a derived one that is damaged.
    """
    rows = models_of(settings_folder)
    if name not in rows and settings_folder is not None:
        adapted.refuse_damaged(settings_folder.expanduser(), name, rows)
    if name not in rows:
        raise UnknownNameError("model", name, rows)
    return rows[name]
