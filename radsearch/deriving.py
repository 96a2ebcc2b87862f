"""Give the images of an index the vectors of a derived model, made of those that it stores: no picture is read."""

import numpy as np

from radsearch.errors import IndexMismatchError
from radsearch.index import Index, IndexedImage, open_index
from radsearch.models import ModelSpec, adapted, find_model
from radsearch.models.identity import fingerprint_for
from radsearch.models.weights import find_weights, fingerprint_by_head
from radsearch.settings import Settings
from radsearch.study import Fingerprint, SearchFilter


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
    if spec.base is None:
        raise IndexMismatchError(
            f"{spec.name} is derived from no other model: it needs the pictures (python -m ingest)"
        )
    base = spec.base.name
    index.require_model(base)
    adapted.refuse_other_base(spec, index.card.models[base])
    if spec.head is None or fingerprint_by_head(spec, spec.head, index.card.models[base]) != fingerprint:
        raise IndexMismatchError(f"{base} here is not the one whose vectors the index {index.location} holds")
    head = adapted.load(spec)
    if index.card.secret_check is None:
        raise IndexMismatchError(f"nothing was ingested into the index {index.location} yet")
    index.admit([fingerprint], index.card.secret_check)
    written = 0
    if index.count(SearchFilter(any_of={"models": (base,)}, none_of={"models": (spec.name,)})) == 0:
        return written
    for page in index.pages(vectors_of=[base]):
        lacking = [
            point for point in page if base in point.vectors and spec.name not in point.payload.get("models", ())
        ]
        if not lacking:
            continue
        derived = head.apply(np.stack([point.vectors[base] for point in lacking]))
        now = {point.id: point.payload for point in index.retrieve([point.id for point in lacking])}  # others may write
        index.write(
            [
                IndexedImage(
                    point.id,
                    {spec.name: vector},
                    {**now[point.id], "models": sorted({*now[point.id].get("models", ()), spec.name})},
                    kept=tuple(now[point.id].get("models", ())),
                )
                for point, vector in zip(lacking, derived, strict=True)
                if point.id in now
            ]
        )
        written += len(lacking)
    return written
