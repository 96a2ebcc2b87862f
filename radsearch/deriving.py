"""Give the images of an index the vectors of a derived model, made of those that it stores: no picture is read."""

from collections.abc import Sequence

import numpy as np

from radsearch.errors import IndexMismatchError
from radsearch.index import Index, IndexedImage, Stored, open_index
from radsearch.models import ModelSpec, adapted, find_model
from radsearch.models.identity import fingerprint_for
from radsearch.models.weights import find_weights, fingerprint_by_head
from radsearch.settings import Settings
from radsearch.study import Fingerprint, SearchFilter, Vectors


def derive_in(settings: Settings, model: str) -> int:
    """As `derive`, in the index of the settings, which is made fast again; gives how many vectors were written.

    Raises:
        RadSearchError: there is no such model, its base has changed since, or the index cannot be written.
    """
    spec = find_model(model, settings.settings_folder)
    fingerprint = fingerprint_for(spec, find_weights(spec, settings.models_folder), settings)
    with open_index(settings, sole_writer=True) as index:
        written = derive(index, spec, fingerprint)
        index.finish()
    return written


def can_derive(index: Index, spec: ModelSpec) -> bool:
    """Whether the index holds vectors that the model derives its own from."""
    return spec.base is not None and spec.base.name in index.card.models


def derive(index: Index, spec: ModelSpec, fingerprint: Fingerprint) -> int:
    """Write a vector of a derived model wherever there is one of its base; gives how many were written.

    What is there already stays. Cut off, it is finished by calling it again.

    Args:
        index: opened to write.
        spec: the derived model's row.
        fingerprint: its own, as it is here.

    Raises:
        IndexMismatchError: the model is none that was derived, or the index holds it with another fingerprint.
        UnknownNameError: the index holds no vectors of its base.
        ModelUnavailableError: it was learned on other vectors than the index holds.
    """
    base = _base_of(index, spec, fingerprint)
    head = adapted.load(spec)
    index.admit([fingerprint], index.card.secret_check or "")  # `_base_of` has seen that there is one
    written = 0
    if index.count(SearchFilter(any_of={"models": (base,)}, none_of={"models": (spec.name,)})) == 0:
        return written
    for page in index.pages(vectors_of=[base]):
        lacking = [one for one in page if base in one.vectors and spec.name not in one.payload.get("models", ())]
        if lacking:
            written += _write(index, spec.name, lacking, head.apply(np.stack([one.vectors[base] for one in lacking])))
    return written


def _base_of(index: Index, spec: ModelSpec, fingerprint: Fingerprint) -> str:
    """The model whose stored vectors are turned into this one's; raises as `derive`."""
    if spec.base is None or spec.head is None:
        raise IndexMismatchError(
            f"{spec.name} is derived from no other model: it needs the pictures (python -m ingest)"
        )
    base = spec.base.name
    index.require_model(base)
    held = index.card.models[base]
    adapted.refuse_other_base(spec, held)
    if fingerprint_by_head(spec, spec.head, held) != fingerprint:
        raise IndexMismatchError(f"{base} here is not the one whose vectors the index {index.location} holds")
    if index.card.secret_check is None:
        raise IndexMismatchError(f"nothing was ingested into the index {index.location} yet")
    return base


def _write(index: Index, model: str, points: Sequence[Stored], vectors: Vectors) -> int:
    """Add a vector to points, with their payloads as they are now: others may write, too. Gives how many there are."""
    now = {one.id: one.payload for one in index.retrieve([one.id for one in points])}
    images = []
    for one, vector in zip(points, vectors, strict=True):
        if one.id in now:
            held = tuple(now[one.id].get("models", ()))
            payload = {**now[one.id], "models": sorted({*held, model})}
            images.append(IndexedImage(one.id, {model: vector}, payload, kept=held))
    index.write(images)
    return len(images)
