"""Foundation models behind one interface: a table of rows, one loader file a library, one base for all."""

from radsearch.errors import UnknownNameError
from radsearch.models.table import MODELS, ModelSpec
from radsearch.models.weights import fingerprint_of, weights_are_here

__all__ = ["MODELS", "ModelSpec", "find_model", "fingerprint_of", "weights_are_here"]


def find_model(name: str) -> ModelSpec:
    """The table's row of that name.

    Raises:
        UnknownNameError: there is none; the message lists all and suggests the nearest.
    """
    if name not in MODELS:
        raise UnknownNameError("model", name, MODELS)
    return MODELS[name]
